//! Softmax, cross-entropy and soft Dice from logits in one sweep, and their gradient in another.
//!
//! Per sample n: `loss = ce_weight * sum_v CE_v - dice_weight * mean_c Dice_c` over the classes c >= 1, with
//! `CE_v = logsumexp(logits) - logit of the label` and, from the probabilities p,
//! `Dice_c = (2 I + 1e-5) / (P + G + 1e-5)`, `I = sum p [label = c]`, `P = sum p`, `G = sum [label = c]`
//! (nnU-Net's loss; Milletari et al. 2016). Voxels with the ignore label are left out of every sum.
//!
//! With regions, which overlap, every region has a sigmoid p of its own in place of the softmax: CE_v is the sum over
//! regions of `-log p` or `-log (1 - p)`, and Dice is over all regions. [`SampleSums::classes`] has an empty first entry
//! then, in the place of the background.
//!
//! The caller gives the weights (1 / labelled voxels and 1 / samples of the whole effective batch), so losses and
//! gradients of micro-batches add up exactly. A Dice over the whole batch comes from [`ClassSums`] added up over
//! its samples, see [`DiceSlopes`].
//!
//! Sums: `f32` lanes within blocks of 4096 voxels, `f64` across blocks, blocks in order; each sample alone.
mod kernels;
mod regions;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use self::kernels::{BackwardBlock, BlockSums, ForwardBlock, Scratch};
use self::regions::{RegionBackwardBlock, RegionForwardBlock};
use super::element::Element;
use super::isa::{Isa, dispatch, isa};

/// Voxels summed in `f32` before `f64` takes over, and what one task treats.
const BLOCK: usize = 4096;

/// Keeps the Dice of a class that is nowhere defined.
pub const SMOOTH: f64 = 1e-5;

/// What went wrong with the labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LossError {
    /// A label is neither a class nor the ignore label.
    #[error("sample {sample} of the batch has {voxels} voxels whose label is not one of the {classes} classes")]
    Label {
        /// Which sample of the batch.
        sample: usize,
        /// How many of its voxels.
        voxels: usize,
        /// Classes of the logits.
        classes: usize,
    },
}

/// A number type of label maps.
pub trait Label: Copy + Send + Sync {
    /// The label's number.
    fn number(self) -> i32;
}

macro_rules! label {
    ($($integer:ty),*) => {$(
        impl Label for $integer {
            #[inline(always)]
            fn number(self) -> i32 {
                self.into()
            }
        }
    )*};
}
label!(u8, u16, i32);

/// The shape of the logits, `[batch, class, voxel]`; labels are `[batch, voxel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossShape<'a> {
    /// Samples.
    pub batch: usize,
    /// Classes, background included; or regions.
    pub classes: usize,
    /// Label values of each region, one entry for each of `classes`, where regions are learnt.
    pub regions: Option<&'a [Vec<u16>]>,
    /// Voxels of one channel, z * y * x.
    pub voxels: usize,
    /// The label of voxels that do not count.
    pub ignore: Option<u16>,
}

impl LossShape<'_> {
    /// Label values that count: 0 to one less.
    fn label_values(&self) -> usize {
        let highest = |regions: &[Vec<u16>]| regions.iter().flatten().copied().max().unwrap_or(0);
        self.regions.map_or(self.classes, |regions| usize::from(highest(regions)) + 1)
    }

    /// Entries of [`SampleSums::classes`].
    fn sums(&self) -> usize {
        self.classes + usize::from(self.regions.is_some())
    }

    fn check(&self, logits: usize, labels: usize) {
        let enough = if self.regions.is_some() { 1 } else { 2 };
        assert!(self.classes >= enough && self.voxels > 0, "loss: at least two classes and one voxel, {self:?}");
        assert!(self.regions.is_none_or(|all| all.len() == self.classes), "loss: a logit for each region, {self:?}");
        assert_eq!(logits, self.batch * self.classes * self.voxels, "loss: the logits are not of shape {self:?}");
        assert_eq!(labels, self.batch * self.voxels, "loss: the labels are not of shape {self:?}");
    }
}

/// The sums that Dice is made of, for one class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassSums {
    /// Sum of the probabilities where the label is this class (I).
    pub intersection: f64,
    /// Sum of the probabilities over all labelled voxels (P).
    pub probability: f64,
    /// Number of voxels with this label (G).
    pub label: f64,
}

