//! The operations made of Burn's own: the bodies that every device without its own runs.
//!
//! Convolutions run in the activation type, everything that sums runs in f32. Parameter gradients of a micro-batch are
//! summed by the device, so here their bits may depend on the micro-batch.
mod loss;
mod norm;
mod residual;
mod update;

use std::ops::Range;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, Shape, Slice};

use super::spec::{ConvSpec, UpsampleSpec};
pub use loss::{loss, loss_gradient, loss_sums};
pub use norm::{norm_act_gradient, norm_map, norm_statistics, read};
pub use residual::{add_act, add_act_gradient, average, average_gradient};
pub use update::{adamw, ema, sgd, square_sum};

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
