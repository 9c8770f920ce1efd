//! The inner loops of the norm: one stretch of voxels of one channel.
use super::RowMap;
use crate::ops::cpu::element::{Element, load_tail, store_tail};
use crate::ops::cpu::isa::{Kernel, LANES, Lanes};

/// Voxels summed in `f32` before `f64` takes over. Small enough to stay in the first cache for a second look.
const BLOCK: usize = 4096;

/// Count, mean and summed squared deviation of some values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    count: f64,
    pub(super) mean: f64,
    squares: f64,
}

impl Moments {
    /// Takes the moments of further values in (Chan, Golub and LeVeque 1979).
    pub(super) fn merge(&mut self, other: Moments) {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        self.mean += delta * (other.count / count);
        self.squares += other.squares + delta * delta * (self.count * other.count / count);
        self.count = count;
    }

    /// The biased variance.
    pub(super) fn variance(&self) -> f64 {
        self.squares / self.count
    }
}

/// Four sums of sixteen lanes to one, in a fixed tree.
#[inline(always)]
fn total<L: Lanes>([a, b, c, d]: [L; 4]) -> f64 {
    f64::from(a.add(b).add(c.add(d)).sum())
}

/// The moments of a stretch.
pub(super) struct MomentsOf<'a, E>(pub &'a [E]);

impl<E: Element> Kernel for MomentsOf<'_, E> {
    type Output = Moments;
    #[inline(always)]
    fn run<L: Lanes>(self) -> Moments {
        let mut all = Moments::default();
        for block in self.0.chunks(BLOCK) {
            all.merge(moments::<E, L>(block));
        }
        all
    }
}

/// A first look for the mean, a second for the distances to it.
#[inline(always)]
fn moments<E: Element, L: Lanes>(x: &[E]) -> Moments {
    let (lanes, tail) = x.as_chunks::<LANES>();
    let (quads, rest) = lanes.as_chunks::<4>();
    let mut sums = [L::splat(0.0); 4];
    for quad in quads {
        for (sum, x) in sums.iter_mut().zip(quad) {
            *sum = sum.add(E::load(x));
        }
    }
    for x in rest {
        sums[0] = sums[0].add(E::load(x));
    }
    if !tail.is_empty() {
        sums[0] = sums[0].add(load_tail(tail, 0.0));
    }
    let count = x.len() as f64;
    let centre = (total(sums) / count) as f32;

    let shift = L::splat(centre);
    let (mut sums, mut squares) = ([L::splat(0.0); 4], [L::splat(0.0); 4]);
    for quad in quads {
        for k in 0..4 {
            let d = E::load::<L>(&quad[k]).sub(shift);
            sums[k] = sums[k].add(d);
            squares[k] = d.fma(d, squares[k]);
        }
    }
    for x in rest {
        let d = E::load::<L>(x).sub(shift);
        sums[0] = sums[0].add(d);
        squares[0] = d.fma(d, squares[0]);
    }
    if !tail.is_empty() {
        let d = load_tail::<E, L>(tail, centre).sub(shift);
        sums[0] = sums[0].add(d);
        squares[0] = d.fma(d, squares[0]);
    }
    // `centre` is rounded: what it misses of the mean is the mean distance to it.
    let missed = total(sums) / count;
    let squares = (total(squares) - missed * missed * count).max(0.0);
    Moments { count, mean: f64::from(centre) + missed, squares: if centre.is_finite() { squares } else { f64::NAN } }
}

/// A [`RowMap`] in all lanes.
#[derive(Clone, Copy)]
pub struct Map<L> {
    mean: L,
    scale: L,
    beta: L,
    slope: L,
}

impl<L: Lanes> Map<L> {
    /// The same map in every lane.
    #[inline(always)]
    pub fn new(map: RowMap) -> Self {
        let (mean, scale) = (L::splat(map.mean), L::splat(map.scale));
        Self { mean, scale, beta: L::splat(map.beta), slope: L::splat(map.slope) }
    }

    /// The activated value of `x`.
    #[inline(always)]
    pub fn forward(&self, x: L) -> L {
        let z = x.sub(self.mean).fma(self.scale, self.beta);
        L::select_gt(z, L::splat(0.0), z, z.mul(self.slope))
    }

    /// `x - mean`, and the gradient of z from that of y.
    #[inline(always)]
    fn backward(&self, x: L, gy: L) -> (L, L) {
        let distance = x.sub(self.mean);
        let z = distance.fma(self.scale, self.beta);
        (distance, L::select_gt(z, L::splat(0.0), gy, gy.mul(self.slope)))
    }
}

