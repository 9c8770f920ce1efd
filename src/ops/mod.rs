//! Differentiable volume operations, as one Burn backend extension.
//!
//! [`backend::VolumeOps`] names the operations. Its default bodies (`default`) are made of Burn's own operations and
//! serve every device; the processor has its own (`flex` over [`cpu`]). `autodiff` gives them their gradients. The
//! functions here are what the network calls.
//!
//! Parameters are not part of the graph: each operation is handed a [`GradientSink`] per parameter, and its backward
//! pass adds each sample's gradient to it, on the CPU in the order of a [tree](tree::SumTree) over the samples' numbers,
//! whatever micro-batch they come in.
mod autodiff;
pub mod backend;
pub mod cpu;
mod default;
mod flex;
mod host;
mod sink;
mod slices;
pub mod spec;
pub mod tree;

use burn::backend::Dispatch;
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use backend::VolumeOps;
pub use cpu::loss::ClassSums;
pub use host::HostView;
pub use sink::GradientSink;
pub use spec::{
    AdamwSpec, AddSpec, BatchSums, ConvSpec, JoinSinks, JoinSpec, LossSpec, NormSpec, ParameterSinks, PoolSpec,
    SgdSpec, StemSinks, StemSpec, UpdateSpec, UpsampleSpec,
};

/// What passes between layers.
#[derive(Clone, Debug)]
pub struct Activation {
    /// `[batch, channel, z, y, x]` in the activation type. Where there is a slope these are the values before the norm,
    /// while the tensor's place in the graph is that of the activated ones.
    tensor: Tensor<5>,
    /// `[3, batch * channel]`: mean, scale and beta that the values are read with.
    map: Tensor<2>,
    /// LeakyReLU's slope below zero; `None` reads the tensor as it is.
    slope: Option<f32>,
}

impl Activation {
    /// Values that are read as they are.
    pub fn plain(tensor: Tensor<5>) -> Self {
        let map = Tensor::zeros([3, 1], &tensor.device());
        Self { tensor, map, slope: None }
    }

    /// The same values, which are on no graph, as the start of one: [`Self::gradient`] then gives the gradient of what
    /// is read of them.
    pub fn leaf(self) -> Self {
        Self { tensor: self.tensor.autodiff().require_grad(), ..self }
    }

    /// Copies the values, which are on no graph, to the host's memory.
    pub fn park(self) -> Parked {
        let device = self.tensor.device();
        Parked { values: self.tensor.into_data(), map: self.map, slope: self.slope, device }
    }

    /// Takes the gradient of a [`Self::leaf`] out, which is on no graph.
    pub fn gradient(&self, gradients: &mut Gradients) -> Option<Tensor<5>> {
        self.tensor.grad_remove(gradients)
    }
}

/// An [`Activation`] whose values wait in the host's memory.
#[derive(Clone, Debug)]
pub struct Parked {
    values: TensorData,
    map: Tensor<2>,
    slope: Option<f32>,
    device: Device,
}

impl Parked {
    /// Copies the values back, bit for bit.
    pub fn fetch(&self) -> Activation {
        let options = (&self.device, self.values.dtype());
        Activation { tensor: Tensor::from_data(self.values.clone(), options), map: self.map.clone(), slope: self.slope }
    }
}

/// Weights and bias of a convolution, or gamma and beta of a norm, in f32.
#[derive(Clone, Debug)]
pub struct Affine<const D: usize> {
    /// `[out, in, z, y, x]`; of a transposed convolution `[in, out, z, y, x]`; of a norm `[channel]`.
    pub weights: Tensor<D>,
    /// `[channel]`.
    pub bias: Tensor<1>,
    /// Where their gradients go.
    pub sinks: ParameterSinks,
}

/// 3D convolution to `[batch, out, z, y, x]` in the input's type, before any norm. Padding is `(kernel - 1) / 2`, voxels
/// out are voxels in by the stride, rounded up.
pub fn conv(input: Activation, layer: Affine<5>, stride: [usize; 3]) -> Tensor<5> {
    convolve(input, layer, stride, true)
}

/// [`conv`] of an image, whose gradient nobody asks for.
pub fn image_conv(image: Tensor<5>, layer: Affine<5>) -> Tensor<5> {
    convolve(Activation::plain(image), layer, [1; 3], false)
}

fn convolve(input: Activation, layer: Affine<5>, stride: [usize; 3], input_gradient: bool) -> Tensor<5> {
    let spec = ConvSpec { stride, input_gradient, slope: input.slope };
    Tensor::from_dispatch(Dispatch::volume_conv(
        input.tensor.into_dispatch(),
        input.map.into_dispatch(),
        layer.weights.into_dispatch(),
        layer.bias.into_dispatch(),
        spec,
        layer.sinks,
    ))
}

