//! The gradient of one effective batch, in micro-batches of any size.
//!
//! The loss of a step is that of its N samples taken together: cross-entropy is the mean over all their labelled voxels,
//! Dice the mean over all their (sample, class) pairs. Both are sums over samples once the divisors are known, and the
//! divisors come from the labels alone; so each micro-batch adds its share of the gradient, and the sum is that of the
//! whole, with nothing to weight afterwards and no matter whether the micro-batch divides N. Where there is one Dice over
//! the whole effective batch, its sums come from a forward pass of their own (`totals.rs`).
//!
//! Where several ranks share the samples, each does this with its own, and the sums are then made of all.
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, FloatDType, Tensor};

use super::blocks;
use super::inputs::{Inputs, Place};
use super::optimizer::global_norm;
use super::totals::Totals;
use crate::config::Recompute;
use crate::network::plan::Norm;
use crate::network::{BatchStatistics, Mode, UNet, head_weights};
use crate::ops::tree::Stretch;
use crate::ops::{self, LossSpec};
use crate::patch::Sample;
use crate::ranks::exchange::Exchange;
use crate::ranks::{self, Ranks};

/// What a step needs to know beside the samples.
#[derive(Clone, Debug)]
pub struct StepSettings {
    /// Samples per step.
    pub effective: usize,
    /// Samples in memory at once.
    pub micro: usize,
    /// What is computed again in the backward pass instead of kept; changes no bit of the result.
    pub recompute: Recompute,
    /// Voxels of a sample, z, y, x.
    pub patch: [usize; 3],
    /// The type in which activations are stored.
    pub activations: FloatDType,
    /// Label value that counts for nothing.
    pub ignore: Option<u16>,
    /// Label values of each region, where regions are learnt.
    pub regions: Option<Arc<Vec<Vec<u16>>>>,
    /// One Dice over the whole effective batch in place of one for each sample.
    pub batch_dice: bool,
    /// Factor on the gradient while it is in the activation type.
    pub loss_scale: f32,
    /// Without autodiff.
    pub device: Device,
    /// Those that share the samples.
    pub ranks: Ranks,
}

impl StepSettings {
    /// The samples that each rank computes, in order. Those of a micro-batch of a batch norm stay together, for the
    /// result of one is none without the others.
    pub(super) fn stretches(&self, network: &UNet) -> Vec<Stretch> {
        let batch_norm = network.plan().stages.iter().any(|stage| stage.norm == Norm::Batch);
        ranks::stretches(self.ranks.place().count, self.effective, if batch_norm { self.micro } else { 1 })
    }
}

/// What the backward passes of a step give.
pub struct StepGradient {
    /// In the order of [`UNet::parameters`], flat, f32; still times the loss scale.
    pub gradients: Vec<Tensor<1>>,
    /// Mean over the effective batch.
    pub loss: f64,
    /// For the running statistics of batch norms.
    pub statistics: BatchStatistics,
}

/// Where a step's samples come from.
pub trait Supply {
    /// Why samples could not be had.
    type Error;

    /// Samples by number, the same ones whenever it is asked.
    ///
    /// # Errors
    /// What ends the step.
    fn load(&self, range: Range<usize>) -> Result<Vec<Sample>, Self::Error>;

