//! The driver of forward and input gradient: packs a block, runs the tiles, writes the result.
use std::cell::RefCell;

use rayon::prelude::*;

use super::block::{Block, Blocking};
use super::shape::{ConvShape, Direction, Gather};
use super::source::{self, Part, PartMut, Targets};
use super::tile::{self, GatherTile, LANES, ROWS, VECTORS};
use crate::ops::cpu::element::Element;
use crate::ops::cpu::isa::Isa;

/// Source channels packed at once, so that their scratch stays in the second-level cache.
const CHANNEL_BLOCK: usize = 32;
/// Floats of scratch for one channel block: 640 KiB.
const SCRATCH: usize = 160 * 1024;
/// Fewer pieces of work than this and the result channels are shared out too.
const PIECES: usize = 8;

/// Weights laid out as the tiles read them: `[gather][channel block][8 results][channel][tap][8]`.
pub struct PackedWeights {
    values: Vec<f32>,
    starts: Vec<usize>,
    sources: usize,
    results: usize,
}

impl PackedWeights {
    /// `weights` is `[out, in, z, y, x]`; for the backward direction source and result change places.
    pub fn new(shape: &ConvShape, direction: &Direction, backward: bool, weights: &[f32]) -> Self {
        let (sources, results) =
            if backward { (shape.out_channels, shape.in_channels) } else { (shape.in_channels, shape.out_channels) };
        let groups = results.div_ceil(ROWS);
        let taps = shape.taps();
        let mut starts = Vec::new();
        let mut length = 0;
        for gather in &direction.gathers {
            starts.push(length);
            length += groups * ROWS * sources * gather.taps.len();
        }
        let mut values = vec![0.0f32; length];
        let mut rest = &mut values[..];
        let mut jobs = Vec::new();
        for gather in &direction.gathers {
            for first in (0..sources).step_by(CHANNEL_BLOCK) {
                let count = CHANNEL_BLOCK.min(sources - first);
                for group in 0..groups {
                    let (job, tail) = rest.split_at_mut(count * gather.taps.len() * ROWS);
                    rest = tail;
                    jobs.push((gather, first, count, group, job));
                }
            }
        }
        jobs.into_par_iter().for_each(|(gather, first, count, group, job)| {
            let mut at = job.iter_mut();
            for source in first..first + count {
                for tap in &gather.taps {
                    for (row, value) in at.by_ref().take(ROWS).enumerate() {
                        let result = group * ROWS + row;
                        if result < results {
                            let pair = if backward { source * results + result } else { result * sources + source };
                            *value = weights[pair * taps + tap.weight];
                        }
                    }
                }
            }
        });
        Self { values, starts, sources, results }
    }

    /// The weights of 8 results and one channel block.
    fn tile(&self, gather: usize, taps: usize, first_source: usize, count: usize, group: usize) -> &[f32] {
        let groups = self.results.div_ceil(ROWS);
        let start = self.starts[gather] + groups * ROWS * taps * first_source + group * count * taps * ROWS;
        &self.values[start..start + count * taps * ROWS]
    }
}

