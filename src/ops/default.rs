//! The operations made of Burn's own: the bodies that every device without its own runs.
//!
//! Convolutions run in the activation type, everything that sums runs in f32. Parameter gradients of a micro-batch are
//! summed by the device, so here their bits may depend on the micro-batch.
use std::ops::Range;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, Scalar, Shape, Slice, TensorData};

use super::cpu::loss::SMOOTH;
use super::cpu::norm::Groups;
use super::spec::{AdamwSpec, ConvSpec, LossSpec, NormSpec, SgdSpec, UpsampleSpec};

fn cast<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype { tensor } else { B::float_cast(tensor, dtype.into()) }
}

fn wide<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    cast::<B>(tensor, DType::F32)
}

fn reshape<B: Backend, const D: usize>(tensor: FloatTensor<B>, shape: [usize; D]) -> FloatTensor<B> {
    B::float_reshape(tensor, Shape::new(shape))
}

fn conv_options(weights: &Shape, spec: ConvSpec) -> ConvOptions<3> {
    let padding = [2, 3, 4].map(|axis| (weights[axis] - 1) / 2);
    ConvOptions::new(spec.stride, padding, [1; 3], 1)
}

pub fn zeros<B: Backend>(like: FloatTensor<B>, shape: Shape) -> FloatTensor<B> {
    B::float_zeros(shape, &like.device(), DType::F32.into())
}

pub fn conv<B: Backend>(
    input: FloatTensor<B>,
    weights: FloatTensor<B>,
    bias: FloatTensor<B>,
    spec: ConvSpec,
) -> FloatTensor<B> {
    let dtype = input.dtype();
    let options = conv_options(&weights.shape(), spec);
    B::conv3d(input, cast::<B>(weights, dtype), Some(cast::<B>(bias, dtype)), options)
}

pub fn conv_input_gradient<B: Backend>(
    gradient: FloatTensor<B>,
    weights: FloatTensor<B>,
    spec: ConvSpec,
    input_size: [usize; 3],
) -> FloatTensor<B> {
    let dtype = gradient.dtype();
    let weights = widened::<B>(weights, spec);
    let options = conv_options(&weights.shape(), spec);
    let [z, y, x] = input_size;
    let input = Shape::new([gradient.shape()[0], weights.shape()[1], z, y, x]);
    // Only the shape of the input is read.
    let input = B::float_expand(B::float_zeros(Shape::new([1; 5]), &gradient.device(), dtype.into()), input);
    B::conv3d_x_backward(input, cast::<B>(weights, dtype), gradient, options)
}

/// The weights with a zero on both sides along axes where a kernel of 1 steps by 2. The convolution is the same; Burn
/// 0.22.1's gradient of the input is wrong for a kernel narrower than its stride on Vulkan (`tests/vulkan.rs`).
fn widened<B: Backend>(mut weights: FloatTensor<B>, spec: ConvSpec) -> FloatTensor<B> {
    for axis in [2, 3, 4] {
        if weights.shape()[axis] < spec.stride[axis - 2] {
            let zeros = B::float_zeros(weights.shape(), &weights.device(), weights.dtype().into());
            weights = B::float_cat(vec![zeros.clone(), weights, zeros], axis);
        }
    }
    weights
}

fn part_of<B: Backend>(tensor: FloatTensor<B>, axis: usize, range: &Range<usize>) -> FloatTensor<B> {
    let shape = tensor.shape();
    if *range == (0..shape[axis]) {
        return tensor;
    }
    let whole = |axis: usize| Slice::new(0, Some(shape[axis] as isize), 1);
    let mut slices: Vec<Slice> = (0..shape.num_dims()).map(whole).collect();
    slices[axis] = Slice::new(range.start as isize, Some(range.end as isize), 1);
    B::float_slice(tensor, &slices)
}

/// The weights of some input channels.
pub fn weights_of<B: Backend>(weights: FloatTensor<B>, channels: Range<usize>) -> FloatTensor<B> {
    part_of::<B>(weights, 1, &channels)
}

/// Some samples of a batch.
pub fn samples_of<B: Backend>(tensor: FloatTensor<B>, samples: &Range<usize>) -> FloatTensor<B> {
    part_of::<B>(tensor, 0, samples)
}

/// `[channel]`: the sum of some rows of `[batch, channel]`.
pub fn rows_sum<B: Backend>(rows: FloatTensor<B>, samples: &Range<usize>) -> FloatTensor<B> {
    let channels = rows.shape()[1];
    let rows = samples_of::<B>(rows, samples);
    // One row is its own sum.
    let sum = if samples.len() == 1 { rows } else { B::float_sum_dim(rows, 0) };
    reshape::<B, 1>(sum, [channels])
}

