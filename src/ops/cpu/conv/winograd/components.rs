//! The sums around the products: of inputs, of results, and of the weights' two sides.
#![allow(clippy::needless_range_loop, reason = "small matrices are clearest by index, and unroll reliably")]
use super::COMPONENTS;
use super::grid::Grid;
use crate::ops::cpu::conv::block::{BACK, FRONT};
use crate::ops::cpu::element::{sixteen, sixteen_mut};
use crate::ops::cpu::isa::{Kernel, LANES, Lanes};

/// What the small matrices are applied to.
pub(super) trait Number: Copy {
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn half(self) -> Self;
}

/// So many numbers side by side, without asking for vectors.
impl<const N: usize> Number for [f32; N] {
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }
    #[inline(always)]
    fn half(self) -> Self {
        self.map(|value| 0.5 * value)
    }
}

/// A vector.
#[derive(Clone, Copy)]
pub(super) struct Vector<L>(pub L);

impl<L: Lanes> Number for Vector<L> {
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(self.0.add(other.0))
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self(self.0.sub(other.0))
    }
    #[inline(always)]
    fn half(self) -> Self {
        Self(self.0.mul(L::splat(0.5)))
    }
}

/// `B' d`.
#[inline(always)]
fn of_input<T: Number>([a, b, c, d]: [T; 4]) -> [T; 4] {
    [a.minus(c), b.plus(c), c.minus(b), b.minus(d)]
}

/// `G w`.
#[inline(always)]
fn of_weights<T: Number>([a, b, c]: [T; 3]) -> [T; 4] {
    let (ends, middle) = (a.plus(c).half(), b.half());
    [a, ends.plus(middle), ends.minus(middle), c]
}

/// `A' m`.
#[inline(always)]
fn result<T: Number>([a, b, c, d]: [T; 4]) -> [T; 2] {
    [a.plus(b).plus(c), b.minus(c).minus(d)]
}

/// `A g`, but for the sign of the last, which [`weight_gradient`] puts right.
#[inline(always)]
fn of_gradient<T: Number>([a, b]: [T; 2]) -> [T; 4] {
    [a, a.plus(b), a.minus(b), b]
}

/// `G' m`, the last of `m` having the other sign.
#[inline(always)]
fn weight_gradient<T: Number>([a, b, c, d]: [T; 4]) -> [T; 3] {
    let (sum, difference) = (b.plus(c).half(), b.minus(c).half());
    [a.plus(sum), difference, sum.minus(d)]
}

/// `M x M'`: `$matrix` applied along both axes, of `$from` to `$to` numbers. Loops, because a closure is not sure to be
/// compiled into the function whose vector instructions it needs.
macro_rules! both_axes {
    ($name:ident, $matrix:ident, $from:literal, $to:literal) => {
        #[inline(always)]
        pub(super) fn $name<T: Number>(x: [[T; $from]; $from]) -> [[T; $to]; $to] {
            let mut rows = [[x[0][0]; $to]; $from];
            for row in 0..$from {
                rows[row] = $matrix(x[row]);
            }
            let mut out = [[x[0][0]; $to]; $to];
            for column in 0..$to {
                let mut from = [x[0][0]; $from];
                for row in 0..$from {
                    from[row] = rows[row][column];
                }
                let done = $matrix(from);
                for row in 0..$to {
                    out[row][column] = done[row];
                }
            }
            out
        }
    };
}
both_axes!(input_components, of_input, 4, 4);
both_axes!(weight_components, of_weights, 3, 4);
both_axes!(results, result, 4, 2);
both_axes!(gradient_components, of_gradient, 2, 4);
both_axes!(weight_gradients, weight_gradient, 4, 3);

/// Sixteen numbers from each of `N` by `N` places, `outer` and `inner` apart.
#[inline(always)]
pub(super) fn load<const N: usize, L: Lanes>(from: &[f32], outer: usize, inner: usize) -> [[Vector<L>; N]; N] {
    let mut out = [[Vector(L::splat(0.0)); N]; N];
    for i in 0..N {
        for j in 0..N {
            out[i][j] = Vector(L::load(sixteen(&from[i * outer + j * inner..])));
        }
    }
    out
}

/// The components of a channel of a block from its own planes and rows; all of `components` is written.
pub(super) struct Spread<'a> {
    pub grid: &'a Grid,
    pub volume: &'a [f32],
    pub components: &'a mut [f32],
}

impl Kernel for Spread<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { grid, volume, components } = self;
        let (pitch, plane) = (grid.pitch, grid.volume.plane_distance());
        let stride = grid.component_stride();
        components[..FRONT].fill(0.0);
        for z in 0..grid.planes {
            for y in 0..grid.rows {
                // One plane and one row before the position's own.
                let from = &volume[FRONT + 2 * z * plane + 2 * y * pitch..][..3 * (plane + pitch) + pitch + LANES];
                let to = FRONT + (z * grid.rows + y) * pitch;
                // Upwards, so that what whole vectors write beyond a row is written over by the next.
                for x in (0..pitch).step_by(LANES) {
                    let found = input_components(load::<4, L>(&from[x..], plane, pitch));
                    for (component, value) in found.as_flattened().iter().enumerate() {
                        value.0.store(sixteen_mut(&mut components[to + component * stride + x..]));
                    }
                }
            }
        }
        for component in 0..COMPONENTS {
            let end = grid.component(component + 1);
            components[end - LANES..end].fill(0.0);
        }
        let end = grid.component(COMPONENTS);
        components[end..end + BACK].fill(0.0);
    }
}
