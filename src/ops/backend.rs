//! The names of the operations; see the functions in [`super`] for what they do.
use std::ops::Range;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::Shape;

use super::default;
use super::spec::{
    AdamwSpec, AddSpec, ConvSpec, JoinSinks, JoinSpec, LossSpec, NormSpec, ParameterSinks, PoolSpec, SgdSpec,
    StemSinks, StemSpec, UpsampleSpec,
};

/// The volume operations of a backend. The `*_gradient` methods are their backward passes; those that take sums add
/// to them, and give them back. A `map` says how the tensor before it is normalised while it is read, where the spec has
/// a slope ([`VolumeOps::volume_norm_map`]).
#[backend_extension(Cube: cfg(any(feature = "vulkan", feature = "cuda")), Flex, Autodiff)]
pub trait VolumeOps: Backend {
    /// A sum of gradients that has not begun, in f32. `like` says on which device.
    fn volume_zeros(like: FloatTensor<Self>, shape: Shape) -> FloatTensor<Self> {
        default::zeros::<Self>(like, shape)
    }

    /// The tensor, or one like it, with zeros in it.
    fn volume_zeroed(tensor: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = tensor.shape();
        Self::volume_zeros(tensor, shape)
    }

    /// The sum of two tensors of the same shape, in f32.
    fn volume_add(sum: FloatTensor<Self>, part: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(sum, part)
    }

    /// A convolution of what is read, in its type; see [`super::conv`].
    fn volume_conv(
        input: FloatTensor<Self>,
        map: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: ConvSpec,
        _sinks: ParameterSinks,
    ) -> FloatTensor<Self> {
        default::conv::<Self>(default::read::<Self>(input, map, spec.slope), weights, bias, spec)
    }

    /// The gradient of what was read.
    fn volume_conv_input_gradient(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        spec: ConvSpec,
        input_size: [usize; 3],
    ) -> FloatTensor<Self> {
        default::conv_input_gradient::<Self>(gradient, weights, spec, input_size)
    }

    /// Adds the gradients that some of the samples give to sums.
    fn volume_conv_parameter_gradient(
        input: FloatTensor<Self>,
        map: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        weight_sum: FloatTensor<Self>,
        bias_sum: FloatTensor<Self>,
        spec: ConvSpec,
        samples: Range<usize>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let input = default::read::<Self>(input, map, spec.slope);
        let [input, gradient] = [input, gradient].map(|tensor| default::samples_of::<Self>(tensor, &samples));
        default::conv_parameter_gradient::<Self>(input, gradient, weight_sum, bias_sum, spec)
    }

    /// A transposed convolution whose kernel is its stride; the way up of [`super::join`].
    fn volume_upsample(
        input: FloatTensor<Self>,
        map: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: UpsampleSpec,
    ) -> FloatTensor<Self> {
        default::upsample::<Self>(default::read::<Self>(input, map, spec.slope), weights, bias, spec)
    }

    /// The gradient of what was read.
    fn volume_upsample_input_gradient(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        spec: UpsampleSpec,
    ) -> FloatTensor<Self> {
        default::upsample_input_gradient::<Self>(gradient, weights, spec)
    }

    /// Adds the gradients that some of the samples give to sums.
    fn volume_upsample_parameter_gradient(
        input: FloatTensor<Self>,
        map: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        weight_sum: FloatTensor<Self>,
        bias_sum: FloatTensor<Self>,
        spec: UpsampleSpec,
        samples: Range<usize>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let input = default::read::<Self>(input, map, spec.slope);
        let [input, gradient] = [input, gradient].map(|tensor| default::samples_of::<Self>(tensor, &samples));
        default::upsample_parameter_gradient::<Self>(input, gradient, weight_sum, bias_sum, spec)
    }

    /// The first stage; `raw` is its first convolution of `image`, for the forward pass alone.
    #[allow(clippy::too_many_arguments)]
    fn volume_stem(
        _image: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        _statistics: FloatTensor<Self>,
        _gamma: FloatTensor<Self>,
        _beta: FloatTensor<Self>,
        _first_weights: FloatTensor<Self>,
        _first_bias: FloatTensor<Self>,
        map: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: StemSpec,
        sinks: StemSinks,
    ) -> FloatTensor<Self> {
        Self::volume_conv(raw, map, weights, bias, spec.second, sinks.second)
    }

    /// `below`, upsampled, and `skip` behind it, convolved.
    #[allow(clippy::too_many_arguments)]
    fn volume_join(
        below: FloatTensor<Self>,
        below_map: FloatTensor<Self>,
        up_weights: FloatTensor<Self>,
        up_bias: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        skip_map: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: JoinSpec,
        _sinks: JoinSinks,
    ) -> FloatTensor<Self> {
        let up = Self::volume_upsample(below, below_map, up_weights, up_bias, spec.up);
        Self::volume_joined_conv(up, skip, skip_map, weights, bias, spec.conv)
    }

    /// A convolution over `up` as it is and `skip` behind it.
    fn volume_joined_conv(
        up: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        map: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: ConvSpec,
    ) -> FloatTensor<Self> {
        let skip = default::read::<Self>(skip, map, spec.slope);
        default::conv::<Self>(Self::float_cat(vec![up, skip], 1), weights, bias, spec)
    }

    /// The gradient of some of the channels that were read behind each other: those of `up`, or of what was read of `skip`.
    fn volume_joined_input_gradient(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        spec: ConvSpec,
        channels: Range<usize>,
    ) -> FloatTensor<Self> {
        let shape = gradient.shape();
        let weights = default::weights_of::<Self>(weights, channels);
        Self::volume_conv_input_gradient(gradient, weights, spec, [shape[2], shape[3], shape[4]])
    }