    /// Asked before every block of every pass: whether to go on.
    ///
    /// # Errors
    /// What ends the step.
    fn go_on(&self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// The same where other ranks count on this step's going on: asked while they are waited for, and from when they have
    /// been sent something of it.
    ///
    /// # Errors
    /// What ends the job.
    fn go_on_together(&self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl<E, F: Fn(Range<usize>) -> Result<Vec<Sample>, E>> Supply for F {
    type Error = E;

    fn load(&self, range: Range<usize>) -> Result<Vec<Sample>, E> {
        self(range)
    }
}

/// What a step that is begun again need not find out again: the other ranks would not.
#[derive(Default)]
pub struct Known(Totals);

/// Computes the gradient of the mean loss of samples `0..effective` of a step.
///
/// # Errors
/// Those of `supply`; what was summed by then stays in the parameters' sinks.
pub fn gradient<S: Supply>(network: &UNet, settings: &StepSettings, supply: S) -> Result<StepGradient, S::Error> {
    gradient_knowing(network, settings, supply, &mut Known::default())
}

/// The same where the step may be begun again after an error; `known` is empty at its beginning.
///
/// # Errors
/// As [`gradient`].
pub fn gradient_knowing<S: Supply>(
    network: &UNet,
    settings: &StepSettings,
    supply: S,
    known: &mut Known,
) -> Result<StepGradient, S::Error> {
    let heads = Heads::new(network);
    let stretches = settings.stretches(network);
    let stretch = &stretches[settings.ranks.place().index];
    known.0.complete(network, &heads, settings, stretch.samples.clone(), &supply)?;
    let totals = &known.0;
    let Range { start, end } = stretch.samples;
    let micro = settings.micro.clamp(1, stretch.samples.len().max(1));
    network.parameters.iter().for_each(|parameter| parameter.begin_gradient(stretch, micro));
    let exchange = RefCell::new(Exchange::new(&settings.ranks, &network.parameters, &stretches));
    let mut statistics = Vec::new();
    let mut loss = 0.0;
    for first in (start..end).step_by(micro) {
        let range = first..(first + micro).min(end);
        let last = range.end == end;
        let place = Place::new(range.len(), network.plan().in_channels, settings.patch, &heads.strides);
        let inputs = place.fill(supply.load(range)?, &heads.strides, settings);
        let go_on = || match exchange.borrow_mut().as_mut().filter(|_| last) {
            Some(exchange) => {
                exchange.offer(&network.parameters);
                if exchange.has_begun() { supply.go_on_together() } else { supply.go_on() }
            }
            None => supply.go_on(),
        };
        let mut noted = BatchStatistics::default();
        loss += micro_batch(network, settings, &heads, totals, inputs, &mut noted, &go_on)?;
        statistics.push(noted);
    }
    let go_on = || supply.go_on_together();
    let gradients = match exchange.into_inner() {
        Some(exchange) => exchange.finish(&network.parameters, go_on)?,
        None => network.parameters.iter().map(|parameter| parameter.take_gradient()).collect(),
    };
    let (loss, statistics) = gather(network, settings, loss, &statistics, go_on)?;
    Ok(StepGradient { gradients, loss, statistics })
}

/// The loss of all ranks' samples, and what their batch norms noted, micro-batch after micro-batch as one process has them.
fn gather<E>(
    network: &UNet,
    settings: &StepSettings,
    loss: f64,
    statistics: &[BatchStatistics],
    go_on: impl Fn() -> Result<(), E>,
) -> Result<(f64, BatchStatistics), E> {
    let flat: Vec<Vec<f64>> = statistics.iter().map(BatchStatistics::flat).collect();
    let numbers = [vec![loss], flat.concat()].concat();
    let found = settings.ranks.gather_numbers(&numbers, go_on)?;
    let values = network.buffers.iter().map(|buffer| buffer.values.len()).sum::<usize>().max(1);
    let noted = found.iter().flat_map(|numbers| numbers.get(1..).unwrap_or_default().chunks(values));
    Ok((found.iter().filter_map(|numbers| numbers.first()).sum(), network.gathered(noted)))
}

/// The samples of the first micro-batch whose loss or gradient is not finite; `None` where only their sum is not.
///
/// # Errors
/// As [`gradient`].
pub fn first_not_finite<S: Supply>(
    network: &UNet,
    settings: &StepSettings,
    supply: S,
) -> Result<Option<Range<usize>>, S::Error> {
    // One Dice over the batch would carry the fault of one sample into the loss of every other.
    // Each rank by itself goes through all samples.
    let settings = &StepSettings { batch_dice: false, ranks: Ranks::alone(), ..settings.clone() };
    let heads = Heads::new(network);
    let mut totals = Totals::default();
    totals.complete(network, &heads, settings, 0..settings.effective, &supply)?;
    let micro = settings.micro.max(1);
    for start in (0..settings.effective).step_by(micro) {
        let range = start..(start + micro).min(settings.effective);
        let place = Place::new(range.len(), network.plan().in_channels, settings.patch, &heads.strides);
        let inputs = place.fill(supply.load(range.clone())?, &heads.strides, settings);
        let mut unused = BatchStatistics::default();
        let loss = micro_batch(network, settings, &heads, &totals, inputs, &mut unused, &|| supply.go_on())?;
        let gradients: Vec<Tensor<1>> = network.parameters.iter().map(|parameter| parameter.take_gradient()).collect();
        if !loss.is_finite() || !global_norm(&gradients).is_finite() {
            return Ok(Some(range));
        }
    }
    Ok(None)
}

/// One forward and backward pass; gradients go to the parameters' sinks. Returns the samples' share of the loss.
fn micro_batch<E>(
    network: &UNet,
    settings: &StepSettings,
    heads: &Heads,
    totals: &Totals,
    inputs: Inputs,
    statistics: &mut BatchStatistics,
    go_on: &impl Fn() -> Result<(), E>,
) -> Result<f64, E> {
    let Inputs { image, targets } = inputs;
    let loss = |head: usize, logits: Tensor<5>| {
        let spec = heads.spec(head, &logits, &targets[head], settings, totals);
        ops::segmentation_loss(logits, spec)
    };
    let total = if settings.recompute.blocks() {
        // The processor's memory is the host's.
        let park = settings.recompute == Recompute::Parked && settings.device != Device::flex();
        sum(blocks::pass(network, image, park, &loss, statistics, go_on)?)
    } else {
        let image = image.autodiff().require_grad();
        let logits = network.forward_while(image, Mode::Train(statistics), go_on)?;
        let total = sum(logits.into_iter().enumerate().map(|(head, logits)| loss(head, logits)));
        // The tensors' gradients are of no use: those of the parameters are in their sinks.
        drop(total.as_ref().map(Tensor::backward));
        total
    };
    // One number per sample, added in their order.
    let values = total.map(|total| total.to_data().convert::<f32>().try_into_vec::<f32>().unwrap_or_default());
    Ok(values.into_iter().flatten().map(f64::from).sum())
}

fn sum(losses: impl IntoIterator<Item = Tensor<1>>) -> Option<Tensor<1>> {
    losses.into_iter().reduce(|sum, next| sum + next)
}

/// The heads that count.
pub(super) struct Heads {
    weights: Vec<f64>,
    /// Label voxels per head voxel, z, y, x.
    pub strides: Vec<[usize; 3]>,
}

impl Heads {
    fn new(network: &UNet) -> Self {
        let plan = network.plan();
        let weights = head_weights(plan.stages.len(), plan.deep_supervision);
        let mut stride = [1; 3];
        let strides = plan
            .stages
            .iter()
            .map(|stage| {
                stride = std::array::from_fn(|axis| stride[axis] * stage.stride[axis]);
                stride
            })
            .take(weights.len())
            .collect();
        Self { weights, strides }
    }

    /// What the loss of a head's logits is told.
    pub fn spec(
        &self,
        head: usize,
        logits: &Tensor<5>,
        target: &Arc<Vec<u16>>,
        settings: &StepSettings,
        totals: &Totals,
    ) -> LossSpec {
        let [_, _, z, y, x] = logits.dims();
        let voxels = (settings.effective * z * y * x) as u64;
        let counted = totals.labelled.as_ref().and_then(|counts| counts.get(head)).copied().unwrap_or(voxels);
        // Of every region each voxel has a cross-entropy of its own.
        let each = settings.regions.as_ref().map_or(1, |regions| regions.len() as u64);
        let weight = self.weights[head];
        LossSpec {
            target: target.clone(),
            ignore: settings.ignore,
            regions: settings.regions.clone(),
            cross_entropy: weight / (counted.max(1) * each.max(1)) as f64,
            dice: weight / settings.effective as f64,
            totals: totals.dice.as_ref().and_then(|heads| heads.get(head)).cloned(),
            gradient_scale: settings.loss_scale,
        }
    }
}
