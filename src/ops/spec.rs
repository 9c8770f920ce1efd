//! What an operation is told beside its tensors.
use std::sync::Arc;

use super::cpu::norm::Groups;
use super::sink::GradientSink;

/// Where the gradients of an operation's two parameters go: weights and bias, or gamma and beta.
#[derive(Clone, Debug, Default)]
pub struct ParameterSinks {
    pub weights: GradientSink,
    pub bias: GradientSink,
}

/// A convolution beside its kernel, which the weights' shape says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// z, y, x; each 1 or 2.
    pub stride: [usize; 3],
    /// False for the first convolution: nobody asks for the gradient of the image.
    pub input_gradient: bool,
}

/// A transposed convolution whose kernel is its stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpsampleSpec {
    /// z, y, x; each 1 or 2.
    pub stride: [usize; 3],
}

/// A normalisation with its activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    pub groups: Groups,
    /// Added to the variance.
    pub epsilon: f32,
    /// LeakyReLU's slope below zero.
    pub slope: f32,
}

/// The target of one head, and what weighs its loss.
#[derive(Clone, Debug)]
pub struct LossSpec {
    /// `[batch, z, y, x]`.
    pub target: Arc<Vec<u16>>,
    /// Voxels of this value count for nothing.
    pub ignore: Option<u16>,
    /// What one voxel's cross-entropy counts: 1 / (labelled voxels of the whole effective batch), times the head's weight.
    pub cross_entropy: f64,
    /// What one sample's mean Dice counts: 1 / (samples of the whole effective batch), times the head's weight.
    pub dice: f64,
    /// Factor on the gradient alone: the loss scale of f16.
    pub gradient_scale: f32,
}
