//! The inner loops of the loss: one block of voxels of one sample, all classes.
use super::{ClassSums, Label, LossShape, SampleGradient};
use crate::ops::cpu::element::{Element, load_tail, store_tail};
use crate::ops::cpu::isa::{Kernel, LANES, Lanes};
use crate::ops::cpu::math::{exp, ln};

/// Voxels whose logits of all classes are gathered before the softmax.
pub(super) const TILE: usize = 4 * LANES;

/// The "label" of a voxel that does not count.
const UNLABELLED: f32 = -1.0;

/// The sums of one block.
pub(super) struct BlockSums {
    pub cross_entropy: f64,
    /// Voxels that count.
    pub labelled: usize,
    /// Voxels whose label is no class.
    pub invalid: usize,
    pub classes: Vec<ClassSums>,
}

/// Room for one tile of logits and the running sums, kept from block to block.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[class][voxel of the tile]`.
    pub tile: Vec<[[f32; LANES]; TILE / LANES]>,
    /// Per class: I, P, G.
    pub sums: Vec<[[f32; LANES]; 3]>,
}

/// The labels of a tile as floats, [`UNLABELLED`] where a voxel does not count or there is none; and how many are
/// no class. Classes are few, so floats hold them exactly.
#[inline(always)]
pub(super) fn read_labels<T: Label>(labels: &[T], shape: &LossShape<'_>) -> ([[f32; LANES]; TILE / LANES], usize) {
    let mut tile = [[UNLABELLED; LANES]; TILE / LANES];
    let ignore = shape.ignore.map_or(i32::MIN, i32::from);
    let classes = i32::try_from(shape.label_values()).unwrap_or(i32::MAX);
    let mut invalid = 0;
    for (slot, label) in tile.as_flattened_mut().iter_mut().zip(labels) {
        let number = label.number();
        let valid = number >= 0 && number < classes && number != ignore;
        *slot = if valid { number as f32 } else { UNLABELLED };
        invalid += usize::from(!valid && number != ignore);
    }
    (tile, invalid)
}

/// Gathers `len` voxels from `start` on of every class.
#[inline(always)]
pub(super) fn read_logits<E: Element, L: Lanes>(
    logits: &[E],
    start: usize,
    len: usize,
    voxels: usize,
    tile: &mut [[[f32; LANES]; TILE / LANES]],
) {
    for (row, tile) in logits.chunks_exact(voxels).zip(tile) {
        let (full, tail) = row[start..start + len].as_chunks::<LANES>();
        let mut slots = tile.iter_mut();
        for (from, to) in full.iter().zip(&mut slots) {
            E::load::<L>(from).store(to);
        }
        if let (false, Some(to)) = (tail.is_empty(), slots.next()) {
            load_tail::<E, L>(tail, 0.0).store(to);
        }
    }
}

/// Turns the logits of sixteen voxels into `e^(logit - largest)`; returns their sum and the label's logit less the
/// largest.
#[inline(always)]
fn soften<L: Lanes>(tile: &mut [[[f32; LANES]; TILE / LANES]], quarter: usize, label: L) -> (L, L) {
    let mut largest = L::load(&tile[0][quarter]);
    for class in &tile[1..] {
        largest = L::load(&class[quarter]).max(largest);
    }
    let (mut sum, mut labels_logit, mut number) = (L::splat(0.0), L::splat(0.0), L::splat(0.0));
    for class in tile {
        let logit = L::load(&class[quarter]).sub(largest);
        let e = exp(logit);
        e.store(&mut class[quarter]);
        sum = sum.add(e);
        labels_logit = L::select_eq(label, number, logit, labels_logit);
        number = number.add(L::splat(1.0));
    }
    (sum, labels_logit)
}

/// `value` where the voxel is labelled, else zero. Chosen, not multiplied by zero: a voxel that does not count may
/// hold anything.
#[inline(always)]
pub(super) fn counted<L: Lanes>(label: L, value: L) -> L {
    L::select_gt(L::splat(0.0), label, L::splat(0.0), value)
}

/// I, P and G of one class from their lanes.
#[inline(always)]
pub(super) fn add_lanes<L: Lanes>([intersection, probability, label]: &[[f32; LANES]; 3]) -> ClassSums {
    ClassSums {
        intersection: f64::from(L::load(intersection).sum()),
        probability: f64::from(L::load(probability).sum()),
        label: f64::from(L::load(label).sum()),
    }
}

/// The sums over the voxels from `start` on that `labels` covers.
pub(super) struct ForwardBlock<'a, E, T> {
    /// `[class, voxel]`, of the whole sample.
    pub logits: &'a [E],
    pub labels: &'a [T],
    pub start: usize,
    pub shape: &'a LossShape<'a>,
    pub scratch: &'a mut Scratch,
}

