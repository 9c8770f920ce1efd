//! The driver of forward and input gradient: components of a block's source, tiles, results.
use std::ops::Range;

use rayon::prelude::*;

use super::super::block::{Block, Pack};
use super::super::gather::write_row;
use super::super::operands::Operands;
use super::super::shape::Direction;
use super::super::source::{Part, PartMut, Targets, channel};
use super::super::tile::{self, GatherTile, LANES, ROWS, VECTORS};
use super::COMPONENTS;
use super::components::{Spread, load, results};
use super::grid::Grid;
use super::weights::ComponentWeights;
use crate::ops::cpu::element::{Element, sixteen_mut};
use crate::ops::cpu::isa::{Isa, Kernel, Lanes, dispatch};
use crate::ops::cpu::pool::make_room;

/// Floats of components and sums for one block: 1 MiB, which stays in the second-level cache.
const SCRATCH: usize = 1024 * 1024;
/// Eights of results made from the same positions in turn, which stay in the first-level cache meanwhile.
const GROUPS: usize = 2;
/// As in [`super::super::gather`]: fewer pieces of work for each thread and the result channels are shared out too.
const PIECES_PER_THREAD: usize = 2;

static ZEROS: [f32; ROWS] = [0.0; ROWS];

#[derive(Default)]
struct Buffers {
    volume: Vec<f32>,
    components: Vec<f32>,
    sums: Vec<f32>,
    row: Vec<f32>,
}

