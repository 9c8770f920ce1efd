//! Softmax, or a sigmoid for each region, with Dice and cross-entropy.
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Scalar, Shape, TensorData};

use super::super::cpu::loss::{ClassSums, SMOOTH};
use super::super::spec::LossSpec;
use super::{cast, reshape, wide};

/// What both passes of the loss need, all in f32. A class may be a region.
struct Soft<B: Backend> {
    /// `[batch, class, voxel]`.
    probability: FloatTensor<B>,
    /// `[batch, class, voxel]`: 1 where the label is of the class.
    target: FloatTensor<B>,
    /// `[batch, 1, voxel]`: 1 where a voxel counts.
    labelled: FloatTensor<B>,
    /// Cross-entropy, `[batch, 1, 1]`.
    entropy: FloatTensor<B>,
    /// I, P and G, each `[batch, class, 1]`.
    sums: [FloatTensor<B>; 3],
}

impl<B: Backend> Soft<B> {
    fn new(logits: FloatTensor<B>, spec: &LossSpec) -> Self {
        let shape = logits.shape();
        let (batch, classes, voxels) = (shape[0], shape[1], shape[2] * shape[3] * shape[4]);
        let [target, labelled] = targets::<B>(&logits, spec, [batch, classes, voxels]);
        let logits = reshape::<B, 3>(wide::<B>(logits), [batch, classes, voxels]);
        let (probability, entropy) = match spec.regions {
            None => softmax::<B>(logits, &target, &labelled),
            Some(_) => sigmoid::<B>(logits, &target, &labelled),
        };
        let entropy = B::float_sum_dim(entropy, 2);
        let counted = B::float_mul(probability.clone(), labelled.clone());
        let intersection = B::float_sum_dim(B::float_mul(counted.clone(), target.clone()), 2);
        let sums = [intersection, B::float_sum_dim(counted, 2), B::float_sum_dim(target.clone(), 2)];
        Self { probability, target, labelled, entropy, sums }
    }

    /// `2 I + e` and `P + G + e` of what Dice is taken over: each sample, or all of the effective batch.
    fn dice_over(&self, spec: &LossSpec) -> [FloatTensor<B>; 2] {
        let [intersection, probability, label] = match &spec.totals {
            None => self.sums.clone(),
            Some(totals) => {
                let from = usize::from(spec.regions.is_some());
                let numbers = |sums: &ClassSums| [sums.intersection, sums.probability, sums.label];
                [0, 1, 2].map(|which| {
                    let values: Vec<f32> =
                        totals.classes[from..].iter().map(|sums| numbers(sums)[which] as f32).collect();
                    let shape = [1, values.len(), 1];
                    B::float_from_data(TensorData::new(values, shape), &self.target.device())
                })
            }
        };
        let smooth = Scalar::from(SMOOTH);
        let upper = B::float_add_scalar(B::float_mul_scalar(intersection, Scalar::from(2.0f32)), smooth);
        [upper, B::float_add_scalar(B::float_add(probability, label), smooth)]
    }

    /// What the Dice of each class counts in their mean, `[1, class, 1]`: nothing for the background.
    fn class_weights(&self, spec: &LossSpec) -> FloatTensor<B> {
        let classes = self.target.shape()[1];
        let counted = if spec.regions.is_some() { classes } else { classes.max(2) - 1 };
        let mut weights = vec![1.0 / counted as f32; classes];
        if spec.regions.is_none() {
            weights[0] = 0.0;
        }
        B::float_from_data(TensorData::new(weights, [1, classes, 1]), &self.target.device())
    }
}

/// `[batch, class, voxel]` and `[batch, 1, voxel]`; see [`Soft`].
fn targets<B: Backend>(
    logits: &FloatTensor<B>,
    spec: &LossSpec,
    [batch, classes, voxels]: [usize; 3],
) -> [FloatTensor<B>; 2] {
    let mut target = vec![0.0f32; batch * classes * voxels];
    let mut labelled = vec![0.0f32; batch * voxels];
    for (at, value) in spec.target.iter().enumerate() {
        if Some(*value) == spec.ignore {
            continue;
        }
        let (sample, voxel) = (at / voxels, at % voxels);
        let mut set = |class: usize| target[(sample * classes + class) * voxels + voxel] = 1.0;
        match &spec.regions {
            None if usize::from(*value) < classes => set(usize::from(*value)),
            None => continue,
            Some(regions) => {
                regions
                    .iter()
                    .enumerate()
                    .filter(|(_, values)| values.contains(value))
                    .for_each(|(region, _)| set(region));
            }
        }
        labelled[at] = 1.0;
    }
    let tensor = |values, shape: [usize; 3]| B::float_from_data(TensorData::new(values, shape), &logits.device());
    [tensor(target, [batch, classes, voxels]), tensor(labelled, [batch, 1, voxels])]
}

