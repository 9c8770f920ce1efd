//! Norms, and what is read through them.
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Scalar, Shape, Slice};

use super::super::cpu::norm::Groups;
use super::super::spec::NormSpec;
use super::{cast, reshape, row_sums, wide};

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