impl ClassSums {
    /// `(2 I + 1e-5) / (P + G + 1e-5)`.
    pub fn dice(&self) -> f64 {
        (2.0 * self.intersection + SMOOTH) / (self.probability + self.label + SMOOTH)
    }

    /// The three sums.
    pub fn numbers(&self) -> [f64; 3] {
        [self.intersection, self.probability, self.label]
    }

    /// What [`Self::numbers`] gave.
    pub fn from_numbers([intersection, probability, label]: [f64; 3]) -> Self {
        Self { intersection, probability, label }
    }

    /// Adds the sums of further voxels.
    pub fn add(&mut self, other: &ClassSums) {
        self.intersection += other.intersection;
        self.probability += other.probability;
        self.label += other.label;
    }
}

/// All that the loss needs to know of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleSums {
    /// Sum of the cross-entropy over the labelled voxels.
    pub cross_entropy: f64,
    /// Labelled voxels.
    pub labelled: usize,
    /// Per class, background first.
    pub classes: Vec<ClassSums>,
}

impl SampleSums {
    /// Dice per class, background first (it is no part of the loss).
    pub fn dice(&self) -> Vec<f64> {
        self.classes.iter().map(ClassSums::dice).collect()
    }

    /// The mean Dice over the classes but the background.
    pub fn mean_dice(&self) -> f64 {
        mean_foreground_dice(&self.classes)
    }

    /// This sample's share of the loss.
    #[cfg(test)]
    fn loss(&self, weights: Weights) -> f64 {
        f64::from(weights.ce) * self.cross_entropy - f64::from(weights.dice) * self.mean_dice()
    }
}

/// The mean Dice over the classes but the first.
pub fn mean_foreground_dice(classes: &[ClassSums]) -> f64 {
    let foreground = &classes[1..];
    foreground.iter().map(ClassSums::dice).sum::<f64>() / foreground.len() as f64
}

/// What one sample's terms count in the loss of the effective batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of each voxel's cross-entropy: 1 / labelled voxels of the effective batch.
    pub ce: f32,
    /// Of the mean Dice: 1 / samples of the effective batch.
    pub dice: f32,
}

/// The derivative of `-weight * mean Dice` by the probability of each class: `on * [label = c] + off`.
#[derive(Clone, Debug, PartialEq)]
pub struct DiceSlopes {
    on: Vec<f32>,
    off: Vec<f32>,
}

impl DiceSlopes {
    /// From the sums that the Dice is taken over: one sample's, or those of all samples of the effective batch added
    /// up (then `weight` is that of the one Dice of the batch). `weight` takes in the upstream gradient.
    pub fn new(classes: &[ClassSums], weight: f64) -> Self {
        let share = weight / (classes.len() - 1) as f64;
        let mut slopes = Self { on: vec![0.0], off: vec![0.0] };
        for sums in &classes[1..] {
            let whole = sums.probability + sums.label + SMOOTH;
            slopes.on.push((-share * 2.0 / whole) as f32);
            slopes.off.push((share * (2.0 * sums.intersection + SMOOTH) / (whole * whole)) as f32);
        }
        slopes
    }
}

/// What one sample's gradient is made with.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleGradient {
    /// Weight of each voxel's cross-entropy, times the upstream gradient.
    pub ce: f32,
    /// The Dice part, with its weight and the upstream gradient taken in.
    pub dice: DiceSlopes,
}

impl SampleGradient {
    /// For the Dice of each sample alone; `upstream` is the gradient of whatever is minimised by this sample's loss.
    pub fn new(sums: &SampleSums, weights: Weights, upstream: f32) -> Self {
        Self::of_dice_over(&sums.classes, weights, upstream)
    }

    /// For a Dice over `classes`, the sums of which the sample's are a part.
    pub fn of_dice_over(classes: &[ClassSums], weights: Weights, upstream: f32) -> Self {
        let dice = DiceSlopes::new(classes, f64::from(weights.dice) * f64::from(upstream));
        Self { ce: weights.ce * upstream, dice }
    }
}

/// The sums of each sample, from `logits` `[batch, class, voxel]` and `labels` `[batch, voxel]`.
///
/// # Errors
/// [`LossError::Label`] where a label is neither a class nor the ignore label.
pub fn forward<E: Element, T: Label>(
    logits: &[E],
    labels: &[T],
    shape: &LossShape<'_>,
) -> Result<Vec<SampleSums>, LossError> {
    forward_on(isa(), logits, labels, shape)
}

