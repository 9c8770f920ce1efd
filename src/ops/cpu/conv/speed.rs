//! How fast a convolution is on this machine, measured.
use std::time::Instant;

use super::{ConvShape, Part, PartMut};
use crate::ops::cpu::element::Element;
use crate::ops::cpu::isa::Isa;

/// Seconds of a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seconds {
    /// Of the output.
    pub forward: f64,
    /// Of the input's gradient.
    pub input_gradient: f64,
    /// Of weights and bias.
    pub weight_gradient: f64,
}

impl Seconds {
    /// All three.
    pub fn total(self) -> f64 {
        self.forward + self.input_gradient + self.weight_gradient
    }
}

/// The best of some runs, after one that warms up; memory is kept between runs where the caller keeps the pool.
pub fn measure<E: Element>(isa: Isa, shape: &ConvShape, repeats: usize) -> Seconds {
    // Numbers without a pattern that a processor could profit from.
    let values = |count: usize| -> Vec<f32> { (0..count).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect() };
    let stored = |count: usize| -> Vec<E> { values(count).into_iter().map(E::from_f32).collect() };
    let input = stored(shape.batch * shape.in_channels * shape.in_voxels());
    let gradient = stored(shape.batch * shape.out_channels * shape.out_voxels());
    let (weights, bias) = (values(shape.weights()), values(shape.out_channels));
    let (mut output, mut result) = (gradient.clone(), input.clone());
    let (mut weight_sum, mut bias_sum) = (weights.clone(), bias.clone());
    let best = |work: &mut dyn FnMut()| {
        let mut run = || {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        };
        (0..=repeats).map(|_| run()).fold(f64::INFINITY, f64::min)
    };
    let source = [Part { values: &input[..], channels: shape.in_channels, maps: None }];
    let upstream = [Part { values: &gradient[..], channels: shape.out_channels, maps: None }];
    Seconds {
        forward: best(&mut || super::forward(isa, shape, &source, &weights, Some(&bias), &mut output)),
        input_gradient: best(&mut || {
            let mut target = [PartMut { values: &mut result[..], channels: shape.in_channels }];
            super::input_gradient(isa, shape, &upstream, &weights, None, &mut target);
        }),
        weight_gradient: best(&mut || {
            super::add_parameter_gradients(isa, shape, &source, &gradient, &mut weight_sum, &mut bias_sum);
        }),
    }
}
