//! Blocks of positions and the scratch they are computed in.
//!
//! A block is all of x, some rows of y and some planes of z. Its source is copied once into scratch, in the form in
//! which it is multiplied, normalised and activated on the way where that is due, with zeros around the volume, so that
//! the inner loop has no edge to look at: rows are `pitch` apart, one zero longer than the grid where a tap reaches
//! sideways (the zero after a row is also the one before the next), and a run of positions over whole rows is
//! contiguous. What is computed at the padding is thrown away.
use std::ops::Range;

use super::shape::Direction;
use super::source::Row;
use crate::ops::cpu::element::sixteen;
use crate::ops::cpu::isa::{Kernel, LANES, Lanes};

/// Zeros before the first row of a channel's scratch: a tap may look one position to the left of it.
pub(super) const FRONT: usize = 16;
/// Readable elements after the last row: a tile may run over by almost three vectors.
pub(super) const BACK: usize = 64;

/// How the grid is cut, and how scratch is laid out; depends on the shapes alone, never on threads.
#[derive(Clone, Debug)]
pub struct Blocking {
    pub grid: [usize; 3],
    pub halo: [usize; 3],
    pub planes: usize,
    pub rows: usize,
    /// Distance of rows in scratch.
    pub pitch: usize,
    pub source_phases: Vec<[usize; 3]>,
    phase_stride: usize,
    /// Zeros between phases: whole vectors are written, beyond the end of a row.
    gap: usize,
}

/// One block: ranges of grid positions.
#[derive(Clone, Debug)]
pub struct Block {
    pub z: Range<usize>,
    pub y: Range<usize>,
}

impl Blocking {
    /// Cuts the grid so that blocks have about `fitting` positions, those of the halo included.
    pub fn new(direction: &Direction, fitting: usize) -> Self {
        let grid = direction.grid;
        let halo = direction.halo();
        let pitch = grid[2] + halo[2];
        let (mut planes, mut rows, mut best) = (1, 1, 0.0);
        for candidate in 1..=grid[0] {
            let fitting = fitting / (pitch * (candidate + 2 * halo[0]));
            let candidate_rows = fitting.saturating_sub(2 * halo[1]).clamp(1, grid[1]);
            // Even shares: 28 rows at 20 a block are two of 14, not 20 and 8.
            let candidate_rows = grid[1].div_ceil(grid[1].div_ceil(candidate_rows));
            if candidate > 1 && fitting < 1 + 2 * halo[1] {
                break;
            }
            let useful = (candidate * candidate_rows) as f64
                / ((candidate + 2 * halo[0]) * (candidate_rows + 2 * halo[1])) as f64;
            // Where there is no halo all are as good: the largest.
            if useful >= best {
                (planes, rows, best) = (candidate, candidate_rows, useful);
            }
        }
        Self::cut(direction, grid[0].div_ceil(grid[0].div_ceil(planes)), rows)
    }

    /// Cuts the grid into blocks of so many planes and rows.
    pub fn cut(direction: &Direction, planes: usize, rows: usize) -> Self {
        let (grid, halo, source_phases) = (direction.grid, direction.halo(), direction.source_phases());
        let pitch = grid[2] + halo[2];
        let gap = if source_phases.len() > 1 { LANES } else { 0 };
        let phase_stride = (planes + 2 * halo[0]) * (rows + 2 * halo[1]) * pitch + gap;
        Self { grid, halo, planes, rows, pitch, source_phases, phase_stride, gap }
    }

    /// How many blocks there are.
    pub fn count(&self) -> usize {
        self.grid[0].div_ceil(self.planes) * self.grid[1].div_ceil(self.rows)
    }

    /// The block at `index`, less than [`Blocking::count`].
    pub fn block(&self, index: usize) -> Block {
        let across = self.grid[1].div_ceil(self.rows);
        let (z, y) = (index / across * self.planes, index % across * self.rows);
        Block { z: z..(z + self.planes).min(self.grid[0]), y: y..(y + self.rows).min(self.grid[1]) }
    }