pub fn conv_parameter_gradient<B: Backend>(
    input: FloatTensor<B>,
    gradient: FloatTensor<B>,
    weight_sum: FloatTensor<B>,
    bias_sum: FloatTensor<B>,
    spec: ConvSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = weight_sum.shape();
    let options = conv_options(&shape, spec);
    let bias = channel_sums::<B>(gradient.clone());
    let like = B::float_zeros(shape, &gradient.device(), input.dtype().into());
    let weights = wide::<B>(B::conv3d_weight_backward(input, like, gradient, options));
    (B::float_add(weight_sum, weights), B::float_add(bias_sum, bias))
}

/// `[batch, channel, z, y, x]` to `[batch, channel]`, in f32.
fn row_sums<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    let shape = tensor.shape();
    let flat = reshape::<B, 3>(wide::<B>(tensor), [shape[0], shape[1], shape[2] * shape[3] * shape[4]]);
    reshape::<B, 2>(B::float_sum_dim(flat, 2), [shape[0], shape[1]])
}

/// `[batch, channel, z, y, x]` to `[channel]`, in f32.
fn channel_sums<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    let batch = tensor.shape()[0];
    rows_sum::<B>(row_sums::<B>(tensor), &(0..batch))
}

fn upsample_options(spec: UpsampleSpec) -> ConvTransposeOptions<3> {
    ConvTransposeOptions::new(spec.stride, [0; 3], [0; 3], [1; 3], 1)
}

pub fn upsample<B: Backend>(
    input: FloatTensor<B>,
    weights: FloatTensor<B>,
    bias: FloatTensor<B>,
    spec: UpsampleSpec,
) -> FloatTensor<B> {
    let dtype = input.dtype();
    B::conv_transpose3d(input, cast::<B>(weights, dtype), Some(cast::<B>(bias, dtype)), upsample_options(spec))
}

pub fn upsample_input_gradient<B: Backend>(
    gradient: FloatTensor<B>,
    weights: FloatTensor<B>,
    spec: UpsampleSpec,
) -> FloatTensor<B> {
    let dtype = gradient.dtype();
    B::conv_transpose3d_x_backward(cast::<B>(weights, dtype), gradient, upsample_options(spec))
}

pub fn upsample_parameter_gradient<B: Backend>(
    input: FloatTensor<B>,
    gradient: FloatTensor<B>,
    weight_sum: FloatTensor<B>,
    bias_sum: FloatTensor<B>,
    spec: UpsampleSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let bias = channel_sums::<B>(gradient.clone());
    let like = B::float_zeros(weight_sum.shape(), &gradient.device(), input.dtype().into());
    let weights = wide::<B>(B::conv_transpose3d_weight_backward(input, like, gradient, upsample_options(spec)));
    (B::float_add(weight_sum, weights), B::float_add(bias_sum, bias))
}

/// `[1, groups, values]` for every kind of norm but batch, `[channel, batch * voxels]` for that: rows that share
/// statistics.
fn grouped<B: Backend>(tensor: FloatTensor<B>, groups: Groups) -> FloatTensor<B> {
    let shape = tensor.shape();
    let (batch, channels, voxels) = (shape[0], shape[1], shape[2] * shape[3] * shape[4]);
    match groups {
        Groups::Instance => reshape::<B, 2>(tensor, [batch * channels, voxels]),
        Groups::Group(groups) => reshape::<B, 2>(tensor, [batch * groups, channels / groups * voxels]),
        Groups::Batch => {
            let flat = reshape::<B, 3>(tensor, [batch, channels, voxels]);
            reshape::<B, 2>(B::float_swap_dims(flat, 0, 1), [channels, batch * voxels])
        }
    }
}

/// The inverse of [`grouped`].
fn ungrouped<B: Backend>(tensor: FloatTensor<B>, groups: Groups, shape: &Shape) -> FloatTensor<B> {
    let (batch, channels, voxels) = (shape[0], shape[1], shape[2] * shape[3] * shape[4]);
    let tensor = match groups {
        Groups::Batch => B::float_swap_dims(reshape::<B, 3>(tensor, [channels, batch, voxels]), 0, 1),
        _ => tensor,
    };
    B::float_reshape(tensor, shape.clone())
}

