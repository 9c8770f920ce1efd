//! Sums over a channel's voxels in a fixed order.
use rayon::prelude::*;

use super::element::Element;

/// Voxels summed in f32 before they are added in f64.
const BLOCK: usize = 4096;

/// Adds to `sums[channel]` the sum of every sample's voxels, one sample after another; `values` is
/// `[batch, channels, voxels]`.
pub fn add_channel_sums<E: Element>(batch: usize, channels: usize, values: &[E], sums: &mut [f32]) {
    let voxels = values.len() / (batch * channels).max(1);
    sums.par_iter_mut().enumerate().for_each_init(
        || vec![0.0f32; BLOCK],
        |buffer, (channel, sum)| {
            for sample in 0..batch {
                let values = &values[(sample * channels + channel) * voxels..][..voxels];
                *sum += sum_voxels(values, buffer) as f32;
            }
        },
    );
}

fn sum_voxels<E: Element>(values: &[E], buffer: &mut [f32]) -> f64 {
    let mut total = 0.0f64;
    for block in values.chunks(BLOCK) {
        let wide = &mut buffer[..block.len()];
        E::widen(block, wide);
        let mut lanes = [0.0f32; 16];
        let (whole, rest) = wide.as_chunks::<16>();
        for chunk in whole {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value;
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += value;
        }
        total += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    total
}
