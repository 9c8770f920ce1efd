//! What batch norms remember of a training.
use burn::tensor::Tensor;

use super::parameter::{Buffer, host};
use super::unet::EPSILON;

/// Share of the new value in a batch norm's running statistics.
const MOMENTUM: f64 = 0.1;

/// Batch statistics of the micro-batches of one step: per norm layer the sums of mean and unbiased variance.
#[derive(Clone, Debug, Default)]
pub struct BatchStatistics {
    sums: Vec<Vec<f64>>,
    micro_batches: usize,
}

impl BatchStatistics {
    /// Adds one layer's mean and unbiased variance; `count` values share each.
    pub(super) fn add(&mut self, layer: usize, statistics: &Tensor<2>, count: usize) {
        let [_, channels] = statistics.dims();
        let values = host(&statistics.clone().reshape([2 * channels]));
        if self.sums.len() <= layer {
            self.sums.resize(layer + 1, Vec::new());
        }
        self.sums[layer].resize(2 * channels, 0.0);
        let unbiased = count as f64 / (count.max(2) - 1) as f64;
        for (at, sum) in self.sums[layer].iter_mut().enumerate() {
            let value = f64::from(values[at]);
            *sum += if at < channels { value } else { (1.0 / (value * value) - f64::from(EPSILON)) * unbiased };
        }
    }

    /// Closes a micro-batch, of which every layer has been added.
    pub fn count_micro_batch(&mut self) {
        self.micro_batches += 1;
    }

    /// Of each norm layer the sums, one after another; empty where no batch norm was met.
    pub fn flat(&self) -> Vec<f64> {
        self.sums.concat()
    }

    /// Adds those of a micro-batch that another process computed, as [`Self::flat`] gives them, for layers of `buffers`.
    pub(super) fn absorb(&mut self, flat: &[f64], buffers: &[Buffer]) {
        let mut flat = flat;
        self.sums.resize(buffers.len() / 2, Vec::new());
        for (sums, pair) in self.sums.iter_mut().zip(buffers.chunks_exact(2)) {
            let length = pair.iter().map(|buffer| buffer.values.len()).sum::<usize>();
            let (layer, rest) = flat.split_at(length.min(flat.len()));
            sums.resize(length, 0.0);
            sums.iter_mut().zip(layer).for_each(|(sum, value)| *sum += value);
            flat = rest;
        }
        self.micro_batches += 1;
    }

    /// Moves the running statistics by the mean over the step's micro-batches: one update a step.
    pub(super) fn remember(&self, buffers: &mut [Buffer]) {
        for (sums, pair) in self.sums.iter().zip(buffers.chunks_exact_mut(2)) {
            for (half, buffer) in pair.iter_mut().enumerate() {
                let sums = sums.iter().skip(half * buffer.values.len());
                for (value, sum) in buffer.values.iter_mut().zip(sums) {
                    let new = sum / self.micro_batches.max(1) as f64;
                    *value = (f64::from(*value) * (1.0 - MOMENTUM) + MOMENTUM * new) as f32;
                }
            }
        }
    }
}