pub fn norm_statistics<B: Backend>(input: FloatTensor<B>, spec: NormSpec) -> FloatTensor<B> {
    let rows = grouped::<B>(wide::<B>(input), spec.groups);
    let count = rows.shape()[0];
    let mean = B::float_mean_dim(rows.clone(), 1);
    let centred = B::float_sub(rows, mean.clone());
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred), 1);
    let rstd = B::float_recip(B::float_sqrt(B::float_add_scalar(variance, Scalar::from(spec.epsilon))));
    B::float_cat(vec![reshape::<B, 2>(mean, [1, count]), reshape::<B, 2>(rstd, [1, count])], 0)
}

/// Mean and `rstd` as columns `[groups, 1]`.
fn columns<B: Backend>(statistics: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let count = statistics.shape()[1];
    let row = |index: isize| {
        let slices = [Slice::new(index, Some(index + 1), 1), Slice::new(0, Some(count as isize), 1)];
        reshape::<B, 2>(B::float_slice(statistics.clone(), &slices), [count, 1])
    };
    (row(0), row(1))
}

/// The normalised values, `[batch, channel, z, y, x]` in f32.
fn normalised<B: Backend>(input: FloatTensor<B>, statistics: FloatTensor<B>, groups: Groups) -> FloatTensor<B> {
    let shape = input.shape();
    let (mean, rstd) = columns::<B>(statistics);
    let rows = grouped::<B>(wide::<B>(input), groups);
    ungrouped::<B>(B::float_mul(B::float_sub(rows, mean), rstd), groups, &shape)
}

fn per_channel<B: Backend>(values: FloatTensor<B>) -> FloatTensor<B> {
    let channels = values.shape()[0];
    reshape::<B, 5>(values, [1, channels, 1, 1, 1])
}

/// Mean, scale and beta of each channel of each sample.
pub fn norm_map<B: Backend>(
    statistics: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    spec: NormSpec,
    batch: usize,
) -> FloatTensor<B> {
    let channels = gamma.shape()[0];
    let (mean, rstd) = columns::<B>(statistics);
    // To every channel of every sample from the group it belongs to.
    let spread = |values: FloatTensor<B>| match spec.groups {
        Groups::Batch => B::float_expand(reshape::<B, 2>(values, [1, channels]), Shape::new([batch, channels])),
        Groups::Instance => reshape::<B, 2>(values, [batch, channels]),
        Groups::Group(groups) => {
            let values = reshape::<B, 3>(values, [batch, groups, 1]);
            let values = B::float_expand(values, Shape::new([batch, groups, channels / groups]));
            reshape::<B, 2>(values, [batch, channels])
        }
    };
    let scale = B::float_mul(spread(rstd), reshape::<B, 2>(gamma, [1, channels]));
    let beta = B::float_expand(reshape::<B, 2>(beta, [1, channels]), Shape::new([batch, channels]));
    let row = |values| reshape::<B, 2>(values, [1, batch * channels]);
    B::float_cat(vec![row(spread(mean)), row(scale), row(beta)], 0)
}

/// The values as an operation reads them: as they are, or normalised and activated.
pub fn read<B: Backend>(input: FloatTensor<B>, map: FloatTensor<B>, slope: Option<f32>) -> FloatTensor<B> {
    let Some(slope) = slope else { return input };
    let (dtype, shape) = (input.dtype(), input.shape());
    let (batch, channels) = (shape[0], shape[1]);
    let row = |index: isize| {
        let all = Slice::new(0, Some((batch * channels) as isize), 1);
        let row = B::float_slice(map.clone(), &[Slice::new(index, Some(index + 1), 1), all]);
        reshape::<B, 5>(row, [batch, channels, 1, 1, 1])
    };
    let scaled = B::float_mul(B::float_sub(wide::<B>(input), row(0)), row(1));
    cast::<B>(B::leaky_relu(B::float_add(scaled, row(2)), Scalar::from(slope)), dtype)
}

