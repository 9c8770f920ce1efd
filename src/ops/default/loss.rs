//! Softmax, Dice and cross-entropy.
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Scalar, TensorData};

use super::super::cpu::loss::SMOOTH;
use super::super::spec::LossSpec;
use super::{cast, reshape, wide};

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
