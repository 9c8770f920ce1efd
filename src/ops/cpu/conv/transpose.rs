//! The gradient of a block's output with its channels side by side.
use std::ops::Range;

use rayon::prelude::*;

use super::block::{Block, Blocking, pad};
use super::operands::Operands;
use super::shape::ConvShape;
use super::source::{Channel, Part, Row, channel};
use crate::ops::cpu::element::{Element, sixteen};
use crate::ops::cpu::isa::{Isa, Kernel, LANES, Lanes, dispatch};
use crate::ops::cpu::pool::unwritten;
use crate::ops::cpu::slots::Free;

/// Output channels side by side.
pub const GROUP: usize = 2 * LANES;

/// Per group of 32 or 16 output channels: `[plane][position][channel]` in f32, or `[plane][pair][channel][2]` in bf16.
/// Rows are as far apart as in the input's scratch, zeros between.
pub struct Transposed {
    values: Vec<f32>,
    /// Output channels of each group; all but the last are whole vectors.
    groups: Vec<Range<usize>>,
    planes: usize,
    steps: usize,
}

impl Transposed {
    /// Room for a gradient of at most so many floats.
    pub fn new(floats: usize) -> Self {
        Self { values: unwritten(floats), groups: Vec::new(), planes: 0, steps: 0 }
    }

    pub fn groups(&self) -> &[Range<usize>] {
        &self.groups
    }

    /// Positions or pairs in a plane.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Room for whole tiles of steps.
    fn padded_steps(&self) -> usize {
        self.steps.next_multiple_of(LANES)
    }

    /// Floats from a plane of a group to the next.
    pub fn plane_stride(&self, group: usize) -> usize {
        self.padded_steps() * self.groups[group].len().next_multiple_of(LANES)
    }

    fn start(&self, group: usize) -> usize {
        // Groups before this one are whole.
        self.planes * self.padded_steps() * self.groups[group].start
    }

    /// From a step of a plane of a group on.
    pub fn at(&self, group: usize, plane: usize, step: usize) -> &[f32] {
        let vectors = self.groups[group].len().div_ceil(LANES);
        &self.values[self.start(group) + plane * self.plane_stride(group) + step * vectors * LANES..]
    }

