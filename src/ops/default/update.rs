//! The size of a gradient, one update of the weights, and their average.
use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Scalar;

use super::super::spec::{AdamwSpec, SgdSpec};

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

pub fn ema<B: Backend>(average: FloatTensor<B>, value: FloatTensor<B>, decay: f64) -> FloatTensor<B> {
    B::float_add(times::<B>(average, decay), times::<B>(value, 1.0 - decay))
}
