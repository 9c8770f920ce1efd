//! The inner loops of the loss where regions are learnt: one block of voxels of one sample, all regions.
use super::kernels::{BlockSums, Scratch, TILE, add_lanes, counted, read_labels, read_logits};
use super::{ClassSums, Label, LossShape, SampleGradient};
use crate::ops::cpu::element::{Element, store_tail};
use crate::ops::cpu::isa::{Kernel, LANES, Lanes};
use crate::ops::cpu::math::{exp, ln};

/// 1 where the label is one of `values`, else 0.
#[inline(always)]
fn inside<L: Lanes>(label: L, values: &[u16]) -> L {
    let mut inside = L::splat(0.0);
    for &value in values {
        inside = L::select_eq(label, L::splat(f32::from(value)), L::splat(1.0), inside);
    }
    inside
}

/// `e^-|x|` and `1 / (1 + e^x)` of it: what the sigmoid and its logarithm are made of without an overflow.
#[inline(always)]
fn sigmoid<L: Lanes>(x: L) -> (L, L) {
    let (zero, one) = (L::splat(0.0), L::splat(1.0));
    let e = exp(zero.sub(x.max(zero.sub(x))));
    let inverse = one.div(one.add(e));
    (e, L::select_gt(x, zero, inverse, e.mul(inverse)))
}

/// The sums over the voxels from `start` on that `labels` covers.
pub(super) struct RegionForwardBlock<'a, E, T> {
    /// `[region, voxel]`, of the whole sample.
    pub logits: &'a [E],
    pub labels: &'a [T],
    pub start: usize,
    pub shape: &'a LossShape<'a>,
    pub regions: &'a [Vec<u16>],
    pub scratch: &'a mut Scratch,
}

impl<E: Element, T: Label> Kernel for RegionForwardBlock<'_, E, T> {
    type Output = BlockSums;
    #[inline(always)]
    fn run<L: Lanes>(self) -> BlockSums {
        let Scratch { tile, sums } = self.scratch;
        tile.resize(self.shape.classes, [[0.0; LANES]; TILE / LANES]);
        sums.clear();
        sums.resize(self.shape.classes, [[0.0; LANES]; 3]);
        let zero = L::splat(0.0);
        let (mut cross_entropy, mut labelled) = (zero, zero);
        let mut invalid = 0;
        for (index, labels) in self.labels.chunks(TILE).enumerate() {
            read_logits::<E, L>(self.logits, self.start + index * TILE, labels.len(), self.shape.voxels, tile);
            let (numbers, wrong) = read_labels(labels, self.shape);
            invalid += wrong;
            for quarter in 0..labels.len().div_ceil(LANES) {
                let label = L::load(&numbers[quarter]);
                labelled = labelled.add(counted(label, L::splat(1.0)));
                for ((logits, values), sums) in tile.iter().zip(self.regions).zip(sums.iter_mut()) {
                    let x = L::load(&logits[quarter]);
                    let (e, p) = sigmoid(x);
                    let t = inside(label, values);
                    // max(x, 0) - t x + log (1 + e^-|x|)
                    let entropy = zero.max(x).sub(t.mul(x)).add(ln(L::splat(1.0).add(e)));
                    cross_entropy = cross_entropy.add(counted(label, entropy));
                    let p = counted(label, p);
                    L::load(&sums[0]).add(p.mul(t)).store(&mut sums[0]);
                    L::load(&sums[1]).add(p).store(&mut sums[1]);
                    L::load(&sums[2]).add(t).store(&mut sums[2]);
                }
            }
        }
        let mut classes = vec![ClassSums::default()];
        classes.extend(sums.iter().map(add_lanes::<L>));
        let labelled = labelled.sum() as usize;
        BlockSums { cross_entropy: f64::from(cross_entropy.sum()), labelled, invalid, classes }
    }
}

/// The gradient of the voxels from `start` on that `labels` covers.
pub(super) struct RegionBackwardBlock<'a, E, T> {
    /// `[region, voxel]`, of the whole sample.
    pub logits: &'a [E],
    pub labels: &'a [T],
    pub start: usize,
    pub shape: &'a LossShape<'a>,
    pub regions: &'a [Vec<u16>],
    pub weights: &'a SampleGradient,
    /// The block's voxels of each region.
    pub gradient: Vec<&'a mut [E]>,
    pub scratch: &'a mut Scratch,
}

impl<E: Element, T: Label> Kernel for RegionBackwardBlock<'_, E, T> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let tile = &mut self.scratch.tile;
        tile.resize(self.shape.classes, [[0.0; LANES]; TILE / LANES]);
        let slopes = self.weights.dice.on.iter().zip(&self.weights.dice.off).skip(1);
        let (one, ce) = (L::splat(1.0), L::splat(self.weights.ce));
        let mut gradient = self.gradient;
        for (index, labels) in self.labels.chunks(TILE).enumerate() {
            read_logits::<E, L>(self.logits, self.start + index * TILE, labels.len(), self.shape.voxels, tile);
            let (numbers, _) = read_labels(labels, self.shape);
            for quarter in 0..labels.len().div_ceil(LANES) {
                let label = L::load(&numbers[quarter]);
                let first = index * TILE + quarter * LANES;
                let each = tile.iter().zip(self.regions).zip(slopes.clone()).zip(&mut gradient);
                for (((logits, values), (&on, &off)), gradient) in each {
                    let (_, p) = sigmoid(L::load(&logits[quarter]));
                    let t = inside(label, values);
                    // With q = dL/dp of the Dice part: dL/dlogit = p (1 - p) q + ce (p - t).
                    let q = t.fma(L::splat(on), L::splat(off));
                    let value = p.mul(one.sub(p)).fma(q, ce.mul(p.sub(t)));
                    let value = counted(label, value);
                    let out = &mut gradient[first..];
                    match out.first_chunk_mut() {
                        Some(out) => E::store(value, out),
                        None => store_tail::<E, L>(value, out),
                    }
                }
            }
        }
    }
}
