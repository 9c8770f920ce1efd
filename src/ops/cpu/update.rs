//! One update of the weights, and the size of a gradient: each reads and writes every number once.
//!
//! The arithmetic is that of PyTorch's rules step by step, each step rounded, so that the bits are those of the same
//! rules made of whole-tensor operations.
use rayon::prelude::*;

use super::isa::{Isa, Kernel, LANES, Lanes, dispatch};
use crate::ops::spec::{AdamwSpec, SgdSpec};

/// Numbers that are worked on together; sums are made of the sums of such stretches, in their order.
const STRETCH: usize = 1 << 14;

/// The sum of squares, in f64.
pub fn square_sum(isa: Isa, values: &[f32]) -> f64 {
    let sums: Vec<f64> = values.par_chunks(STRETCH).map(|stretch| dispatch(isa, Squares(stretch))).collect();
    sums.into_iter().sum()
}

/// Updates `value` and `velocity` where they lie; all are of one length.
pub fn sgd(isa: Isa, value: &mut [f32], gradient: &[f32], velocity: &mut [f32], spec: SgdSpec) {
    let stretches = value.par_chunks_mut(STRETCH).zip(velocity.par_chunks_mut(STRETCH));
    stretches.zip(gradient.par_chunks(STRETCH)).for_each(|((value, velocity), gradient)| {
        dispatch(isa, Sgd { value, gradient, velocity, spec });
    });
}

/// Updates `value` and both moments where they lie; all are of one length.
pub fn adamw(isa: Isa, value: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], spec: AdamwSpec) {
    let moments = first.par_chunks_mut(STRETCH).zip(second.par_chunks_mut(STRETCH));
    let stretches = value.par_chunks_mut(STRETCH).zip(moments);
    stretches.zip(gradient.par_chunks(STRETCH)).for_each(|((value, (first, second)), gradient)| {
        dispatch(isa, Adamw { value, gradient, first, second, spec });
    });
}

/// Takes `value` into its moving `average`; both are of one length.
pub fn ema(isa: Isa, average: &mut [f32], value: &[f32], decay: f64) {
    average.par_chunks_mut(STRETCH).zip(value.par_chunks(STRETCH)).for_each(|(average, value)| {
        dispatch(isa, Ema { average, value, decay });
    });
}

/// Writes zeros.
pub fn zero(values: &mut [f32]) {
    values.par_chunks_mut(STRETCH).for_each(|stretch| stretch.fill(0.0));
}

/// Adds `values` to `sum`; both are of one length.
pub fn add(sum: &mut [f32], values: &[f32]) {
    sum.par_chunks_mut(STRETCH).zip(values.par_chunks(STRETCH)).for_each(|(sum, values)| {
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    });
}

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Output = f64;
    /// Eight sums side by side: lanes `i` and `i + 8` one after the other.
    #[inline(always)]
    fn run<L: Lanes>(self) -> f64 {
        let mut sums = [0.0f64; LANES / 2];
        for eight in self.0.chunks(LANES / 2) {
            for (sum, value) in sums.iter_mut().zip(eight) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
        sums.into_iter().sum()
    }
}

/// Up to sixteen values, zeros after them.
#[inline(always)]
fn load<L: Lanes>(values: &[f32]) -> L {
    match values.first_chunk() {
        Some(values) => L::load(values),
        None => {
            let mut padded = [0.0; LANES];
            padded[..values.len()].copy_from_slice(values);
            L::load(&padded)
        }
    }
}

/// As many lanes as there are values.
#[inline(always)]
fn store<L: Lanes>(lanes: L, values: &mut [f32]) {
    match values.first_chunk_mut() {
        Some(values) => lanes.store(values),
        None => {
            let mut padded = [0.0; LANES];
            lanes.store(&mut padded);
            values.copy_from_slice(&padded[..values.len()]);
        }
    }
}

struct Sgd<'a> {
    value: &'a mut [f32],
    gradient: &'a [f32],
    velocity: &'a mut [f32],
    spec: SgdSpec,
}

impl Kernel for Sgd<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let SgdSpec { update, momentum } = self.spec;
        let [rate, decay, factor, momentum] =
            [update.rate, update.decay, update.factor, momentum].map(|number| L::splat(number as f32));
        let lanes = self.value.chunks_mut(LANES).zip(self.velocity.chunks_mut(LANES));
        for ((value, velocity), gradient) in lanes.zip(self.gradient.chunks(LANES)) {
            let old: L = load(value);
            let gradient = load::<L>(gradient).mul(factor).add(old.mul(decay));
            let new = load::<L>(velocity).mul(momentum).add(gradient);
            store(new, velocity);
            store(old.sub(gradient.add(new.mul(momentum)).mul(rate)), value);
        }
    }
}

struct Adamw<'a> {
    value: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    spec: AdamwSpec,
}

impl Kernel for Adamw<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let AdamwSpec { update, betas, corrections, epsilon } = self.spec;
        let splat = |number: f64| number as f32;
        let (rate, factor) = (L::splat(splat(update.rate)), L::splat(splat(update.factor)));
        let kept = L::splat(splat(1.0 - update.rate * update.decay));
        let (beta, other) = (betas.map(splat), betas.map(|beta| splat(1.0 - beta)));
        let corrections = corrections.map(splat);
        let epsilon = L::splat(splat(epsilon));
        let moments = self.first.chunks_mut(LANES).zip(self.second.chunks_mut(LANES));
        let lanes = self.value.chunks_mut(LANES).zip(moments);
        for ((value, (first, second)), gradient) in lanes.zip(self.gradient.chunks(LANES)) {
            let gradient = load::<L>(gradient).mul(factor);
            let square = gradient.mul(gradient);
            let a = load::<L>(first).mul(L::splat(beta[0])).add(gradient.mul(L::splat(other[0])));
            let b = load::<L>(second).mul(L::splat(beta[1])).add(square.mul(L::splat(other[1])));
            let divisor = b.div(L::splat(corrections[1])).sqrt().add(epsilon);
            let step = a.div(L::splat(corrections[0])).div(divisor);
            store(load::<L>(value).mul(kept).sub(step.mul(rate)), value);
            store(a, first);
            store(b, second);
        }
    }
}

struct Ema<'a> {
    average: &'a mut [f32],
    value: &'a [f32],
    decay: f64,
}

impl Kernel for Ema<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let [kept, taken] = [self.decay, 1.0 - self.decay].map(|share| L::splat(share as f32));
        for (average, value) in self.average.chunks_mut(LANES).zip(self.value.chunks(LANES)) {
            store(load::<L>(average).mul(kept).add(load::<L>(value).mul(taken)), average);
        }
    }
}