/// Two convolutions with a norm and LeakyReLU between them, of an image whose gradient nobody asks for. `raw` is the first
/// convolution of it and `statistics` those of that, both without a graph: they are computed again, or kept as numbers,
/// for the backward pass, not held as tensors.
pub fn stem(
    image: Tensor<5>,
    raw: Tensor<5>,
    statistics: Tensor<2>,
    first: Affine<5>,
    norm: (Affine<1>, NormSpec),
    second: Affine<5>,
) -> Tensor<5> {
    let (norm, norm_spec) = norm;
    let map = norm_map(statistics.clone(), &norm, norm_spec, raw.dims()[0]);
    let spec = StemSpec {
        first: ConvSpec { stride: [1; 3], input_gradient: false, slope: None },
        norm: norm_spec,
        second: ConvSpec { stride: [1; 3], input_gradient: true, slope: Some(norm_spec.slope) },
    };
    let sinks = StemSinks { first: first.sinks, norm: norm.sinks, second: second.sinks };
    Tensor::from_dispatch(Dispatch::volume_stem(
        image.into_dispatch(),
        raw.into_dispatch(),
        statistics.into_dispatch(),
        norm.weights.into_dispatch(),
        norm.bias.into_dispatch(),
        first.weights.into_dispatch(),
        first.bias.into_dispatch(),
        map.into_dispatch(),
        second.weights.into_dispatch(),
        second.bias.into_dispatch(),
        spec,
        sinks,
    ))
}

/// A decoder level's way up and first convolution: `below` enlarged by a transposed convolution whose kernel is its
/// stride, `skip` behind it, and a convolution over both. What came up is not kept for the backward pass.
pub fn join(below: Activation, up: Affine<5>, up_stride: [usize; 3], skip: Activation, layer: Affine<5>) -> Tensor<5> {
    let spec = JoinSpec {
        up: UpsampleSpec { stride: up_stride, slope: below.slope },
        conv: ConvSpec { stride: [1; 3], input_gradient: true, slope: skip.slope },
    };
    let sinks = JoinSinks { up: up.sinks, conv: layer.sinks };
    Tensor::from_dispatch(Dispatch::volume_join(
        below.tensor.into_dispatch(),
        below.map.into_dispatch(),
        up.weights.into_dispatch(),
        up.bias.into_dispatch(),
        skip.tensor.into_dispatch(),
        skip.map.into_dispatch(),
        layer.weights.into_dispatch(),
        layer.bias.into_dispatch(),
        spec,
        sinks,
    ))
}

/// Mean and `1 / sqrt(variance + eps)` of every group that is normalised together, `[2, groups]` in f32; of the values
/// as stored. Groups are per sample, but for the batch norm.
pub fn norm_statistics(input: Tensor<5>, spec: NormSpec) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::volume_norm_statistics(input.into_dispatch(), spec))
}

fn norm_map(statistics: Tensor<2>, layer: &Affine<1>, spec: NormSpec, batch: usize) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::volume_norm_map(
        statistics.into_dispatch(),
        layer.weights.clone().into_dispatch(),
        layer.bias.clone().into_dispatch(),
        spec,
        batch,
    ))
}

/// Normalisation, affine map and LeakyReLU: nothing is computed, whoever reads the result applies them. Only the input and
/// the statistics are kept for the backward pass, which goes through the statistics too.
pub fn norm_act(input: Tensor<5>, statistics: Tensor<2>, layer: Affine<1>, spec: NormSpec) -> Activation {
    let map = norm_map(statistics.clone(), &layer, spec, input.dims()[0]);
    let tensor = Tensor::from_dispatch(Dispatch::volume_norm_act(
        input.into_dispatch(),
        statistics.into_dispatch(),
        layer.weights.into_dispatch(),
        layer.bias.into_dispatch(),
        spec,
        layer.sinks,
    ));
    Activation { tensor, map, slope: Some(spec.slope) }
}

/// The same values; the gradients of all who read them are added up here before they are added to those of the others who
/// read `x`. Where three addends meet, their order is that of the graph they are in, and this gives a part of a network the
/// same one whether it is a graph of its own or not.
pub fn fork(x: Activation) -> Activation {
    Activation { tensor: Tensor::from_dispatch(Dispatch::volume_fork(x.tensor.into_dispatch())), ..x }
}

