//! The names of the operations; see the functions in [`super`] for what they do.
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::default;
use super::spec::{ConvSpec, LossSpec, NormSpec, ParameterSinks, UpsampleSpec};

/// The volume operations of a backend. The `*_gradient` methods are their backward passes; those that take sums add
/// to them, and give them back.
#[backend_extension(Cube: cfg(any(feature = "vulkan", feature = "cuda")), Flex, Autodiff)]
pub trait VolumeOps: Backend {
    fn volume_conv(
        input: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: ConvSpec,
        _sinks: ParameterSinks,
    ) -> FloatTensor<Self> {
        default::conv::<Self>(input, weights, bias, spec)
    }

    fn volume_conv_input_gradient(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        spec: ConvSpec,
        input_size: [usize; 3],
    ) -> FloatTensor<Self> {
        default::conv_input_gradient::<Self>(gradient, weights, spec, input_size)
    }

    fn volume_conv_parameter_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        weight_sum: FloatTensor<Self>,
        bias_sum: FloatTensor<Self>,
        spec: ConvSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        default::conv_parameter_gradient::<Self>(input, gradient, weight_sum, bias_sum, spec)
    }

    fn volume_upsample(
        input: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: UpsampleSpec,
        _sinks: ParameterSinks,
    ) -> FloatTensor<Self> {
        default::upsample::<Self>(input, weights, bias, spec)
    }

    fn volume_upsample_input_gradient(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        spec: UpsampleSpec,
    ) -> FloatTensor<Self> {
        default::upsample_input_gradient::<Self>(gradient, weights, spec)
    }

    fn volume_upsample_parameter_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        weight_sum: FloatTensor<Self>,
        bias_sum: FloatTensor<Self>,
        spec: UpsampleSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        default::upsample_parameter_gradient::<Self>(input, gradient, weight_sum, bias_sum, spec)
    }

    fn volume_norm_statistics(input: FloatTensor<Self>, spec: NormSpec) -> FloatTensor<Self> {
        default::norm_statistics::<Self>(input, spec)
    }

    fn volume_norm_act(
        input: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        spec: NormSpec,
        _sinks: ParameterSinks,
    ) -> FloatTensor<Self> {
        default::norm_act::<Self>(input, statistics, gamma, beta, spec)
    }

    /// Gives the input's gradient and the new sums of gamma and beta.
    #[allow(clippy::too_many_arguments)]
    fn volume_norm_act_gradient(
        input: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        gamma_sum: FloatTensor<Self>,
        beta_sum: FloatTensor<Self>,
        spec: NormSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        default::norm_act_gradient::<Self>(input, statistics, gamma, beta, gradient, gamma_sum, beta_sum, spec)
    }

    fn volume_loss(logits: FloatTensor<Self>, spec: LossSpec) -> FloatTensor<Self> {
        default::loss::<Self>(logits, spec)
    }

    /// `upstream` `[batch]` is the gradient of each sample's loss.
    fn volume_loss_gradient(
        logits: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        spec: LossSpec,
    ) -> FloatTensor<Self> {
        default::loss_gradient::<Self>(logits, upstream, spec)
    }
}

#[cfg(any(feature = "vulkan", feature = "cuda"))]
impl VolumeOps for burn::backend::Cube {}