/// The input's gradient, and those of gamma and beta of each sample.
pub fn norm_act_gradient<B: Backend>(
    input: FloatTensor<B>,
    statistics: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    gradient: FloatTensor<B>,
    spec: NormSpec,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (dtype, shape) = (input.dtype(), input.shape());
    let normal = normalised::<B>(input, statistics.clone(), spec.groups);
    let gamma = per_channel::<B>(gamma);
    let affine = B::float_add(B::float_mul(normal.clone(), gamma.clone()), per_channel::<B>(beta));
    let bool_type = burn::backend::get_or_init_device_settings::<B>(&affine.device()).bool_dtype;
    let negative = B::float_lower_elem(affine, Scalar::from(0.0f32), bool_type);
    let gradient = wide::<B>(gradient);
    let sloped = B::float_mul_scalar(gradient.clone(), Scalar::from(spec.slope));
    let gradient = B::float_mask_where(gradient, negative, sloped);
    let of_gamma = row_sums::<B>(B::float_mul(gradient.clone(), normal.clone()));
    let of_beta = row_sums::<B>(gradient.clone());
    // With n the normalised values and h = gradient * gamma: rstd * (h - mean(h) - n * mean(h * n)).
    let h = grouped::<B>(B::float_mul(gradient, gamma), spec.groups);
    let n = grouped::<B>(normal, spec.groups);
    let mean = B::float_mean_dim(h.clone(), 1);
    let projection = B::float_mean_dim(B::float_mul(h.clone(), n.clone()), 1);
    let (_, rstd) = columns::<B>(statistics);
    let result = B::float_mul(B::float_sub(B::float_sub(h, mean), B::float_mul(n, projection)), rstd);
    (cast::<B>(ungrouped::<B>(result, spec.groups, &shape), dtype), of_gamma, of_beta)
}

/// What both passes of the loss need, all in f32: probabilities, log-sum-exp minus the largest, shifted logits and
/// one-hot targets `[batch, class, voxel]` (no class where ignored), and sums per class `[batch, class, 1]`.
struct Softmax<B: Backend> {
    shifted: FloatTensor<B>,
    log_sum: FloatTensor<B>,
    probability: FloatTensor<B>,
    target: FloatTensor<B>,
    labelled: FloatTensor<B>,
    intersection: FloatTensor<B>,
    total: FloatTensor<B>,
}

impl<B: Backend> Softmax<B> {
    fn new(logits: FloatTensor<B>, spec: &LossSpec) -> Self {
        let shape = logits.shape();
        let (batch, classes, voxels) = (shape[0], shape[1], shape[2] * shape[3] * shape[4]);
        let device = logits.device();
        let mut onehot = vec![0.0f32; batch * classes * voxels];
        for (at, value) in spec.target.iter().enumerate() {
            let (sample, voxel, class) = (at / voxels, at % voxels, usize::from(*value));
            if Some(*value) != spec.ignore && class < classes {
                onehot[(sample * classes + class) * voxels + voxel] = 1.0;
            }
        }
        let target = B::float_from_data(TensorData::new(onehot, [batch, classes, voxels]), &device);
        let labelled = B::float_sum_dim(target.clone(), 1);
        let logits = reshape::<B, 3>(wide::<B>(logits), [batch, classes, voxels]);
        let shifted = B::float_sub(logits.clone(), B::float_max_dim(logits, 1));
        let exponential = B::float_exp(shifted.clone());
        let sum = B::float_sum_dim(exponential.clone(), 1);
        let probability = B::float_div(exponential, sum.clone());
        let counted = B::float_mul(probability.clone(), labelled.clone());
        let intersection = B::float_sum_dim(B::float_mul(counted.clone(), target.clone()), 2);
        let total = B::float_add(B::float_sum_dim(counted, 2), B::float_sum_dim(target.clone(), 2));
        Self { shifted, log_sum: B::float_log(sum), probability, target, labelled, intersection, total }
    }
}

/// `[batch, class, 1]` with 0 for background and `1 / foreground classes` for the others.
fn class_weights<B: Backend>(like: &FloatTensor<B>) -> FloatTensor<B> {
    let classes = like.shape()[1];
    let mut weights = vec![1.0 / (classes.max(2) - 1) as f32; classes];
    weights[0] = 0.0;
    B::float_from_data(TensorData::new(weights, [1, classes, 1]), &like.device())
}

pub fn loss<B: Backend>(logits: FloatTensor<B>, spec: LossSpec) -> FloatTensor<B> {
    let batch = logits.shape()[0];
    let soft = Softmax::<B>::new(logits, &spec);
    let smooth = Scalar::from(SMOOTH);
    let upper = B::float_add_scalar(B::float_mul_scalar(soft.intersection, Scalar::from(2.0f32)), smooth);
    let dice = B::float_div(upper, B::float_add_scalar(soft.total, smooth));
    let dice = B::float_sum_dim(B::float_mul(dice.clone(), class_weights::<B>(&dice)), 1);
    let chosen = B::float_sum_dim(B::float_mul(soft.target, soft.shifted), 1);
    let entropy = B::float_sum_dim(B::float_sub(B::float_mul(soft.log_sum, soft.labelled), chosen), 2);
    let loss = B::float_sub(
        B::float_mul_scalar(entropy, Scalar::from(spec.cross_entropy)),
        B::float_mul_scalar(dice, Scalar::from(spec.dice)),
    );
    reshape::<B, 1>(loss, [batch])
}

