//! The inner loops of residual blocks.
use crate::ops::cpu::element::{Element, load_tail, store_tail};
use crate::ops::cpu::isa::{Kernel, LANES, Lanes};
use crate::ops::cpu::norm::{Map, RowMap};

/// Sixteen values, or what is left of them, as they are read.
#[inline(always)]
fn read<E: Element, L: Lanes>(values: &[E], map: Option<Map<L>>) -> L {
    let raw: L = match values.first_chunk() {
        Some(values) => E::load(values),
        None => load_tail(values, 0.0),
    };
    match map {
        Some(map) => E::round(map.forward(raw)),
        None => raw,
    }
}

#[allow(clippy::manual_map, reason = "a closure may stay outside the vector code")]
#[inline(always)]
fn lanes_map<L: Lanes>(map: Option<RowMap>) -> Option<Map<L>> {
    match map {
        Some(map) => Some(Map::new(map)),
        None => None,
    }
}

/// One row of the sum of two paths.
pub(super) struct AddAct<'a, E> {
    pub a: &'a [E],
    pub b: &'a [E],
    pub maps: [Option<RowMap>; 2],
    pub slope: f32,
    pub y: &'a mut [E],
}

impl<E: Element> Kernel for AddAct<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let maps = [lanes_map::<L>(self.maps[0]), lanes_map::<L>(self.maps[1])];
        let (zero, slope) = (L::splat(0.0), L::splat(self.slope));
        let paths = self.a.chunks(LANES).zip(self.b.chunks(LANES));
        for ((a, b), y) in paths.zip(self.y.chunks_mut(LANES)) {
            let sum = read::<E, L>(a, maps[0]).add(read::<E, L>(b, maps[1]));
            store_tail::<E, L>(L::select_gt(sum, zero, sum, sum.mul(slope)), y);
        }
    }
}

/// A stretch of the gradient of both paths.
pub(super) struct AddActGradient<'a, E> {
    pub y: &'a [E],
    pub slope: f32,
    pub gradient: &'a mut [E],
}

impl<E: Element> Kernel for AddActGradient<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (zero, slope) = (L::splat(0.0), L::splat(self.slope));
        for (y, gradient) in self.y.chunks(LANES).zip(self.gradient.chunks_mut(LANES)) {
            let (y, g) = (read::<E, L>(y, None), read::<E, L>(gradient, None));
            store_tail::<E, L>(L::select_gt(y, zero, g, g.mul(slope)), gradient);
        }
    }
}

/// One row of averages.
pub(super) struct PoolRow<'a, E, I> {
    pub values: &'a [E],
    /// Where the fine rows of the cells begin, in the order in which they are added.
    pub lines: I,
    /// Voxels of a fine row, and how many of them a cell has.
    pub fine: usize,
    pub stride: usize,
    pub map: Option<RowMap>,
    pub share: f32,
    /// Room for the sums of a fine row.
    pub sums: &'a mut Vec<f32>,
    pub out: &'a mut [E],
}

impl<E: Element, I: Iterator<Item = usize>> Kernel for PoolRow<'_, E, I> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let map = lanes_map::<L>(self.map);
        let sums = self.sums;
        sums.clear();
        sums.resize(self.fine.next_multiple_of(LANES), 0.0);
        for line in self.lines {
            let line = &self.values[line..line + self.fine];
            for (values, sum) in line.chunks(LANES).zip(sums.as_chunks_mut::<LANES>().0) {
                L::load(sum).add(read::<E, L>(values, map)).store(sum);
            }
        }
        for (cell, out) in sums.chunks(self.stride).zip(self.out.iter_mut()) {
            let mut sum = 0.0;
            for value in cell {
                sum += value;
            }
            *out = E::from_f32(sum * self.share);
        }
    }
}
