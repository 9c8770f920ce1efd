//! Differentiable volume operations, as one Burn backend extension.
//!
//! [`backend::VolumeOps`] names the operations. Its default bodies (`default`) are made of Burn's own operations and
//! serve every device; the processor has its own (`flex` over [`cpu`]). `autodiff` gives them their gradients. The
//! functions here are what the network calls.
//!
//! Parameters are not part of the graph: each operation is handed a [`GradientSink`] per parameter, and its backward
//! pass adds to what is already there, sample after sample. So there is one set of gradients however many
//! micro-batches there are, and (on the CPU) the sum has one order: that of the samples.
mod autodiff;
pub mod backend;
pub mod cpu;
mod default;
mod flex;
mod sink;
pub mod spec;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use backend::VolumeOps;
pub use sink::GradientSink;
pub use spec::{ConvSpec, LossSpec, NormSpec, ParameterSinks, UpsampleSpec};

/// 3D convolution: `input` `[batch, in, z, y, x]` in the activation type, `weights` `[out, in, z, y, x]` and `bias`
/// `[out]` in f32; the result `[batch, out, z, y, x]` is in the input's type. Padding is `(kernel - 1) / 2`.
pub fn conv(input: Tensor<5>, weights: Tensor<5>, bias: Tensor<1>, spec: ConvSpec, sinks: ParameterSinks) -> Tensor<5> {
    Tensor::from_dispatch(Dispatch::volume_conv(
        input.into_dispatch(),
        weights.into_dispatch(),
        bias.into_dispatch(),
        spec,
        sinks,
    ))
}

/// Transposed convolution whose kernel is its stride: `input` `[batch, in, z, y, x]`, `weights` `[in, out, z, y, x]` and
/// `bias` `[out]` in f32; the result is larger by the kernel, in the input's type.
pub fn upsample(
    input: Tensor<5>,
    weights: Tensor<5>,
    bias: Tensor<1>,
    spec: UpsampleSpec,
    sinks: ParameterSinks,
) -> Tensor<5> {
    Tensor::from_dispatch(Dispatch::volume_upsample(
        input.into_dispatch(),
        weights.into_dispatch(),
        bias.into_dispatch(),
        spec,
        sinks,
    ))
}

/// Mean and `1 / sqrt(variance + eps)` of every group that is normalised together, `[2, groups]` in f32; of the values
/// as stored. Groups are per sample, but for the batch norm.
pub fn norm_statistics(input: Tensor<5>, spec: NormSpec) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::volume_norm_statistics(input.into_dispatch(), spec))
}

/// Normalisation, affine map and LeakyReLU in one, `[batch, channel, z, y, x]` in and out: only the input and the
/// statistics are kept for the backward pass, which goes through the statistics too.
pub fn norm_act(
    input: Tensor<5>,
    statistics: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    spec: NormSpec,
    sinks: ParameterSinks,
) -> Tensor<5> {
    Tensor::from_dispatch(Dispatch::volume_norm_act(
        input.into_dispatch(),
        statistics.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        spec,
        sinks,
    ))
}

/// Softmax, cross-entropy and soft Dice: the weighted loss of each sample `[batch]` in f32 from `logits`
/// `[batch, class, z, y, x]`, of which alone the backward pass keeps anything.
pub fn segmentation_loss(logits: Tensor<5>, spec: LossSpec) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::volume_loss(logits.into_dispatch(), spec))
}

#[cfg(test)]
mod tests;