    /// All blocks, in order.
    pub fn blocks(&self) -> Vec<Block> {
        (0..self.count()).map(|index| self.block(index)).collect()
    }

    /// Elements of scratch per channel.
    pub fn channel_stride(&self) -> usize {
        FRONT + self.source_phases.len() * self.phase_stride + BACK
    }

    /// Where position (first plane + `plane`, first row of the block, x = 0) stands in a channel's scratch.
    pub fn origin(&self, plane: usize) -> usize {
        FRONT + ((plane + self.halo[0]) * (self.rows + 2 * self.halo[1]) + self.halo[1]) * self.pitch
    }

    /// Elements from a position to the same one of the next plane.
    pub fn plane_distance(&self) -> usize {
        (self.rows + 2 * self.halo[1]) * self.pitch
    }

    /// What to add to a position to get where a tap reads.
    pub fn offset(&self, phase: [usize; 3], offset: [isize; 3]) -> isize {
        let index = self.source_phases.iter().position(|p| *p == phase).unwrap_or(0);
        let rows = (self.rows + 2 * self.halo[1]) as isize;
        (index * self.phase_stride) as isize + (offset[0] * rows + offset[1]) * self.pitch as isize + offset[2]
    }

    /// Positions of one plane of `block`, padding included.
    pub fn plane_positions(&self, block: &Block) -> usize {
        block.y.len() * self.pitch
    }
}

/// Copies one channel (`[z, y, x]`) into its scratch; every element of it is written.
pub(super) struct Pack<'a, T, R> {
    pub blocking: &'a Blocking,
    pub direction: &'a Direction,
    pub block: &'a Block,
    pub source: R,
    pub scratch: &'a mut [T],
    /// Room for a row that is read by parity.
    pub row: &'a mut Vec<T>,
}

impl<T: Copy + Default + Halve, R: Row<T>> Kernel for Pack<'_, T, R> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { blocking, direction, block, source, scratch, row } = self;
        let (size, step, halo) = (direction.source_size, direction.source_step, blocking.halo);
        let (width, pitch) = (blocking.grid[2], blocking.pitch);
        row.resize(size[2].next_multiple_of(2 * LANES), T::default());
        scratch[..FRONT].fill(T::default());
        // Phases that differ along x alone stand behind each other and share the rows they are read from.
        for (group, phases) in blocking.source_phases.chunk_by(|a, b| a[..2] == b[..2]).enumerate() {
            let mut at = FRONT + group * phases.len() * blocking.phase_stride;
            let axis = |axis: usize| (step[axis], phases[0][axis], size[axis]);
            let lines = blocking.rows + 2 * halo[1];
            let inside = inside(block.y.start, halo[1], lines, axis(1));
            for plane in block.z.start..block.z.start + blocking.planes + 2 * halo[0] {
                let absent = self::inside(plane, halo[0], 1, axis(0)).is_empty();
                let inside = if absent { 0..0 } else { inside.clone() };
                zero(scratch, blocking, phases.len(), at, 0..inside.start);
                let z = (plane.saturating_sub(halo[0]) * step[0] + phases[0][0]) * size[1];
                for line in inside.clone() {
                    let y = (block.y.start + line - halo[1]) * step[1] + phases[0][1];
                    let from = (z + y) * size[2];
                    // The same line of the next plane.
                    source.prefetch(from + step[0] * size[1] * size[2], size[2]);
                    let to = &mut scratch[at + line * pitch..];
                    // Upwards, so that what whole vectors write beyond a row is written over by the next.
                    if step[2] == 1 {
                        source.read::<L>(from, width, to);
                        pad(&mut to[width..pitch]);
                        continue;
                    }
                    source.read::<L>(from, size[2], row);
                    if phases.len() == 2 {
                        let (even, odd) = to.split_at_mut(blocking.phase_stride);
                        T::halve::<L>(row, even, Some(&mut *odd));
                        odd[size[2] / 2..pitch].fill(T::default());
                    } else {
                        T::halve::<L>(row, to, None);
                    }
                    pad(&mut to[width..pitch]);
                }
                zero(scratch, blocking, phases.len(), at, inside.end..lines);
                at += lines * pitch;
            }
            // What whole vectors wrote beyond the last rows.
            for index in 0..phases.len() {
                scratch[at + index * blocking.phase_stride..][..blocking.gap].fill(T::default());
            }
        }
        let at = FRONT + blocking.source_phases.len() * blocking.phase_stride;
        scratch[at..at + BACK].fill(T::default());
    }
}

