//! Where components stand in scratch.
use super::super::block::{BACK, Block, Blocking, FRONT};
use super::super::shape::Direction;
use super::COMPONENTS;
use crate::ops::cpu::isa::LANES;

/// Blocks of positions, a position being two planes and two rows; and the scratch of their components.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    /// Of the volume's own planes and rows, which the components are made from.
    pub volume: Blocking,
    /// Positions of a block.
    pub planes: usize,
    pub rows: usize,
    /// Distance of rows: one zero longer than they are.
    pub pitch: usize,
}

impl Grid {
    /// Blocks of about `fitting` positions, with few planes and rows read twice.
    pub fn new(direction: &Direction, fitting: usize) -> Self {
        let [planes, rows, _] = direction.grid.map(|length| length.div_ceil(2));
        let pitch = direction.grid[2] + 1;
        let even = |length: usize, most: usize| length.div_ceil(length.div_ceil(most.clamp(1, length)));
        let cuts = (1..=planes).map(|p| (even(planes, p), even(rows, fitting / (p * pitch))));
        let fits = |(planes, rows): &(usize, usize)| *planes == 1 || planes * rows * pitch <= fitting;
        // Of the planes and rows that are read, two each around the block's.
        let useful = |(planes, rows): &(usize, usize)| (planes * rows) as f64 / ((planes + 1) * (rows + 1)) as f64;
        let (planes, rows) = cuts.filter(fits).max_by(|a, b| useful(a).total_cmp(&useful(b))).unwrap_or((1, 1));
        Self { volume: Blocking::cut(direction, 2 * planes, 2 * rows), planes, rows, pitch }
    }

    /// Blocks of the volume's planes and rows; all but the last begin and end with whole positions.
    pub fn blocks(&self) -> Vec<Block> {
        self.volume.blocks()
    }

    /// How many of them there are.
    pub fn count(&self) -> usize {
        self.volume.count()
    }

    /// Positions of all of a block's rows, those of the padding and of rows that are not there included.
    pub fn positions(&self) -> usize {
        self.planes * self.rows * self.pitch
    }

    /// Floats from a component to the next: whole vectors, which are written beyond the end of a row. Components begin
    /// at the start of a cache line.
    pub fn component_stride(&self) -> usize {
        self.positions().next_multiple_of(LANES) + LANES
    }

    /// Floats of a channel's components: an odd number of cache lines, so that channels do not meet in few cache sets.
    pub fn channel_stride(&self) -> usize {
        FRONT + COMPONENTS * self.component_stride() + BACK
    }

    /// Where a component begins in a channel's scratch.
    pub fn component(&self, component: usize) -> usize {
        FRONT + component * self.component_stride()
    }
}