/// Forward on a stretch; with `x` absent, `y` holds it.
pub(super) struct Apply<'a, E> {
    pub x: Option<&'a [E]>,
    pub y: &'a mut [E],
    pub map: RowMap,
}

impl<E: Element> Kernel for Apply<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let map = Map::<L>::new(self.map);
        let (y, y_tail) = self.y.as_chunks_mut::<LANES>();
        let x_tail = match self.x {
            Some(x) => {
                let (x, x_tail) = x.as_chunks::<LANES>();
                for (x, y) in x.iter().zip(y) {
                    E::store(map.forward(E::load(x)), y);
                }
                x_tail
            }
            None => {
                for y in y {
                    E::store(map.forward(E::load(y)), y);
                }
                &*y_tail
            }
        };
        if !x_tail.is_empty() {
            let z = map.forward(load_tail(x_tail, 0.0));
            store_tail::<E, L>(z, y_tail);
        }
    }
}

/// The sums of gz and of gz * (x - mean) over a stretch.
pub(super) struct GradientSums<'a, E> {
    pub x: &'a [E],
    pub gy: &'a [E],
    pub map: RowMap,
}

impl<E: Element> Kernel for GradientSums<'_, E> {
    type Output = (f64, f64);
    #[inline(always)]
    fn run<L: Lanes>(self) -> (f64, f64) {
        let map = Map::<L>::new(self.map);
        let mut all = (0.0, 0.0);
        for (x, gy) in self.x.chunks(BLOCK).zip(self.gy.chunks(BLOCK)) {
            let (x, x_tail) = x.as_chunks::<LANES>();
            let (gy, gy_tail) = gy.as_chunks::<LANES>();
            let ((x, x_rest), (gy, gy_rest)) = (x.as_chunks::<4>(), gy.as_chunks::<4>());
            let (mut plain, mut with_x) = ([L::splat(0.0); 4], [L::splat(0.0); 4]);
            for (x, gy) in x.iter().zip(gy) {
                for k in 0..4 {
                    let (distance, gz) = map.backward(E::load(&x[k]), E::load(&gy[k]));
                    plain[k] = plain[k].add(gz);
                    with_x[k] = gz.fma(distance, with_x[k]);
                }
            }
            for (x, gy) in x_rest.iter().zip(gy_rest) {
                let (distance, gz) = map.backward(E::load(x), E::load(gy));
                plain[0] = plain[0].add(gz);
                with_x[0] = gz.fma(distance, with_x[0]);
            }
            if !x_tail.is_empty() {
                let (distance, gz) = map.backward(load_tail(x_tail, 0.0), load_tail(gy_tail, 0.0));
                plain[0] = plain[0].add(gz);
                with_x[0] = gz.fma(distance, with_x[0]);
            }
            all.0 += total(plain);
            all.1 += total(with_x);
        }
        all
    }
}

/// `gx = scale * gz + constant + linear * (x - mean)` on a stretch; with `gy` absent, `gx` holds it.
pub(super) struct WriteGradient<'a, E> {
    pub x: &'a [E],
    pub gy: Option<&'a [E]>,
    pub gx: &'a mut [E],
    pub map: RowMap,
    pub constant: f32,
    pub linear: f32,
}

impl<E: Element> Kernel for WriteGradient<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let map = Map::<L>::new(self.map);
        let (constant, linear) = (L::splat(self.constant), L::splat(self.linear));
        let (x, x_tail) = self.x.as_chunks::<LANES>();
        let (gx, gx_tail) = self.gx.as_chunks_mut::<LANES>();
        let gy_tail = match self.gy {
            Some(gy) => {
                let (gy, gy_tail) = gy.as_chunks::<LANES>();
                for ((x, gy), gx) in x.iter().zip(gy).zip(gx) {
                    let (distance, gz) = map.backward(E::load(x), E::load(gy));
                    E::store(distance.fma(linear, gz.fma(map.scale, constant)), gx);
                }
                gy_tail
            }
            None => {
                for (x, gx) in x.iter().zip(gx) {
                    let (distance, gz) = map.backward(E::load(x), E::load(gx));
                    E::store(distance.fma(linear, gz.fma(map.scale, constant)), gx);
                }
                &*gx_tail
            }
        };
        if !x_tail.is_empty() {
            let (distance, gz) = map.backward(load_tail(x_tail, 0.0), load_tail(gy_tail, 0.0));
            store_tail::<E, L>(distance.fma(linear, gz.fma(map.scale, constant)), gx_tail);
        }
    }
}
