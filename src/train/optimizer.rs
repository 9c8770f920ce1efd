//! One update of the weights: clip by the global norm, then SGD with Nesterov momentum or AdamW.
//!
//! The rules are PyTorch's, on flat f32 tensors; the state has names, so that a checkpoint holds it and any program can
//! read it. (Burn's optimizers keep SGD's velocity to themselves and clip each tensor by its own norm.)
use burn::tensor::{Tensor, TensorData};

use crate::config::OptimizerName;
use crate::network::{Parameter, host};

/// nnU-Net's Nesterov momentum.
const MOMENTUM: f64 = 0.99;
const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

/// The rule and what it remembers.
pub struct Optimizer {
    pub rule: OptimizerName,
    pub weight_decay: f64,
    /// Updates made.
    pub updates: u64,
    /// Per parameter: `velocity`, or `first` and `second` moment. Empty before the first update.
    state: Vec<Vec<Tensor<1>>>,
}

impl Optimizer {
    pub fn new(rule: OptimizerName, weight_decay: f64) -> Self {
        Self { rule, weight_decay, updates: 0, state: Vec::new() }
    }

    /// What each parameter's state tensors are called.
    pub fn state_names(&self) -> &'static [&'static str] {
        match self.rule {
            OptimizerName::Sgd => &["velocity"],
            OptimizerName::Adamw => &["first_moment", "second_moment"],
        }
    }

    /// The state on the host: per parameter, per name.
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

    /// Updates every parameter; `gradients` are in the order of `parameters`.
    pub fn update(&mut self, parameters: &mut [Parameter], gradients: Vec<Tensor<1>>, learning_rate: f64) {
        self.updates += 1;
        self.state.resize_with(parameters.len(), Vec::new);
        for ((parameter, gradient), state) in parameters.iter_mut().zip(gradients).zip(&mut self.state) {
            let empty = Tensor::zeros([1], &gradient.device());
            // Taken out, so that the only handle is here and the arithmetic can run in place.
            let value = std::mem::replace(&mut parameter.value, empty);
            parameter.value = match self.rule {
                OptimizerName::Sgd => sgd(value, gradient, state, learning_rate, self.weight_decay),
                OptimizerName::Adamw => adamw(value, gradient, state, learning_rate, self.weight_decay, self.updates),
            };
        }
    }
}

fn sgd(value: Tensor<1>, gradient: Tensor<1>, state: &mut Vec<Tensor<1>>, rate: f64, decay: f64) -> Tensor<1> {
    let gradient = if decay == 0.0 { gradient } else { gradient + value.clone().mul_scalar(decay) };
    let velocity = match state.pop() {
        Some(velocity) => velocity.mul_scalar(MOMENTUM) + gradient.clone(),
        None => gradient.clone(),
    };
    let step = gradient + velocity.clone().mul_scalar(MOMENTUM);
    state.push(velocity);
    value - step.mul_scalar(rate)
}

fn adamw(
    value: Tensor<1>,
    gradient: Tensor<1>,
    state: &mut Vec<Tensor<1>>,
    rate: f64,
    decay: f64,
    update: u64,
) -> Tensor<1> {
    let value = value.mul_scalar(1.0 - rate * decay);
    let (second, first) = (state.pop(), state.pop());
    let square = gradient.clone() * gradient.clone();
    let mix = |old: Option<Tensor<1>>, new: Tensor<1>, beta: f64| match old {
        Some(old) => old.mul_scalar(beta) + new.mul_scalar(1.0 - beta),
        None => new.mul_scalar(1.0 - beta),
    };
    let first = mix(first, gradient, BETAS[0]);
    let second = mix(second, square, BETAS[1]);
    let corrections = BETAS.map(|beta| 1.0 - libm::pow(beta, update as f64));
    let scale = second.clone().div_scalar(corrections[1]).sqrt().add_scalar(EPSILON);
    let step = first.clone().div_scalar(corrections[0]) / scale;
    state.push(first);
    state.push(second);
    value - step.mul_scalar(rate)
}

/// The norm over all gradients, in f64, summed in their order; not finite where one of them is not.
pub fn global_norm(gradients: &[Tensor<1>]) -> f64 {
    let square = |gradient: &Tensor<1>| host(gradient).into_iter().map(|v| f64::from(v) * f64::from(v)).sum::<f64>();
    gradients.iter().map(square).sum::<f64>().sqrt()
}

/// Undoes the loss scale and clips: `factor` of every gradient.
pub fn scale(gradients: Vec<Tensor<1>>, factor: f64) -> Vec<Tensor<1>> {
    if factor == 1.0 { gradients } else { gradients.into_iter().map(|g| g.mul_scalar(factor)).collect() }
}

/// What to multiply a gradient of this norm by so that it is at most `limit` (PyTorch's `clip_grad_norm_`).
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

/// nnU-Net's polynomial schedule, by step: `initial * (1 - step / steps) ^ 0.9`.
pub fn learning_rate(initial: f64, step: u64, steps: u64) -> f64 {
    initial * libm::pow(1.0 - step as f64 / steps.max(1) as f64, 0.9)
}