/// Zeros in some lines of the plane that begins at `at`, and in those of the phases behind it.
fn zero<T: Copy + Default>(scratch: &mut [T], blocking: &Blocking, phases: usize, at: usize, lines: Range<usize>) {
    for phase in 0..phases {
        let from = at + phase * blocking.phase_stride;
        scratch[from + lines.start * blocking.pitch..from + lines.end * blocking.pitch].fill(T::default());
    }
}

/// Writes the zero after a row, where there is one: a call to fill memory would cost as much as the row.
#[inline(always)]
pub(super) fn pad<T: Default>(rest: &mut [T]) {
    if let Some(first) = rest.first_mut() {
        *first = T::default();
    }
}

/// Which of `count` grid positions, from `start - halo` on, have a source, whose index is position times step plus phase.
fn inside(start: usize, halo: usize, count: usize, (step, phase, size): (usize, usize, usize)) -> Range<usize> {
    let end = (size.saturating_sub(phase).div_ceil(step) + halo).saturating_sub(start).min(count);
    halo.saturating_sub(start).min(end)..end
}

/// A row read by parity.
pub(super) trait Halve: Sized {
    /// Writes the values of even place in `row` and those of odd place, whole vectors of them. `row` is whole pairs of
    /// vectors, each target as many vectors.
    fn halve<L: Lanes>(row: &[Self], even: &mut [Self], odd: Option<&mut [Self]>);
}

impl Halve for f32 {
    #[inline(always)]
    fn halve<L: Lanes>(row: &[f32], even: &mut [f32], odd: Option<&mut [f32]>) {
        let pairs = row.as_chunks::<{ 2 * LANES }>().0.iter().zip(even.as_chunks_mut::<LANES>().0);
        match odd {
            Some(odd) => {
                for ((pair, even), odd) in pairs.zip(odd.as_chunks_mut::<LANES>().0) {
                    let (first, second) = parities::<L>(pair);
                    first.store(even);
                    second.store(odd);
                }
            }
            None => {
                for (pair, even) in pairs {
                    parities::<L>(pair).0.store(even);
                }
            }
        }
    }
}

#[inline(always)]
fn parities<L: Lanes>(pair: &[f32; 2 * LANES]) -> (L, L) {
    L::deinterleave(L::load(sixteen(pair)), L::load(sixteen(&pair[LANES..])))
}

impl Halve for u16 {
    #[inline(always)]
    fn halve<L: Lanes>(row: &[u16], even: &mut [u16], odd: Option<&mut [u16]>) {
        let pairs = row.as_chunks::<{ 2 * LANES }>().0.iter().zip(even.as_chunks_mut::<LANES>().0);
        // Little-endian: the first of two stands in the lower half.
        match odd {
            Some(odd) => {
                for ((pair, even), odd) in pairs.zip(odd.as_chunks_mut::<LANES>().0) {
                    L::load(&bytemuck::cast(*pair)).halves(even, odd);
                }
            }
            None => {
                let mut nowhere = [0; LANES];
                for (pair, even) in pairs {
                    L::load(&bytemuck::cast(*pair)).halves(even, &mut nowhere);
                }
            }
        }
    }
}
