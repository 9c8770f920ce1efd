//! One update of the weights: clip by the global norm, then SGD with Nesterov momentum or AdamW.
//!
//! The rules are PyTorch's, on flat f32 tensors ([`ops::sgd`], [`ops::adamw`]); the state has names, so that a checkpoint
//! holds it and any program can read it. (Burn's optimizers keep SGD's velocity to themselves and clip each tensor by its own norm.)
use burn::tensor::{Tensor, TensorData};

use crate::config::OptimizerName;
use crate::network::{Parameter, host};
use crate::ops::{self, AdamwSpec, SgdSpec, UpdateSpec};

/// nnU-Net's Nesterov momentum.
const MOMENTUM: f64 = 0.99;
const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

/// The rule and what it remembers.
pub struct Optimizer {
    /// SGD or AdamW.
    pub rule: OptimizerName,
    /// As `train.weight_decay`.
    pub weight_decay: f64,
    /// Updates made.
    pub updates: u64,
    /// Per parameter: `velocity`, or `first` and `second` moment. Empty before the first update.
    state: Vec<Vec<Tensor<1>>>,
}

impl Optimizer {
    /// Without state: the first update makes it.
    pub fn new(rule: OptimizerName, weight_decay: f64) -> Self {
        Self { rule, weight_decay, updates: 0, state: Vec::new() }
    }

    /// Makes the state of the first update beforehand, or takes new memory for what is there: what stays should not come to
    /// lie between what goes.
    pub fn reserve(&mut self, parameters: &[Parameter]) {
        let tensors = self.state_names().len();
        self.state.resize_with(parameters.len(), Vec::new);
        for (parameter, state) in parameters.iter().zip(&mut self.state) {
            for tensor in state.iter_mut() {
                let values = host(tensor);
                let length = values.len();
                *tensor = Tensor::from_data(TensorData::new(values, [length]), &tensor.device());
            }
            state.resize_with(tensors, || zeros(&parameter.value));
        }
    }

    /// Whether there is a state to move, from updates made here or before a checkpoint.
    pub fn has_state(&self) -> bool {
        !self.state.is_empty()
    }

    /// What each parameter's state tensors are called.
    pub fn state_names(&self) -> &'static [&'static str] {
        match self.rule {
            OptimizerName::Sgd => &["velocity"],
            OptimizerName::Adamw => &["first_moment", "second_moment"],
        }
    }

    /// The state: per parameter, per name.
    pub fn tensors(&self) -> &[Vec<Tensor<1>>] {
        &self.state
    }

    /// The same on the host.
    pub fn state(&self) -> Vec<Vec<Vec<f32>>> {
        self.state.iter().map(|tensors| tensors.iter().map(host).collect()).collect()
    }

    /// Puts back what [`Self::state`] gave, after `updates` updates.
    pub fn restore(&mut self, parameters: &[Parameter], state: Vec<Vec<Vec<f32>>>, updates: u64) {
        self.updates = updates;
        self.state = parameters
            .iter()
            .zip(state)
            .map(|(parameter, tensors)| {
                let device = parameter.value.device();
                let put = |values: Vec<f32>| {
                    let length = values.len();
                    Tensor::from_data(TensorData::new(values, [length]), &device)
                };
                tensors.into_iter().map(put).collect()
            })
            .collect();
    }

    /// Updates every parameter; `gradients` are in the order of `parameters`, and multiplied by `factor` first: that
    /// undoes the loss scale, and clips.
    pub fn update(&mut self, parameters: &mut [Parameter], gradients: Vec<Tensor<1>>, factor: f64, learning_rate: f64) {
        self.updates += 1;
        self.state.resize_with(parameters.len(), Vec::new);
        let update = UpdateSpec { rate: learning_rate, decay: self.weight_decay, factor };
        let corrections = BETAS.map(|beta| 1.0 - libm::pow(beta, self.updates as f64));
        for ((parameter, gradient), state) in parameters.iter_mut().zip(gradients).zip(&mut self.state) {
            let first = || zeros(&gradient);
            // Taken out, so that the only handles are here and the arithmetic runs in place.
            let value = std::mem::replace(&mut parameter.value, Tensor::zeros([1], &gradient.device()));
            let mut old = state.drain(..);
            let mut next = || old.next().unwrap_or_else(first);
            match self.rule {
                OptimizerName::Sgd => {
                    let velocity = next();
                    drop(old);
                    let (value, velocity) = ops::sgd(value, gradient, velocity, SgdSpec { update, momentum: MOMENTUM });
                    parameter.value = value;
                    state.push(velocity);
                }
                OptimizerName::Adamw => {
                    let moments = [next(), next()];
                    drop(old);
                    let spec = AdamwSpec { update, betas: BETAS, corrections, epsilon: EPSILON };
                    let [value, first, second] = ops::adamw(value, gradient, moments, spec);
                    parameter.value = value;
                    state.extend([first, second]);
                }
            }
        }
    }
}

/// Zeros in the form of a flat tensor. Not by `Tensor::zeros`, which makes a copy.
fn zeros(like: &Tensor<1>) -> Tensor<1> {
    let [length] = like.dims();
    Tensor::from_data(TensorData::new(vec![0.0f32; length], [length]), &like.device())
}

/// The norm over all gradients, in f64, summed in their order; not finite where one of them is not.
pub fn global_norm(gradients: &[Tensor<1>]) -> f64 {
    let square = |gradient: &Tensor<1>| {
        let values = ops::square_sum(gradient.clone()).to_data().convert::<f64>().try_into_vec::<f64>();
        values.map_or(f64::NAN, |values| values.first().map_or(0.0, |m| m * m) * values.get(1).unwrap_or(&0.0))
    };
    gradients.iter().map(square).sum::<f64>().sqrt()
}

/// What to multiply a gradient of this norm by so that it is at most `limit` (PyTorch's `clip_grad_norm_`).
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

/// nnU-Net's polynomial schedule, by step: `initial * (1 - step / steps) ^ 0.9`; over the first `warmup` steps times
/// `(step + 1) / warmup`, so that AdamW's second moments have seen something before steps are large.
pub fn learning_rate(initial: f64, step: u64, steps: u64, warmup: u64) -> f64 {
    let risen = (step.saturating_add(1) as f64 / warmup.max(1) as f64).min(1.0);
    initial * risen * libm::pow(1.0 - step as f64 / steps.max(1) as f64, 0.9)
}
