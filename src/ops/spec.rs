//! What an operation is told beside its tensors.
use std::sync::Arc;

use super::cpu::loss::ClassSums;
use super::cpu::norm::Groups;
use super::sink::GradientSink;

/// Where the gradients of an operation's two parameters go: weights and bias, or gamma and beta.
#[derive(Clone, Debug, Default)]
pub struct ParameterSinks {
    /// Of a convolution's weights, or a norm's gamma.
    pub weights: GradientSink,
    /// Of a convolution's bias, or a norm's beta.
    pub bias: GradientSink,
}

/// The parameters of the first stage: two convolutions and the norm between them.
#[derive(Clone, Debug, Default)]
pub struct StemSinks {
    /// Of the first convolution.
    pub first: ParameterSinks,
    /// Of the norm between.
    pub norm: ParameterSinks,
    /// Of the second convolution.
    pub second: ParameterSinks,
}

/// The parameters of a decoder level's way up and first convolution.
#[derive(Clone, Debug, Default)]
pub struct JoinSinks {
    /// Of the transposed convolution.
    pub up: ParameterSinks,
    /// Of the convolution over both.
    pub conv: ParameterSinks,
}

/// A convolution beside its kernel, which the weights' shape says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvSpec {
    /// z, y, x; each 1 or 2.
    pub stride: [usize; 3],
    /// False for the first convolution: nobody asks for the gradient of the image.
    pub input_gradient: bool,
    /// LeakyReLU's slope below zero where the input is normalised and activated while it is read; `None` reads it as it
    /// is.
    pub slope: Option<f32>,
}

/// A transposed convolution whose kernel is its stride.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpsampleSpec {
    /// z, y, x; each 1 or 2.
    pub stride: [usize; 3],
    /// As [`ConvSpec::slope`].
    pub slope: Option<f32>,
}

/// The first stage: its first convolution is computed again for the backward pass instead of being kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StemSpec {
    /// The convolution that is computed again.
    pub first: ConvSpec,
    /// The norm behind it.
    pub norm: NormSpec,
    /// The convolution behind that.
    pub second: ConvSpec,
}

/// A decoder level's way up and the convolution over what came up and the encoder's output behind it, which
/// `conv.slope` says how to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JoinSpec {
    /// The transposed convolution.
    pub up: UpsampleSpec,
    /// The convolution over what came up and the encoder's output.
    pub conv: ConvSpec,
}

/// A normalisation with its activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    /// What statistics are taken over together.
    pub groups: Groups,
    /// Added to the variance.
    pub epsilon: f32,
    /// LeakyReLU's slope below zero.
    pub slope: f32,
}

/// The sum of two paths with LeakyReLU behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddSpec {
    /// As [`ConvSpec::slope`], of each path.
    pub slopes: [Option<f32>; 2],
    /// LeakyReLU's slope below zero.
    pub slope: f32,
}

/// Averages over cells of `stride` voxels, which divides the size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoolSpec {
    /// z, y, x; each 1 or 2.
    pub stride: [usize; 3],
    /// As [`ConvSpec::slope`].
    pub slope: Option<f32>,
}

/// The target of one head, and what weighs its loss.
#[derive(Clone, Debug)]
pub struct LossSpec {
    /// `[batch, z, y, x]`.
    pub target: Arc<Vec<u16>>,
    /// Voxels of this value count for nothing.
    pub ignore: Option<u16>,
    /// Label values of each region, where regions are learnt: a sigmoid for each in place of one softmax.
    pub regions: Option<Arc<Vec<Vec<u16>>>>,
    /// What one voxel's cross-entropy counts: 1 / (labelled voxels of the whole effective batch), times the head's weight;
    /// with regions, what that of one region counts.
    pub cross_entropy: f64,
    /// What one sample's mean Dice counts: 1 / (samples of the whole effective batch), times the head's weight.
    pub dice: f64,
    /// Where there is one Dice, over the whole effective batch: `dice` times it is then each sample's share of the loss.
    pub totals: Option<Arc<BatchSums>>,
    /// Factor on the gradient alone: the loss scale of f16.
    pub gradient_scale: f32,
}

/// What the one Dice of an effective batch is made of; [`super::loss_sums`] gives it sample by sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchSums {
    /// By class, over all samples of the effective batch.
    pub classes: Vec<ClassSums>,
    /// Of the effective batch. Each one's gradient is that of the whole Dice, of which its loss is a share.
    pub samples: usize,
}

/// How one update changes a parameter; the rules are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateSpec {
    /// Learning rate of this update.
    pub rate: f64,
    /// Weight decay.
    pub decay: f64,
    /// Multiplies the gradient first: undoes the loss scale, and clips.
    pub factor: f64,
}

/// SGD with Nesterov momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdSpec {
    /// Rate, decay and factor.
    pub update: UpdateSpec,
    /// Share of the last velocity that stays.
    pub momentum: f64,
}

/// AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwSpec {
    /// Rate, decay and factor.
    pub update: UpdateSpec,
    /// Shares of the last first and second moment that stay.
    pub betas: [f64; 2],
    /// `1 - beta ^ update` of both moments.
    pub corrections: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
}
