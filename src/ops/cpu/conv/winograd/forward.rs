//! The driver of forward and input gradient: components of a block's source, tiles, results.
use std::ops::Range;

use rayon::prelude::*;

use super::super::block::{Block, Pack};
use super::super::gather::write_row;
use super::super::operands::Operands;
use super::super::room::Room;
use super::super::shape::Direction;
use super::super::source::{Part, PartMut, Targets, channel};
use super::super::tile::{self, GatherTile, LANES, ROWS, VECTORS};
use super::COMPONENTS;
use super::components::{Spread, load, results};
use super::grid::Grid;
use super::weights::ComponentWeights;
use crate::ops::cpu::element::{Element, sixteen_mut};
use crate::ops::cpu::isa::{Isa, Kernel, Lanes, dispatch};
use crate::ops::cpu::slots::Slots;

/// Floats of components and sums for one block: 1 MiB, which stays in the second-level cache.
const SCRATCH: usize = 1024 * 1024;
/// Eights of results made from the same positions in turn, which stay in the first-level cache meanwhile.
const GROUPS: usize = 2;
/// As in [`super::super::gather`]: fewer pieces of work for each thread and the result channels are shared out too.
const PIECES_PER_THREAD: usize = 2;

static ZEROS: [f32; ROWS] = [0.0; ROWS];

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
    let grid = grid(direction, weights.sources);
    let blocks = grid.blocks();
    let eights = weights.results.div_ceil(ROWS);
    let (per_share, shares) = shares(batch * blocks.len(), weights.results, rayon::current_num_threads());
    let result = Targets::new(result);
    let pieces = batch * blocks.len() * shares;
    let [volume, components, sums] = floats(&grid, weights.sources);
    let length = volume + components + sums;
    let mut slots = Slots::new(length, pieces.min(rayon::current_num_threads()));
    let free = slots.free();
    (0..pieces).into_par_iter().for_each_init(Vec::new, |row, piece| {
        let share = piece % shares;
        let block = &blocks[piece / shares % blocks.len()];
        let sample = piece / shares / blocks.len();
        let work = Piece { isa, direction, grid: &grid, block, weights, sample };
        let groups = share * per_share..((share + 1) * per_share).min(eights);
        free.with(length, |slot| {
            let (volume, rest) = slot.split_at_mut(volume);
            let (components, sums) = rest.split_at_mut(components);
            work.compute(groups, bias, source, Buffers { volume, components, sums, row }, &result);
        });
    });
}

fn grid(direction: &Direction, sources: usize) -> Grid {
    let per_position = COMPONENTS * (sources + GROUPS * ROWS);
    Grid::new(direction, (SCRATCH / per_position).max(VECTORS * LANES))
}

/// What [`run`] holds beside its tensors.
pub fn room(batch: usize, direction: &Direction, sources: usize, results: usize, threads: usize) -> Room {
    let grid = grid(direction, sources);
    let (_, shares) = shares(batch * grid.count(), results, threads);
    let mut room = Room::default();
    room.add::<f32>(ComponentWeights::count(sources, results), 1);
    let length = floats(&grid, sources).iter().sum();
    room.add::<f32>(Slots::<f32>::elements(length, threads.min(batch * grid.count() * shares)), 1);
    room
}

/// Eights of results in a piece of work, and such shares, where so many blocks are cut out of a batch.
fn shares(blocks: usize, results: usize, threads: usize) -> (usize, usize) {
    let eights = results.div_ceil(ROWS);
    let shares = (PIECES_PER_THREAD * threads).div_ceil(blocks.max(1)).min(eights.div_ceil(GROUPS)).max(1);
    let per_share = eights.div_ceil(shares);
    (per_share, eights.div_ceil(per_share))
}

/// Floats of a piece of work: of a channel's own planes and rows; of all channels' components; of sums of a few eights of
/// results, with a vector more for what is read beyond the last row.
fn floats(grid: &Grid, sources: usize) -> [usize; 3] {
    let sums = GROUPS * ROWS * COMPONENTS * grid.positions().next_multiple_of(LANES) + LANES;
    [grid.volume.channel_stride().next_multiple_of(LANES), grid.channel_stride() * sources, sums]
}

/// Scratch of a piece of work.
struct Buffers<'a> {
    volume: &'a mut [f32],
    components: &'a mut [f32],
    sums: &'a mut [f32],
    row: &'a mut Vec<f32>,
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
        buffers: Buffers<'_>,
        result: &Targets<'_, E>,
    ) {
        let Buffers { volume, components, sums, row } = buffers;
        self.spread(source, volume, components, row);
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
        volume: &mut [f32],
        components: &mut [f32],
        row: &mut Vec<f32>,
    ) {
        let Self { isa, direction, grid, block, .. } = *self;
        let voxels = direction.source_size.iter().product();
        let volume = &mut volume[..grid.volume.channel_stride()];
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