    /// Adds the gradients that some of the samples give to sums, of weights over the channels of `up` and `skip` together.
    #[allow(clippy::too_many_arguments)]
    fn volume_joined_parameter_gradient(
        up: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        map: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        weight_sum: FloatTensor<Self>,
        bias_sum: FloatTensor<Self>,
        spec: ConvSpec,
        samples: Range<usize>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let input = Self::float_cat(vec![up, default::read::<Self>(skip, map, spec.slope)], 1);
        let [input, gradient] = [input, gradient].map(|tensor| default::samples_of::<Self>(tensor, &samples));
        default::conv_parameter_gradient::<Self>(input, gradient, weight_sum, bias_sum, spec)
    }

    /// Mean and reciprocal deviation of what is normalised together, in f32, as [`VolumeOps::volume_norm_map`] reads them.
    fn volume_norm_statistics(input: FloatTensor<Self>, spec: NormSpec) -> FloatTensor<Self> {
        default::norm_statistics::<Self>(input, spec)
    }

    /// What each channel of each sample is mapped by, `[3, batch * channels]` in f32: `(x - mean) * scale + beta`.
    fn volume_norm_map(
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        spec: NormSpec,
        batch: usize,
    ) -> FloatTensor<Self> {
        default::norm_map::<Self>(statistics, gamma, beta, spec, batch)
    }

    /// A place in the graph for the normalised and activated values; what is stored there stays as it is, and whoever
    /// reads it applies the map.
    fn volume_norm_act(
        input: FloatTensor<Self>,
        _statistics: FloatTensor<Self>,
        _gamma: FloatTensor<Self>,
        _beta: FloatTensor<Self>,
        _spec: NormSpec,
        _sinks: ParameterSinks,
    ) -> FloatTensor<Self> {
        input
    }

    /// Gives the input's gradient, and those of gamma and beta of each sample, `[batch, channel]` in f32.
    fn volume_norm_act_gradient(
        input: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        spec: NormSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        default::norm_act_gradient::<Self>(input, statistics, gamma, beta, gradient, spec)
    }

    /// The same values at a place of their own in the graph.
    fn volume_fork(input: FloatTensor<Self>) -> FloatTensor<Self> {
        input
    }

    /// Two paths added and activated; each is read through its map where the spec has a slope for it.
    fn volume_add_act(
        a: FloatTensor<Self>,
        a_map: FloatTensor<Self>,
        b: FloatTensor<Self>,
        b_map: FloatTensor<Self>,
        spec: AddSpec,
    ) -> FloatTensor<Self> {
        default::add_act::<Self>([(a, a_map), (b, b_map)], spec)
    }

    /// The gradient of each of the paths, from what they became and its gradient.
    fn volume_add_act_gradient(
        sum: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        spec: AddSpec,
    ) -> FloatTensor<Self> {
        default::add_act_gradient::<Self>(sum, gradient, spec)
    }

    /// Averages over cells of voxels.
    fn volume_average(input: FloatTensor<Self>, map: FloatTensor<Self>, spec: PoolSpec) -> FloatTensor<Self> {
        default::average::<Self>(input, map, spec)
    }

    /// The gradient of what was read.
    fn volume_average_gradient(gradient: FloatTensor<Self>, spec: PoolSpec) -> FloatTensor<Self> {
        default::average_gradient::<Self>(gradient, spec.stride)
    }

    /// Each sample's share of the loss, `[batch]` in f32.
    fn volume_loss(logits: FloatTensor<Self>, spec: LossSpec) -> FloatTensor<Self> {
        default::loss::<Self>(logits, spec)
    }

    /// What the Dice of each sample is made of, `[batch, class, 3]` in f32: intersection, probability and label. With
    /// regions the first of the classes is empty.
    fn volume_loss_sums(logits: FloatTensor<Self>, spec: LossSpec) -> FloatTensor<Self> {
        default::loss_sums::<Self>(logits, spec)
    }

    /// A zero per sample, `[batch]` in f32, whose backward pass gives `input` the gradient `gradient`.
    fn volume_seed(input: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let batch = Shape::new([input.shape()[0]]);
        Self::volume_zeros(gradient, batch)
    }

    /// `upstream` `[batch]` is the gradient of each sample's loss.
    fn volume_loss_gradient(
        logits: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        spec: LossSpec,
    ) -> FloatTensor<Self> {
        default::loss_gradient::<Self>(logits, upstream, spec)
    }

    /// `[2]`: a magnitude, and the sum of squares of `gradient` (flat, f32) divided by it.
    fn volume_square_sum(gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        default::square_sum::<Self>(gradient)
    }

    /// All flat, in f32. Gives the new value and velocity.
    fn volume_sgd(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        spec: SgdSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        default::sgd::<Self>(value, gradient, velocity, spec)
    }

    /// All flat, in f32. Gives the new value, first and second moment.
    fn volume_adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        spec: AdamwSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        default::adamw::<Self>(value, gradient, first, second, spec)
    }

    /// All flat, in f32. Gives the new average.
    fn volume_ema(average: FloatTensor<Self>, value: FloatTensor<Self>, decay: f64) -> FloatTensor<Self> {
        default::ema::<Self>(average, value, decay)
    }
}

#[cfg(any(feature = "vulkan", feature = "cuda"))]
impl VolumeOps for burn::backend::Cube {}