    /// Transposes the rows of `block`; `gradient` is `[batch, out, z, y, x]`.
    #[allow(clippy::too_many_arguments)]
    pub fn fill<E: Element>(
        &mut self,
        isa: Isa,
        operands: Operands,
        shape: &ConvShape,
        blocking: &Blocking,
        block: &Block,
        sample: usize,
        gradient: &[Part<'_, E>],
        (slots, slot): &(Free<'_, f32>, usize),
    ) {
        self.steps = steps(operands, blocking.plane_positions(block));
        self.planes = block.z.len();
        let channels = shape.out_channels;
        self.groups = (0..channels).step_by(GROUP).map(|first| first..channels.min(first + GROUP)).collect();

        let mut rest = &mut self.values[..];
        let mut jobs = Vec::new();
        let padded = self.steps.next_multiple_of(LANES);
        for group in &self.groups {
            let lanes = group.len().next_multiple_of(LANES);
            for plane in block.z.clone() {
                let (target, tail) = rest.split_at_mut(padded * lanes);
                rest = tail;
                jobs.push((group.clone(), plane, target));
            }
        }
        jobs.into_par_iter().for_each(|(group, plane, target)| {
            slots.with(*slot, |slot| {
                let rows = &mut slot[..LANES * (padded + LANES)];
                let lanes = group.len().next_multiple_of(LANES);
                for vector in 0..lanes / LANES {
                    let first = group.start + vector * LANES;
                    let source =
                        (first..group.end.min(first + LANES)).map(|o| channel(gradient, shape.out_voxels(), sample, o));
                    let lines = Lines { shape, blocking, block, plane, padded, source: source.collect() };
                    match operands {
                        Operands::Paired => {
                            let rows: &mut [u16] = bytemuck::cast_slice_mut(rows);
                            dispatch(isa, Fill { lines: &lines, per_step: 2, rows });
                        }
                        _ => dispatch(isa, Fill { lines: &lines, per_step: 1, rows: &mut rows[..] }),
                    }
                    dispatch(isa, Transpose { rows, padded, target: &mut target[vector * LANES..], lanes });
                }
            })
        });
    }
}

/// Floats of a block's gradient, and of the rows it is made from.
pub fn floats(shape: &ConvShape, blocking: &Blocking, block: &Block, operands: Operands) -> [usize; 2] {
    let padded = steps(operands, blocking.plane_positions(block)).next_multiple_of(LANES);
    [block.z.len() * padded * shape.out_channels.next_multiple_of(LANES), LANES * (padded + LANES)]
}

fn steps(operands: Operands, positions: usize) -> usize {
    match operands {
        Operands::Single => positions,
        Operands::Widened => positions.next_multiple_of(2),
        Operands::Paired => positions.div_ceil(2),
    }
}

/// The rows of sixteen channels of one plane.
struct Lines<'a, E> {
    shape: &'a ConvShape,
    blocking: &'a Blocking,
    block: &'a Block,
    plane: usize,
    padded: usize,
    source: Vec<Channel<'a, E>>,
}

/// Copies rows as far apart as in the input's scratch to `[16][padded + 16]` steps of `per_step` elements.
struct Fill<'a, 'b, T, E> {
    lines: &'a Lines<'b, E>,
    per_step: usize,
    rows: &'a mut [T],
}

impl<T: Copy + Default, E: Element> Kernel for Fill<'_, '_, T, E>
where
    for<'c> Channel<'c, E>: Row<T>,
{
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Lines { shape, blocking, block, plane, padded, source } = self.lines;
        let [_, height, width] = shape.out_size();
        for (index, row) in self.rows.chunks_exact_mut((padded + LANES) * self.per_step).enumerate() {
            let Some(source) = source.get(index) else {
                row.fill(T::default());
                continue;
            };
            let mut at = 0;
            for y in block.y.clone() {
                // Upwards, so that what whole vectors write beyond a row is written over by the next.
                source.read::<L>((plane * height + y) * width, width, &mut row[at..]);
                pad(&mut row[at + width..at + blocking.pitch]);
                at += blocking.pitch;
            }
            row[at..].fill(T::default());
        }
    }
}

/// `[16][padded + 16]` to `[padded][lanes]`.
struct Transpose<'a> {
    rows: &'a [f32],
    padded: usize,
    target: &'a mut [f32],
    lanes: usize,
}

impl Kernel for Transpose<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let pitch = self.padded + LANES;
        for first in (0..self.padded).step_by(LANES) {
            let mut tile = [[0.0; LANES]; LANES];
            for (index, row) in tile.iter_mut().enumerate() {
                *row = *sixteen(&self.rows[index * pitch + first..]);
            }
            for (index, column) in transpose::<L>(&tile).iter().enumerate() {
                let at = (first + index) * self.lanes;
                column.store(&mut self.target[at..].as_chunks_mut::<LANES>().0[0]);
            }
        }
    }
}

/// Sixteen rows of sixteen turned into sixteen columns.
#[inline(always)]
pub(super) fn transpose<L: Lanes>(rows: &[[f32; LANES]; LANES]) -> [L; LANES] {
    let mut tile = [L::splat(0.0); LANES];
    for (to, row) in tile.iter_mut().zip(rows) {
        *to = L::load(row);
    }
    // Each interleaving puts one bit of the row's number below the bits that are there: 8, 4, 2, then 1.
    for _ in 0..4 {
        let mut next = tile;
        for i in 0..LANES / 2 {
            (next[2 * i], next[2 * i + 1]) = L::interleave(tile[i], tile[i + LANES / 2]);
        }
        tile = next;
    }
    tile
}