/// The gradient of the logits, `[batch, class, voxel]`, written whole; zero where a voxel is not labelled.
/// `samples` has one entry for each sample. The softmax is computed again: nothing is kept from [`forward`].
pub fn backward<E: Element, T: Label>(
    logits: &[E],
    labels: &[T],
    shape: &LossShape<'_>,
    samples: &[SampleGradient],
    gradient: &mut [E],
) {
    backward_on(isa(), logits, labels, shape, samples, gradient);
}

fn forward_on<E: Element, T: Label>(
    isa: Isa,
    logits: &[E],
    labels: &[T],
    shape: &LossShape<'_>,
) -> Result<Vec<SampleSums>, LossError> {
    shape.check(logits.len(), labels.len());
    let blocks = shape.voxels.div_ceil(BLOCK);
    let parts: Vec<BlockSums> = (0..shape.batch * blocks)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, task| {
            let (sample, start) = (task / blocks, task % blocks * BLOCK);
            let len = BLOCK.min(shape.voxels - start);
            let logits = &logits[sample * shape.classes * shape.voxels..][..shape.classes * shape.voxels];
            let labels = &labels[sample * shape.voxels..][..shape.voxels][start..start + len];
            match shape.regions {
                None => dispatch(isa, ForwardBlock { logits, labels, start, shape, scratch }),
                Some(regions) => dispatch(isa, RegionForwardBlock { logits, labels, start, shape, regions, scratch }),
            }
        })
        .collect();
    parts.chunks(blocks).zip(0..).map(|(parts, sample)| sample_sums(parts, sample, shape)).collect()
}

/// Adds up the blocks of one sample, in order.
fn sample_sums(parts: &[BlockSums], sample: usize, shape: &LossShape) -> Result<SampleSums, LossError> {
    let mut all = SampleSums { cross_entropy: 0.0, labelled: 0, classes: vec![ClassSums::default(); shape.sums()] };
    let mut invalid = 0;
    for part in parts {
        all.cross_entropy += part.cross_entropy;
        all.labelled += part.labelled;
        invalid += part.invalid;
        all.classes.iter_mut().zip(&part.classes).for_each(|(all, part)| all.add(part));
    }
    if invalid > 0 {
        return Err(LossError::Label { sample, voxels: invalid, classes: shape.classes });
    }
    Ok(all)
}

fn backward_on<E: Element, T: Label>(
    isa: Isa,
    logits: &[E],
    labels: &[T],
    shape: &LossShape<'_>,
    samples: &[SampleGradient],
    gradient: &mut [E],
) {
    shape.check(logits.len(), labels.len());
    shape.check(gradient.len(), labels.len());
    assert_eq!(samples.len(), shape.batch, "loss: one gradient for each sample");
    assert!(samples.iter().all(|sample| sample.dice.on.len() == shape.sums()), "loss: slopes for each class");
    let per_sample = shape.classes * shape.voxels;
    for (sample, gradient) in gradient.chunks_mut(per_sample).enumerate() {
        let logits = &logits[sample * per_sample..][..per_sample];
        let labels = &labels[sample * shape.voxels..][..shape.voxels];
        // A task writes one block of every class.
        let mut blocks: Vec<Vec<&mut [E]>> = Vec::new();
        blocks.resize_with(shape.voxels.div_ceil(BLOCK), || Vec::with_capacity(shape.classes));
        for class in gradient.chunks_mut(shape.voxels) {
            class.chunks_mut(BLOCK).zip(&mut blocks).for_each(|(part, block)| block.push(part));
        }
        blocks.into_par_iter().enumerate().for_each_init(Scratch::default, |scratch, (block, gradient)| {
            let start = block * BLOCK;
            let labels = &labels[start..shape.voxels.min(start + BLOCK)];
            let weights = &samples[sample];
            match shape.regions {
                None => dispatch(isa, BackwardBlock { logits, labels, start, shape, weights, gradient, scratch }),
                Some(regions) => {
                    let block =
                        RegionBackwardBlock { logits, labels, start, shape, regions, weights, gradient, scratch };
                    dispatch(isa, block);
                }
            }
        });
    }
}
