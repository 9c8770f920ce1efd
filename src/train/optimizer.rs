//! One update of the weights: clip by the global norm, then SGD with Nesterov momentum or AdamW; and their average.
//!
//! The rules are PyTorch's, on flat f32 tensors ([`ops::sgd`], [`ops::adamw`]); the state has names, so that a checkpoint
//! holds it and any program can read it. (Burn's optimizers keep SGD's velocity to themselves and clip each tensor by its own norm.)
use burn::tensor::{Tensor, TensorData};

use crate::config::{OptimizerName, Schedule};
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
    /// As `train.ema_decay`.
    pub ema_decay: f64,
    /// Updates made.
    pub updates: u64,
    /// Per parameter: `velocity`, or `first` and `second` moment; then the average of its values, where there is to be one.
    /// Empty before the first update.
    state: Vec<Vec<Tensor<1>>>,
}

impl Optimizer {
    /// Without state: the first update makes it.
    pub fn new(rule: OptimizerName, weight_decay: f64) -> Self {
        Self { rule, weight_decay, ema_decay: 0.0, updates: 0, state: Vec::new() }
    }

    /// The same with an average of the weights; with a decay of 0 without one.
    pub fn averaging(self, ema_decay: f64) -> Self {
        Self { ema_decay, ..self }
    }

    fn averages(&self) -> bool {
        self.ema_decay > 0.0
    }

    /// Exchanges the parameters' values and their averages, where there are averages.
    pub fn exchange_averages(&mut self, parameters: &mut [Parameter]) {
        if self.averages() {
            for (parameter, state) in parameters.iter_mut().zip(&mut self.state) {
                state.last_mut().into_iter().for_each(|average| std::mem::swap(average, &mut parameter.value));
            }
        }
    }

    /// Makes the state of the first update beforehand, or takes new memory for what is there: what stays should not come to
    /// lie between what goes.
    pub fn reserve(&mut self, parameters: &[Parameter]) {
        let moments = self.state_names().len() - usize::from(self.averages());
        let averages = self.averages();
        self.state.resize_with(parameters.len(), Vec::new);
        for (parameter, state) in parameters.iter().zip(&mut self.state) {
            for tensor in state.iter_mut() {
                *tensor = copy(tensor);
            }
            if state.is_empty() {
                state.resize_with(moments, || zeros(&parameter.value));
                state.extend(averages.then(|| copy(&parameter.value)));
            }
        }
    }

    /// Whether there is a state to move, from updates made here or before a checkpoint.
    pub fn has_state(&self) -> bool {
        !self.state.is_empty()
    }

    /// What each parameter's state tensors are called in a checkpoint. There the averages are the weights, and in their place
    /// among the state is what steps go on from.
    pub fn state_names(&self) -> &'static [&'static str] {
        match (self.rule, self.averages()) {
            (OptimizerName::Sgd, false) => &["velocity"],
            (OptimizerName::Sgd, true) => &["velocity", "trained"],
            (OptimizerName::Adamw, false) => &["first_moment", "second_moment"],
            (OptimizerName::Adamw, true) => &["first_moment", "second_moment", "trained"],
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
        let averages = self.averages();
        let ema_decay = ema_decay(self.ema_decay, self.updates);
        let corrections = BETAS.map(|beta| 1.0 - libm::pow(beta, self.updates as f64));
        for ((parameter, gradient), state) in parameters.iter_mut().zip(gradients).zip(&mut self.state) {
            let average = averages.then(|| state.pop().unwrap_or_else(|| copy(&parameter.value)));
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
            state.extend(average.map(|average| ops::ema(average, parameter.value.clone(), ema_decay)));
        }
    }
}

/// Zeros in the form of a flat tensor. Not by `Tensor::zeros`, which makes a copy.
fn zeros(like: &Tensor<1>) -> Tensor<1> {
    let [length] = like.dims();
    Tensor::from_data(TensorData::new(vec![0.0f32; length], [length]), &like.device())
}

/// In memory of its own.
fn copy(tensor: &Tensor<1>) -> Tensor<1> {
    let values = host(tensor);
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), &tensor.device())
}

/// The decay of the average at update `update`, from 1: what is there before there are many must not weigh for long
/// (`num_updates` of TensorFlow's `ExponentialMovingAverage`).
fn ema_decay(decay: f64, update: u64) -> f64 {
    decay.min((1.0 + update as f64) / (10.0 + update as f64))
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

/// The rate of `step`, from 0: `initial` times the schedule's factor, over the first `warmup` steps times
/// `(step + 1) / warmup`, so that AdamW's second moments have seen something before steps are large.
pub fn learning_rate(schedule: Schedule, initial: f64, step: u64, steps: u64, warmup: u64) -> f64 {
    let risen = (step.saturating_add(1) as f64 / warmup.max(1) as f64).min(1.0);
    let done = step as f64 / steps.max(1) as f64;
    let factor = match schedule {
        Schedule::Poly => libm::pow(1.0 - done, 0.9),
        Schedule::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done)),
        Schedule::Constant => 1.0,
    };
    initial * risen * factor
}