thread_local! {
    static BUFFERS: RefCell<[Vec<f32>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

/// Runs `direction` over a batch: `source` is `[batch, sources, z, y, x]`, `result` `[batch, results, z, y, x]`; `bias`
/// has one number per result channel. Every element of `result` is written.
pub fn run<E: Element>(
    isa: Isa,
    batch: usize,
    direction: &Direction,
    weights: &PackedWeights,
    bias: Option<&[f32]>,
    source: &[Part<'_, E>],
    result: &mut [PartMut<'_, E>],
) {
    let (sources, results) = (weights.sources, weights.results);
    if direction.source_size.contains(&0) || direction.result_size.contains(&0) || batch * sources * results == 0 {
        return;
    }
    let blocking = Blocking::new(direction, sources.min(CHANNEL_BLOCK), SCRATCH);
    let blocks = blocking.blocks();
    let eights = results.div_ceil(ROWS);
    let shares = PIECES.div_ceil(batch * blocks.len()).min(eights.div_ceil(2)).max(1);
    let per_share = eights.div_ceil(shares);
    let shares = eights.div_ceil(per_share);
    let result = Targets::new(result);
    (0..batch * blocks.len() * shares).into_par_iter().for_each(|piece| {
        let share = piece % shares;
        let block = &blocks[piece / shares % blocks.len()];
        let sample = piece / shares / blocks.len();
        let groups = share * per_share..((share + 1) * per_share).min(eights);
        BUFFERS.with_borrow_mut(|[scratch, sums, row]| {
            let work = Piece { isa, direction, blocking: &blocking, block, weights, groups, sample };
            work.compute(bias, source, scratch, sums, row);
            work.write(sums, &result);
        });
    });
}

/// One block of one sample, for some of the result channels.
struct Piece<'a> {
    isa: Isa,
    direction: &'a Direction,
    blocking: &'a Blocking,
    block: &'a Block,
    weights: &'a PackedWeights,
    /// Eights of result channels.
    groups: std::ops::Range<usize>,
    sample: usize,
}

impl Piece<'_> {
    /// Floats of sums per plane of one channel: whole vectors.
    fn plane_stride(&self) -> usize {
        self.blocking.plane_positions(self.block).next_multiple_of(LANES)
    }

    fn channel_sums(&self) -> usize {
        self.plane_stride() * self.block.z.len()
    }

    fn compute<E: Element>(
        &self,
        bias: Option<&[f32]>,
        source: &[Part<'_, E>],
        scratch: &mut Vec<f32>,
        sums: &mut Vec<f32>,
        row: &mut Vec<f32>,
    ) {
        let channel_stride = self.blocking.channel_stride();
        let source_voxels = self.direction.source_size.iter().product();
        let sources = self.weights.sources;
        scratch.resize(channel_stride * CHANNEL_BLOCK.min(sources), 0.0);
        let channel_sums = self.channel_sums();
        let rows = self.groups.len() * ROWS;
        sums.resize(self.direction.gathers.len() * rows * channel_sums, 0.0);
        for (index, line) in sums.chunks_exact_mut(channel_sums).enumerate() {
            let channel = self.groups.start * ROWS + index % rows;
            line.fill(bias.and_then(|bias| bias.get(channel)).copied().unwrap_or(0.0));
        }
        for first in (0..sources).step_by(CHANNEL_BLOCK) {
            let count = CHANNEL_BLOCK.min(sources - first);
            for (channel, target) in scratch.chunks_exact_mut(channel_stride).take(count).enumerate() {
                let from = source::channel(source, source_voxels, self.sample, first + channel);
                self.blocking.pack(self.isa, self.direction, self.block, from, target, row);
            }
            for (index, gather) in self.direction.gathers.iter().enumerate() {
                self.tiles(index, gather, first, count, scratch, &mut sums[index * rows * channel_sums..]);
            }
        }
    }

    fn tiles(&self, index: usize, gather: &Gather, first: usize, count: usize, scratch: &[f32], sums: &mut [f32]) {
        let taps: Vec<isize> = gather.taps.iter().map(|tap| self.blocking.offset(tap.phase, tap.offset)).collect();
        if taps.is_empty() {
            return;
        }
        let vectors = self.plane_stride() / LANES;
        for (slot, group) in self.groups.clone().enumerate() {
            let weights = self.weights.tile(index, taps.len(), first, count, group);
            for plane in 0..self.block.z.len() {
                let origin = self.blocking.origin(plane);
                let plane_sums = slot * ROWS * self.channel_sums() + plane * self.plane_stride();
                let mut vector = 0;
                while vector < vectors {
                    let left = vectors - vector;
                    let take = if left == 4 { 2 } else { left.min(VECTORS) };
                    let at = vector * LANES;
                    let tile = GatherTile {
                        source: scratch[origin + at..].as_ptr(),
                        channel_stride: self.blocking.channel_stride(),
                        channels: count,
                        taps: &taps,
                        weights: weights.as_ptr(),
                        sums: sums[plane_sums + at..].as_mut_ptr(),
                        sums_stride: self.channel_sums(),
                    };
                    // SAFETY: `Blocking` leaves readable floats on both sides of every tap of every tile, `weights` has
                    // count * taps * 8 floats, and the sums of 8 channels hold whole vectors of every plane.
                    unsafe { run_tile(self.isa, take, tile) };
                    vector += take;
                }
            }
        }
    }

    fn write<E: Element>(&self, sums: &[f32], result: &Targets<'_, E>) {
        let size = self.direction.result_size;
        let voxels = size.iter().product();
        let step = self.direction.result_step;
        let rows = self.groups.len() * ROWS;
        let width = self.blocking.grid[2];
        for (index, gather) in self.direction.gathers.iter().enumerate() {
            for slot in 0..rows {
                let channel = self.groups.start * ROWS + slot;
                if channel >= self.weights.results {
                    break;
                }
                let sums = &sums[(index * rows + slot) * self.channel_sums()..];
                for (plane, z) in self.block.z.clone().enumerate() {
                    for (line, y) in self.block.y.clone().enumerate() {
                        let (z, y) = (z * step[0] + gather.phase[0], y * step[1] + gather.phase[1]);
                        if z >= size[0] || y >= size[1] {
                            continue;
                        }
                        let from = &sums[plane * self.plane_stride() + line * self.blocking.pitch..][..width];
                        let to = (z * size[1] + y) * size[2];
                        // SAFETY: pieces differ in sample, block or channel, so no two write the same row; within a
                        // piece the phases of a row are written one after another by this thread.
                        let to = unsafe { result.slice(voxels, self.sample, channel, to, size[2]) };
                        if step[2] == 1 {
                            E::narrow(from, to);
                        } else {
                            for (value, sum) in to.iter_mut().skip(gather.phase[2]).step_by(2).zip(from) {
                                *value = E::from_f32(*sum);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`tile::gather_portable`]; `isa` must be one the processor has.
unsafe fn run_tile(isa: Isa, vectors: usize, tile: GatherTile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match (isa, vectors) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, 1) => tile::x86::gather_avx512::<1>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, 2) => tile::x86::gather_avx512::<2>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, _) => tile::x86::gather_avx512::<3>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, 1) => tile::x86::gather_avx2::<1>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, 2) => tile::x86::gather_avx2::<2>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, _) => tile::x86::gather_avx2::<3>(tile),
            (_, 1) => tile::gather_portable::<1>(tile),
            (_, 2) => tile::gather_portable::<2>(tile),
            (_, _) => tile::gather_portable::<3>(tile),
        }
    }
}
