//! The sum of two paths with its activation, and averages.
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Scalar, Shape};

use super::super::spec::{AddSpec, PoolSpec};
use super::{cast, read, reshape, wide};

pub fn add_act<B: Backend>(paths: [(FloatTensor<B>, FloatTensor<B>); 2], spec: AddSpec) -> FloatTensor<B> {
    let [(a, a_map), (b, b_map)] = paths;
    let dtype = a.dtype();
    let [a, b] = [read::<B>(a, a_map, spec.slopes[0]), read::<B>(b, b_map, spec.slopes[1])].map(wide::<B>);
    cast::<B>(B::leaky_relu(B::float_add(a, b), Scalar::from(spec.slope)), dtype)
}

/// From the sum, activated, which has the sign of the sum.
pub fn add_act_gradient<B: Backend>(sum: FloatTensor<B>, gradient: FloatTensor<B>, spec: AddSpec) -> FloatTensor<B> {
    let dtype = gradient.dtype();
    let bool_type = burn::backend::get_or_init_device_settings::<B>(&sum.device()).bool_dtype;
    let above = B::float_greater_elem(wide::<B>(sum), Scalar::from(0.0f32), bool_type);
    let gradient = wide::<B>(gradient);
    let sloped = B::float_mul_scalar(gradient.clone(), Scalar::from(spec.slope));
    cast::<B>(B::float_mask_where(sloped, above, gradient), dtype)
}

pub fn average<B: Backend>(input: FloatTensor<B>, map: FloatTensor<B>, spec: PoolSpec) -> FloatTensor<B> {
    let (dtype, shape, [sz, sy, sx]) = (input.dtype(), input.shape(), spec.stride);
    let input = wide::<B>(read::<B>(input, map, spec.slope));
    let rows = shape[0] * shape[1];
    let [z, y, x] = [shape[2] / sz, shape[3] / sy, shape[4] / sx];
    // One axis after the other: each is split into cells, over which the mean is taken.
    let along_x = B::float_mean_dim(reshape::<B, 2>(input, [rows * shape[2] * shape[3] * x, sx]), 1);
    let along_y = B::float_mean_dim(reshape::<B, 3>(along_x, [rows * shape[2] * y, sy, x]), 1);
    let along_z = B::float_mean_dim(reshape::<B, 3>(along_y, [rows * z, sz, y * x]), 1);
    cast::<B>(reshape::<B, 5>(along_z, [shape[0], shape[1], z, y, x]), dtype)
}

pub fn average_gradient<B: Backend>(gradient: FloatTensor<B>, stride: [usize; 3]) -> FloatTensor<B> {
    let shape = gradient.shape();
    let (rows, [z, y, x], [sz, sy, sx]) = (shape[0] * shape[1], [shape[2], shape[3], shape[4]], stride);
    let share = 1.0 / (sz * sy * sx) as f32;
    let scaled = B::float_mul_scalar(gradient, Scalar::from(share));
    let spread = |tensor, shape: [usize; 3], times: usize| {
        B::float_expand(reshape::<B, 3>(tensor, shape), Shape::new([shape[0], times, shape[2]]))
    };
    let along_z = spread(scaled, [rows * z, 1, y * x], sz);
    let along_y = spread(along_z, [rows * z * sz * y, 1, x], sy);
    let along_x = reshape::<B, 2>(along_y, [rows * z * sz * y * sy * x, 1]);
    let along_x = B::float_expand(along_x, Shape::new([rows * z * sz * y * sy * x, sx]));
    reshape::<B, 5>(along_x, [shape[0], shape[1], z * sz, y * sy, x * sx])
}