impl<E: Element, T: Label> Kernel for ForwardBlock<'_, E, T> {
    type Output = BlockSums;
    #[inline(always)]
    fn run<L: Lanes>(self) -> BlockSums {
        let Scratch { tile, sums } = self.scratch;
        tile.resize(self.shape.classes, [[0.0; LANES]; TILE / LANES]);
        sums.clear();
        sums.resize(self.shape.classes, [[0.0; LANES]; 3]);
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        let mut cross_entropy = zero;
        let mut invalid = 0;
        for (index, labels) in self.labels.chunks(TILE).enumerate() {
            read_logits::<E, L>(self.logits, self.start + index * TILE, labels.len(), self.shape.voxels, tile);
            let (numbers, wrong) = read_labels(labels, self.shape);
            invalid += wrong;
            for quarter in 0..labels.len().div_ceil(LANES) {
                let label = L::load(&numbers[quarter]);
                let (sum, labels_logit) = soften(tile, quarter, label);
                cross_entropy = cross_entropy.add(counted(label, ln(sum).sub(labels_logit)));
                let inverse = one.div(sum);
                let mut number = zero;
                for (class, sums) in tile.iter().zip(sums.iter_mut()) {
                    let p = counted(label, L::load(&class[quarter]).mul(inverse));
                    let intersection = L::select_eq(label, number, p, zero);
                    let count = L::select_eq(label, number, one, zero);
                    L::load(&sums[0]).add(intersection).store(&mut sums[0]);
                    L::load(&sums[1]).add(p).store(&mut sums[1]);
                    L::load(&sums[2]).add(count).store(&mut sums[2]);
                    number = number.add(one);
                }
            }
        }
        let classes: Vec<ClassSums> = sums.iter().map(add_lanes::<L>).collect();
        // Counts of a block are exact.
        let labelled = classes.iter().map(|class| class.label).sum::<f64>() as usize;
        BlockSums { cross_entropy: f64::from(cross_entropy.sum()), labelled, invalid, classes }
    }
}

/// The gradient of the voxels from `start` on that `labels` covers.
pub(super) struct BackwardBlock<'a, E, T> {
    /// `[class, voxel]`, of the whole sample.
    pub logits: &'a [E],
    pub labels: &'a [T],
    pub start: usize,
    pub shape: &'a LossShape<'a>,
    pub weights: &'a SampleGradient,
    /// The block's voxels of each class.
    pub gradient: Vec<&'a mut [E]>,
    pub scratch: &'a mut Scratch,
}

impl<E: Element, T: Label> Kernel for BackwardBlock<'_, E, T> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let tile = &mut self.scratch.tile;
        tile.resize(self.shape.classes, [[0.0; LANES]; TILE / LANES]);
        let (on, off) = (&self.weights.dice.on, &self.weights.dice.off);
        let (zero, one, ce) = (L::splat(0.0), L::splat(1.0), L::splat(self.weights.ce));
        let mut gradient = self.gradient;
        for (index, labels) in self.labels.chunks(TILE).enumerate() {
            read_logits::<E, L>(self.logits, self.start + index * TILE, labels.len(), self.shape.voxels, tile);
            let (numbers, _) = read_labels(labels, self.shape);
            for quarter in 0..labels.len().div_ceil(LANES) {
                let label = L::load(&numbers[quarter]);
                let (sum, _) = soften(tile, quarter, label);
                let inverse = one.div(sum);
                // With q = dL/dp of the Dice part: dL/dlogit = p (q - sum p q) + ce (p - [label]).
                let (mut mean, mut number) = (zero, zero);
                for ((class, &on), &off) in tile.iter_mut().zip(on).zip(off) {
                    let p = L::load(&class[quarter]).mul(inverse);
                    p.store(&mut class[quarter]);
                    let q = L::select_eq(label, number, L::splat(on), zero).add(L::splat(off));
                    mean = p.fma(q, mean);
                    number = number.add(one);
                }
                let base = ce.sub(mean);
                let first = index * TILE + quarter * LANES;
                let mut number = zero;
                for (((class, &on), &off), gradient) in tile.iter().zip(on).zip(off).zip(&mut gradient) {
                    let q = L::select_eq(label, number, L::splat(on), zero).add(L::splat(off));
                    let minus = L::select_eq(label, number, zero.sub(ce), zero);
                    let value = L::load(&class[quarter]).fma(q.add(base), minus);
                    let value = counted(label, value);
                    let out = &mut gradient[first..];
                    match out.first_chunk_mut() {
                        Some(out) => E::store(value, out),
                        None => store_tail::<E, L>(value, out),
                    }
                    number = number.add(one);
                }
            }
        }
    }
}