/// Runs `direction` over a batch: `source` is `[batch, sources, z, y, x]`, `result` `[batch, results, z, y, x]`; `bias`
/// has one number per result channel. Every element of `result` is written.
pub fn run<E: Element>(
    isa: Isa,
    batch: usize,
    direction: &Direction,
    weights: &ComponentWeights,
    bias: Option<&[f32]>,
    source: &[Part<'_, E>],
    result: &mut [PartMut<'_, E>],
) {
    let per_position = COMPONENTS * (weights.sources + GROUPS * ROWS);
    let grid = Grid::new(direction, (SCRATCH / per_position).max(VECTORS * LANES));
    let blocks = grid.blocks();
    let eights = weights.results.div_ceil(ROWS);
    let pieces = PIECES_PER_THREAD * rayon::current_num_threads();
    let shares = pieces.div_ceil((batch * blocks.len()).max(1)).min(eights.div_ceil(GROUPS)).max(1);
    let per_share = eights.div_ceil(shares);
    let shares = eights.div_ceil(per_share);
    let result = Targets::new(result);
    (0..batch * blocks.len() * shares).into_par_iter().for_each_init(Buffers::default, |buffers, piece| {
        let share = piece % shares;
        let block = &blocks[piece / shares % blocks.len()];
        let sample = piece / shares / blocks.len();
        let work = Piece { isa, direction, grid: &grid, block, weights, sample };
        let groups = share * per_share..((share + 1) * per_share).min(eights);
        work.compute(groups, bias, source, buffers, &result);
    });
}

/// One block of one sample.
struct Piece<'a> {
    isa: Isa,
    direction: &'a Direction,
    grid: &'a Grid,
    block: &'a Block,
    weights: &'a ComponentWeights,
    sample: usize,
}

impl Piece<'_> {
    /// Floats of sums per component of a result channel: whole vectors.
    fn sums_stride(&self) -> usize {
        self.grid.positions().next_multiple_of(LANES)
    }

    fn compute<E: Element>(
        &self,
        groups: Range<usize>,
        bias: Option<&[f32]>,
        source: &[Part<'_, E>],
        buffers: &mut Buffers,
        result: &Targets<'_, E>,
    ) {
        let Buffers { components, sums, row, .. } = buffers;
        self.spread(source, &mut buffers.volume, components, row);
        // A vector more, for what is read beyond the last row.
        make_room(sums, GROUPS * ROWS * COMPONENTS * self.sums_stride() + LANES);
        for first in groups.clone().step_by(GROUPS) {
            let lot = first..(first + GROUPS).min(groups.end);
            for component in 0..COMPONENTS {
                self.multiply(component, lot.clone(), components, sums);
            }
            for channel in lot.start * ROWS..self.weights.results.min(lot.end * ROWS) {
                let from = (channel - lot.start * ROWS) * self.sums_stride();
                let bias = bias.and_then(|bias| bias.get(channel)).copied().unwrap_or(0.0);
                let combine = Combine { piece: self, channel, bias, sums: &sums[from..], row, result };
                dispatch(self.isa, combine);
            }
        }
    }

    /// Fills the components of all source channels.
    fn spread<E: Element>(
        &self,
        source: &[Part<'_, E>],
        volume: &mut Vec<f32>,
        components: &mut Vec<f32>,
        row: &mut Vec<f32>,
    ) {
        let Self { isa, direction, grid, block, .. } = *self;
        let voxels = direction.source_size.iter().product();
        make_room(volume, grid.volume.channel_stride());
        make_room(components, grid.channel_stride() * self.weights.sources);
        for (index, components) in components.chunks_exact_mut(grid.channel_stride()).enumerate() {
            let source = channel(source, voxels, self.sample, index);
            dispatch(isa, Pack { blocking: &grid.volume, direction, block, source, scratch: volume, row });
            dispatch(isa, Spread { grid, volume, components });
        }
    }

    /// The sums of a component over all channels and taps, for a few eights of results: `[component][result][position]`.
    fn multiply(&self, component: usize, lot: Range<usize>, components: &[f32], sums: &mut [f32]) {
        let Self { isa, grid, weights, .. } = *self;
        let stride = self.sums_stride();
        let vectors = stride / LANES;
        let mut vector = 0;
        while vector < vectors {
            let left = vectors - vector;
            let take = if left == 4 { 2 } else { left.min(VECTORS) };
            let at = vector * LANES;
            for group in lot.clone() {
                let slot = (group - lot.start) * ROWS;
                let to = (component * GROUPS * ROWS + slot) * stride + at;
                let tile = GatherTile {
                    source: components[grid.component(component) + at..].as_ptr(),
                    unit_stride: grid.channel_stride(),
                    units: weights.sources,
                    taps: &[-1, 0, 1],
                    weights: weights.tile(group, component).as_ptr(),
                    sums: sums[to..].as_mut_ptr(),
                    sums_stride: stride,
                    starts: ZEROS.as_ptr(),
                };
                // SAFETY: a channel's scratch has readable floats on both sides of every position of every component, `weights`
                // has 8 floats for every tap of every channel, and the sums of 8 channels hold whole vectors.
                unsafe { tile::gather(isa, Operands::Single, take, tile) };
            }
            vector += take;
        }
    }
}

/// Makes a channel's results from its components, rounds and writes them.
struct Combine<'a, E> {
    piece: &'a Piece<'a>,
    channel: usize,
    bias: f32,
    /// From the channel's first component on.
    sums: &'a [f32],
    row: &'a mut Vec<f32>,
    result: &'a Targets<'a, E>,
}

impl<E: Element> Kernel for Combine<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { piece, channel, bias, sums, row, result } = self;
        let Piece { grid, block, direction, .. } = piece;
        let [depth, height, width] = direction.result_size;
        let (bias, whole) = (L::splat(bias), width.next_multiple_of(LANES));
        let stride = GROUPS * ROWS * piece.sums_stride();
        row.resize(4 * whole, 0.0);
        for z in 0..block.z.len().div_ceil(2) {
            for y in 0..block.y.len().div_ceil(2) {
                let from = &sums[(z * grid.rows + y) * grid.pitch..];
                for x in (0..width).step_by(LANES) {
                    let found = results(load::<4, L>(&from[x..], 4 * stride, stride));
                    for (value, row) in found.as_flattened().iter().zip(row.chunks_exact_mut(whole)) {
                        value.0.add(bias).store(sixteen_mut(&mut row[x..]));
                    }
                }
                for (index, row) in row.chunks_exact(whole).enumerate() {
                    let (z, y) = (block.z.start + 2 * z + index / 2, block.y.start + 2 * y + index % 2);
                    if z < depth && y < height {
                        // SAFETY: pieces differ in sample, block or channel, so no two write the same rows.
                        let to = unsafe {
                            result.slice(depth * height * width, piece.sample, channel, (z * height + y) * width, width)
                        };
                        write_row::<E, L>(row, to);
                    }
                }
            }
        }
    }
}