/// The sum of two paths of a residual block with LeakyReLU behind it, `[batch, channel, z, y, x]` in their type. The output
/// alone is kept for the backward pass, which whoever reads it keeps too.
pub fn add_act(a: Activation, b: Activation, slope: f32) -> Activation {
    let spec = AddSpec { slopes: [a.slope, b.slope], slope };
    Activation::plain(Tensor::from_dispatch(Dispatch::volume_add_act(
        a.tensor.into_dispatch(),
        a.map.into_dispatch(),
        b.tensor.into_dispatch(),
        b.map.into_dispatch(),
        spec,
    )))
}

/// Averages over cells of `stride` voxels (z, y, x), which must divide the size; nothing is kept for the backward pass.
pub fn average(input: Activation, stride: [usize; 3]) -> Activation {
    let spec = PoolSpec { stride, slope: input.slope };
    let averages = Dispatch::volume_average(input.tensor.into_dispatch(), input.map.into_dispatch(), spec);
    Activation::plain(Tensor::from_dispatch(averages))
}

/// Softmax, cross-entropy and soft Dice: the weighted loss of each sample `[batch]` in f32 from `logits`
/// `[batch, class, z, y, x]`, of which alone the backward pass keeps anything.
pub fn segmentation_loss(logits: Tensor<5>, spec: LossSpec) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::volume_loss(logits.into_dispatch(), spec))
}

/// What the Dice of each sample is made of, per sample and class, for [`LossSpec::totals`]; with regions the first class is
/// empty.
pub fn loss_sums(logits: Tensor<5>, spec: LossSpec) -> Vec<Vec<ClassSums>> {
    let sums: Tensor<3> = Tensor::from_dispatch(Dispatch::volume_loss_sums(logits.into_dispatch(), spec));
    let [_, classes, _] = sums.dims();
    let values = sums.to_data().convert::<f32>().try_into_vec::<f32>().unwrap_or_default();
    let of_class = |values: &[f32; 3]| {
        let [intersection, probability, label] = values.map(f64::from);
        ClassSums { intersection, probability, label }
    };
    let classes_of_all: Vec<ClassSums> = values.as_chunks::<3>().0.iter().map(of_class).collect();
    classes_of_all.chunks(classes.max(1)).map(<[ClassSums]>::to_vec).collect()
}

/// Starts a backward pass at `output` instead of at a loss: zeros `[batch]` in f32, to be added to a loss or taken as one,
/// by which the gradient of what is read of `output` becomes `gradient`.
pub fn seed(output: Activation, gradient: Tensor<5>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::volume_seed(output.tensor.into_dispatch(), gradient.into_dispatch()))
}

/// The sum of squares of a gradient (flat, f32), as a magnitude and the sum of squares of what is left when it is divided
/// by it, `[2]`: neither overflows where the gradient does not.
pub fn square_sum(gradient: Tensor<1>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::volume_square_sum(gradient.into_dispatch()))
}

/// One update by SGD with Nesterov momentum; all flat, in f32. Gives the new value and velocity, in the memory of the old
/// ones where nobody else holds them. The first velocity is zeros.
pub fn sgd(value: Tensor<1>, gradient: Tensor<1>, velocity: Tensor<1>, spec: SgdSpec) -> (Tensor<1>, Tensor<1>) {
    let [value, gradient, velocity] = [value, gradient, velocity].map(Tensor::into_dispatch);
    let (value, velocity) = Dispatch::volume_sgd(value, gradient, velocity, spec);
    (Tensor::from_dispatch(value), Tensor::from_dispatch(velocity))
}

/// One update by AdamW; all flat, in f32. Gives the new value and both moments, in the memory of the old ones where nobody
/// else holds them. The first moments are zeros.
pub fn adamw(value: Tensor<1>, gradient: Tensor<1>, moments: [Tensor<1>; 2], spec: AdamwSpec) -> [Tensor<1>; 3] {
    let [value, gradient] = [value, gradient].map(Tensor::into_dispatch);
    let [first, second] = moments.map(Tensor::into_dispatch);
    let (value, first, second) = Dispatch::volume_adamw(value, gradient, first, second, spec);
    [value, first, second].map(Tensor::from_dispatch)
}

/// The moving average of what `value` was, `decay` being the share of the old average that stays; all flat, in f32. Gives
/// it in the memory of the old one where nobody else holds it.
pub fn ema(average: Tensor<1>, value: Tensor<1>, decay: f64) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::volume_ema(average.into_dispatch(), value.into_dispatch(), decay))
}

#[cfg(test)]
mod tests;