pub fn loss_gradient<B: Backend>(logits: FloatTensor<B>, upstream: FloatTensor<B>, spec: LossSpec) -> FloatTensor<B> {
    let (dtype, shape) = (logits.dtype(), logits.shape());
    let soft = Softmax::<B>::new(logits, &spec);
    let smooth = Scalar::from(SMOOTH);
    // d(-Dice)/dp = (2I + e) / T^2 - 2 onehot / T with T = P + G + e, on labelled voxels.
    let total = B::float_add_scalar(soft.total, smooth);
    let upper = B::float_add_scalar(B::float_mul_scalar(soft.intersection, Scalar::from(2.0f32)), smooth);
    let weights = B::float_mul_scalar(class_weights::<B>(&total), Scalar::from(spec.dice));
    let flat = B::float_mul(B::float_div(upper, B::float_mul(total.clone(), total.clone())), weights.clone());
    let peak = B::float_mul_scalar(B::float_div(weights, total), Scalar::from(2.0f32));
    let slope = B::float_sub(B::float_mul(soft.labelled.clone(), flat), B::float_mul(soft.target.clone(), peak));
    let mean = B::float_sum_dim(B::float_mul(slope.clone(), soft.probability.clone()), 1);
    let dice = B::float_mul(soft.probability.clone(), B::float_sub(slope, mean));
    let entropy = B::float_sub(B::float_mul(soft.probability, soft.labelled), soft.target);
    let gradient = B::float_add(dice, B::float_mul_scalar(entropy, Scalar::from(spec.cross_entropy)));
    let upstream = reshape::<B, 3>(wide::<B>(upstream), [shape[0], 1, 1]);
    let gradient = B::float_mul_scalar(B::float_mul(gradient, upstream), Scalar::from(spec.gradient_scale));
    cast::<B>(B::float_reshape(gradient, shape), dtype)
}

fn times<B: Backend>(tensor: FloatTensor<B>, factor: f64) -> FloatTensor<B> {
    B::float_mul_scalar(tensor, Scalar::Float(factor))
}

/// The magnitude is the largest absolute value, so that no square overflows.
pub fn square_sum<B: Backend>(gradient: FloatTensor<B>) -> FloatTensor<B> {
    let largest = B::float_max(B::float_abs(gradient.clone()));
    let largest = B::float_clamp_min(largest, Scalar::Float(f64::from(f32::MIN_POSITIVE)));
    let scaled = B::float_div(gradient, largest.clone());
    B::float_cat(vec![largest, B::float_sum(B::float_mul(scaled.clone(), scaled))], 0)
}

pub fn sgd<B: Backend>(
    value: FloatTensor<B>,
    gradient: FloatTensor<B>,
    velocity: FloatTensor<B>,
    SgdSpec { update, momentum }: SgdSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let gradient = times::<B>(gradient, update.factor);
    let gradient = B::float_add(gradient, times::<B>(value.clone(), update.decay));
    let velocity = B::float_add(times::<B>(velocity, momentum), gradient.clone());
    let step = B::float_add(gradient, times::<B>(velocity.clone(), momentum));
    (B::float_sub(value, times::<B>(step, update.rate)), velocity)
}

pub fn adamw<B: Backend>(
    value: FloatTensor<B>,
    gradient: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    AdamwSpec { update, betas, corrections, epsilon }: AdamwSpec,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let gradient = times::<B>(gradient, update.factor);
    let value = times::<B>(value, 1.0 - update.rate * update.decay);
    let mix = |old, new, beta| B::float_add(times::<B>(old, beta), times::<B>(new, 1.0 - beta));
    let square = B::float_mul(gradient.clone(), gradient.clone());
    let (first, second) = (mix(first, gradient, betas[0]), mix(second, square, betas[1]));
    let root = B::float_sqrt(B::float_div_scalar(second.clone(), Scalar::Float(corrections[1])));
    let divisor = B::float_add_scalar(root, Scalar::Float(epsilon));
    let step = B::float_div(B::float_div_scalar(first.clone(), Scalar::Float(corrections[0])), divisor);
    (B::float_sub(value, times::<B>(step, update.rate)), first, second)
}