/// Probabilities, and cross-entropy `[batch, 1, voxel]`.
fn softmax<B: Backend>(
    logits: FloatTensor<B>,
    target: &FloatTensor<B>,
    labelled: &FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shifted = B::float_sub(logits.clone(), B::float_max_dim(logits, 1));
    let exponential = B::float_exp(shifted.clone());
    let sum = B::float_sum_dim(exponential.clone(), 1);
    let chosen = B::float_sum_dim(B::float_mul(target.clone(), shifted), 1);
    let entropy = B::float_sub(B::float_mul(B::float_log(sum.clone()), labelled.clone()), chosen);
    (B::float_div(exponential, sum), entropy)
}

/// Probabilities, and cross-entropy `[batch, 1, voxel]` summed over regions.
fn sigmoid<B: Backend>(
    logits: FloatTensor<B>,
    target: &FloatTensor<B>,
    labelled: &FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let soft = B::float_log1p(B::float_exp(B::float_neg(B::float_abs(logits.clone()))));
    // max(x, 0) as (x + |x|) / 2
    let positive = B::float_add(logits.clone(), B::float_abs(logits.clone()));
    let positive = B::float_mul_scalar(positive, Scalar::from(0.5f32));
    let entropy = B::float_add(B::float_sub(positive, B::float_mul(target.clone(), logits.clone())), soft);
    let entropy = B::float_mul(B::float_sum_dim(entropy, 1), labelled.clone());
    let below = B::float_add_scalar(B::float_exp(B::float_neg(logits)), Scalar::from(1.0f32));
    (B::float_recip(below), entropy)
}

pub fn loss<B: Backend>(logits: FloatTensor<B>, spec: LossSpec) -> FloatTensor<B> {
    let batch = logits.shape()[0];
    let soft = Soft::<B>::new(logits, &spec);
    let [upper, total] = soft.dice_over(&spec);
    let dice = B::float_mul(B::float_div(upper, total), soft.class_weights(&spec));
    let loss = B::float_sub(
        B::float_mul_scalar(soft.entropy, Scalar::from(spec.cross_entropy)),
        B::float_mul_scalar(B::float_sum_dim(dice, 1), Scalar::from(spec.dice)),
    );
    reshape::<B, 1>(loss, [batch])
}

/// `[batch, class, 3]`, with regions behind an empty class.
pub fn loss_sums<B: Backend>(logits: FloatTensor<B>, spec: LossSpec) -> FloatTensor<B> {
    let batch = logits.shape()[0];
    let device = logits.device();
    let sums = B::float_cat(Soft::<B>::new(logits, &spec).sums.to_vec(), 2);
    if spec.regions.is_none() {
        return sums;
    }
    let dtype = sums.dtype();
    B::float_cat(vec![B::float_zeros(Shape::new([batch, 1, 3]), &device, dtype.into()), sums], 1)
}

pub fn loss_gradient<B: Backend>(logits: FloatTensor<B>, upstream: FloatTensor<B>, spec: LossSpec) -> FloatTensor<B> {
    let (dtype, shape) = (logits.dtype(), logits.shape());
    let soft = Soft::<B>::new(logits, &spec);
    // d(-Dice)/dp = (2I + e) / T^2 - 2 onehot / T with T = P + G + e, on labelled voxels.
    let [upper, total] = soft.dice_over(&spec);
    let samples_of_dice = spec.totals.as_ref().map_or(1, |totals| totals.samples);
    let weights = B::float_mul_scalar(soft.class_weights(&spec), Scalar::from(spec.dice * samples_of_dice as f64));
    let flat = B::float_mul(B::float_div(upper, B::float_mul(total.clone(), total.clone())), weights.clone());
    let peak = B::float_mul_scalar(B::float_div(weights, total), Scalar::from(2.0f32));
    let slope = B::float_sub(B::float_mul(soft.labelled.clone(), flat), B::float_mul(soft.target.clone(), peak));
    let p = soft.probability;
    let dice = match spec.regions {
        None => {
            let mean = B::float_sum_dim(B::float_mul(slope.clone(), p.clone()), 1);
            B::float_mul(p.clone(), B::float_sub(slope, mean))
        }
        Some(_) => B::float_mul(B::float_sub(p.clone(), B::float_mul(p.clone(), p.clone())), slope),
    };
    let entropy = B::float_sub(B::float_mul(p, soft.labelled), soft.target);
    let gradient = B::float_add(dice, B::float_mul_scalar(entropy, Scalar::from(spec.cross_entropy)));
    let upstream = reshape::<B, 3>(wide::<B>(upstream), [shape[0], 1, 1]);
    let gradient = B::float_mul_scalar(B::float_mul(gradient, upstream), Scalar::from(spec.gradient_scale));
    cast::<B>(B::float_reshape(gradient, shape), dtype)
}
