//! The driver of forward and input gradient: packs a block, runs the tiles, writes the result.
use std::ops::Range;

use rayon::prelude::*;

use super::block::{Block, Blocking, Pack};
use super::operands::Operands;
use super::room::Room;
use super::shape::Direction;
use super::source::{Pair, Part, PartMut, Targets, channel};
use super::tile::{self, GatherTile, LANES, ROWS, VECTORS};
use super::weights::PackedWeights;
use crate::ops::cpu::element::{Element, sixteen, sixteen_mut, store_tail};
use crate::ops::cpu::isa::{Isa, Kernel, Lanes, dispatch};
use crate::ops::cpu::slots::Slots;

/// Floats of scratch and sums for one block: 3.5 MiB. The scratch, about a third of it, is what is read again and again
/// and stays in the second-level cache.
const SCRATCH: usize = 896 * 1024;
/// Eights of results made from the same positions in turn, which stay in the first-level cache meanwhile.
const GROUPS: usize = 4;
/// Smallest useful block, in positions: the halo should not outweigh it.
const POSITIONS: usize = 1024;
/// Fewer pieces of work than this for each thread and the result channels are shared out too; each share packs anew.
const PIECES_PER_THREAD: usize = 2;

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
    let Cut { blocking, per_share, shares } = Cut::new(batch, direction, weights, rayon::current_num_threads());
    let eights = results.div_ceil(ROWS);
    let result = Targets::new(result);
    let blocks = blocking.count();
    let pieces = batch * blocks * shares;
    // The first block is the largest.
    let first = blocking.block(0);
    let largest =
        Piece { isa, direction, blocking: &blocking, block: &first, weights, groups: 0..per_share, sample: 0 };
    let floats = largest.floats();
    let length = floats[0].next_multiple_of(LANES) + floats[1];
    let mut slots = Slots::new(length, pieces.min(rayon::current_num_threads()));
    let free = slots.free();
    (0..pieces).into_par_iter().for_each_init(Vec::new, |row, piece| {
        let share = piece % shares;
        let block = &blocking.block(piece / shares % blocks);
        let sample = piece / shares / blocks;
        let groups = share * per_share..((share + 1) * per_share).min(eights);
        let work = Piece { isa, direction, blocking: &blocking, block, weights, groups, sample };
        free.with(length, |slot| {
            let (scratch, sums) = slot.split_at_mut(floats[0].next_multiple_of(LANES));
            work.compute(bias, source, &mut scratch[..floats[0]], sums, row, &result);
        });
    });
}

/// How the work is cut into pieces.
struct Cut {
    blocking: Blocking,
    /// Eights of result channels in a piece, and such shares.
    per_share: usize,
    shares: usize,
}

impl Cut {
    fn new(batch: usize, direction: &Direction, weights: &PackedWeights, threads: usize) -> Self {
        let scratch = weights.scratch_channels() * direction.source_phases().len();
        let fitting = SCRATCH / (scratch + direction.gathers.len() * weights.results.next_multiple_of(ROWS));
        let blocking = Blocking::new(direction, fitting.max(POSITIONS));
        let eights = weights.results.div_ceil(ROWS);
        let shares = (PIECES_PER_THREAD * threads).div_ceil(batch * blocking.count()).min(eights.div_ceil(2)).max(1);
        let per_share = eights.div_ceil(shares);
        Self { blocking, per_share, shares: eights.div_ceil(per_share) }
    }
}

/// What [`run`] holds beside its tensors; `weights` and how many of them there are.
pub fn room(batch: usize, direction: &Direction, (weights, length): &(PackedWeights, usize), threads: usize) -> Room {
    let cut = Cut::new(batch, direction, weights, threads);
    if cut.blocking.count() == 0 {
        return Room::default();
    }
    let block = &cut.blocking.block(0);
    let work = Piece {
        isa: Isa::Portable,
        direction,
        blocking: &cut.blocking,
        block,
        weights,
        groups: 0..cut.per_share,
        sample: 0,
    };
    let [scratch, sums] = work.floats();
    let mut room = Room::default();
    room.add::<f32>(*length, 1);
    let running = threads.min(batch * cut.blocking.count() * cut.shares);
    room.add::<f32>(Slots::<f32>::elements(scratch.next_multiple_of(LANES) + sums, running), 1);
    room
}

/// One block of one sample, for some of the result channels.
struct Piece<'a> {
    isa: Isa,
    direction: &'a Direction,
    blocking: &'a Blocking,
    block: &'a Block,
    weights: &'a PackedWeights,
    /// Eights of result channels.
    groups: Range<usize>,
    sample: usize,
}

impl Piece<'_> {
    /// Floats of sums per plane of one channel: whole vectors.
    fn plane_stride(&self) -> usize {
        self.blocking.plane_positions(self.block).next_multiple_of(LANES)
    }

    /// Floats of sums per channel. Where one channel block is all there is, a plane is written as soon as it is summed,
    /// and the next takes its place.
    fn channel_sums(&self) -> usize {
        let planes = if self.weights.sources > self.weights.channel_block { self.block.z.len() } else { 1 };
        self.plane_stride() * planes
    }

    /// Where the sums of a plane stand behind each channel's first.
    fn plane_sums(&self, plane: usize) -> usize {
        if self.weights.sources > self.weights.channel_block { plane * self.plane_stride() } else { 0 }
    }

    /// Floats of sums per gather.
    fn gather_sums(&self) -> usize {
        self.groups.len() * ROWS * self.channel_sums()
    }

    /// Floats of scratch and of sums. A vector more, for what is read beyond the last row.
    fn floats(&self) -> [usize; 2] {
        let scratch = self.blocking.channel_stride() * self.weights.scratch_channels();
        [scratch, self.direction.gathers.len() * self.gather_sums() + LANES]
    }

    fn compute<E: Element>(
        &self,
        bias: Option<&[f32]>,
        source: &[Part<'_, E>],
        scratch: &mut [f32],
        sums: &mut [f32],
        row: &mut Vec<f32>,
        result: &Targets<'_, E>,
    ) {
        let sources = self.weights.sources;
        // The first channel block begins every sum, with the bias.
        let channels = self.groups.start * ROWS..self.groups.end * ROWS;
        let bias = |channel: usize| bias.and_then(|bias| bias.get(channel)).copied().unwrap_or(0.0);
        let starts: Vec<f32> = channels.map(bias).collect();
        for first in (0..sources).step_by(self.weights.channel_block) {
            let channels = first..sources.min(first + self.weights.channel_block);
            let last = channels.end == sources;
            self.pack(source, channels.clone(), scratch, row);
            let starts = (first == 0).then_some(&starts[..]);
            // Phases that differ along x alone stand behind each other and are written together.
            let along = self.direction.result_step[2];
            for gathers in (0..self.direction.gathers.len()).step_by(along) {
                let gathers = gathers..gathers + along;
                let taps = gathers.clone().map(|gather| self.taps(gather)).collect::<Vec<_>>();
                for lot in self.groups.clone().step_by(GROUPS) {
                    let lot = lot..(lot + GROUPS).min(self.groups.end);
                    for plane in 0..self.block.z.len() {
                        for (gather, taps) in gathers.clone().zip(&taps) {
                            self.plane(gather, taps, channels.clone(), lot.clone(), plane, starts, scratch, sums);
                        }
                        if last {
                            self.write(gathers.clone(), lot.clone(), plane, sums, result);
                        }
                    }
                }
            }
        }
    }

    /// Fills the scratch of some channels, or of pairs of them.
    fn pack<E: Element>(
        &self,
        source: &[Part<'_, E>],
        channels: Range<usize>,
        scratch: &mut [f32],
        row: &mut Vec<f32>,
    ) {
        let Self { isa, direction, blocking, block, .. } = *self;
        let voxels = direction.source_size.iter().product();
        let from = |index| channel(source, voxels, self.sample, index);
        let mut targets = scratch.chunks_exact_mut(blocking.channel_stride());
        if self.weights.operands == Operands::Paired {
            for (even, scratch) in channels.clone().step_by(2).zip(targets) {
                let odd = (even + 1 < channels.end).then(|| from(even + 1));
                let source = Pair { even: from(even), odd };
                dispatch(isa, Pack { blocking, direction, block, source, scratch, row });
            }
            return;
        }
        for (index, scratch) in channels.clone().zip(&mut targets) {
            dispatch(isa, Pack { blocking, direction, block, source: from(index), scratch, row });
        }
        if self.weights.operands == Operands::Widened
            && channels.len() % 2 == 1
            && let Some(missing) = targets.next()
        {
            missing.fill(0.0);
        }
    }

    /// Where each tap of a gather reads, relative to the position.
    fn taps(&self, gather: usize) -> Vec<isize> {
        let taps = &self.direction.gathers[gather].taps;
        let reads = taps.iter().map(|tap| self.blocking.offset(tap.phase, tap.offset));
        match self.weights.operands {
            Operands::Widened => reads.flat_map(|at| [at + self.blocking.channel_stride() as isize, at]).collect(),
            _ => reads.collect(),
        }
    }

    /// The sums of a few groups on one plane.
    #[allow(clippy::too_many_arguments)]
    fn plane(
        &self,
        gather: usize,
        taps: &[isize],
        channels: Range<usize>,
        lot: Range<usize>,
        plane: usize,
        starts: Option<&[f32]>,
        scratch: &[f32],
        sums: &mut [f32],
    ) {
        let (first, count) = (channels.start, channels.len());
        let operands = self.weights.operands;
        let weights = self.direction.gathers[gather].taps.len();
        let vectors = self.plane_stride() / LANES;
        let origin = self.blocking.origin(plane);
        let mut vector = 0;
        while vector < vectors {
            let left = vectors - vector;
            let take = if left == 4 { 2 } else { left.min(VECTORS) };
            let at = vector * LANES;
            for group in lot.clone() {
                let slot = (group - self.groups.start) * ROWS;
                let to = gather * self.gather_sums() + slot * self.channel_sums() + self.plane_sums(plane) + at;
                let tile = GatherTile {
                    source: scratch[origin + at..].as_ptr(),
                    unit_stride: self.blocking.channel_stride() * operands.per_unit(),
                    units: operands.units(count),
                    taps,
                    weights: self.weights.tile(gather, weights, first, count, group).as_ptr(),
                    sums: sums[to..].as_mut_ptr(),
                    sums_stride: self.channel_sums(),
                    starts: starts.map_or(std::ptr::null(), |starts| starts[slot..].as_ptr()),
                };
                // SAFETY: `Blocking` leaves readable floats on both sides of every tap of every tile, `weights` has 8
                // floats for every tap of every unit, and the sums of 8 channels hold whole vectors of every plane.
                unsafe { tile::gather(self.isa, operands, take, tile) };
            }
            vector += take;
        }
    }

    /// Writes a plane of a few groups: of one gather, or of the two that differ along x.
    fn write<E: Element>(
        &self,
        gathers: Range<usize>,
        lot: Range<usize>,
        plane: usize,
        sums: &[f32],
        result: &Targets<'_, E>,
    ) {
        let phase = self.direction.gathers[gathers.start].phase;
        for channel in lot.start * ROWS..self.weights.results.min(lot.end * ROWS) {
            let slot = channel - self.groups.start * ROWS;
            let from = slot * self.channel_sums() + self.plane_sums(plane);
            let sums = [gathers.start, gathers.end - 1].map(|gather| &sums[gather * self.gather_sums() + from..]);
            dispatch(self.isa, Write { piece: self, phase, plane, channel, sums, result });
        }
    }
}

/// Rounds the sums of one plane of a channel and writes them; where x is written by parity, those of both.
struct Write<'a, E> {
    piece: &'a Piece<'a>,
    phase: [usize; 3],
    plane: usize,
    channel: usize,
    /// Of even and of odd x, or twice the same.
    sums: [&'a [f32]; 2],
    result: &'a Targets<'a, E>,
}

impl<E: Element> Kernel for Write<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { piece, phase, plane, channel, sums: [even, odd], result } = self;
        let (size, step) = (piece.direction.result_size, piece.direction.result_step);
        let voxels = size.iter().product();
        let rows = piece.block.y.clone().filter(|y| y * step[1] + phase[1] < size[1]).count();
        let first = piece.block.y.start * step[1] + phase[1];
        let z = (piece.block.z.start + plane) * step[0] + phase[0];
        if z >= size[0] || rows == 0 {
            return;
        }
        let start = (z * size[1] + first) * size[2];
        let length = ((rows - 1) * step[1] + 1) * size[2];
        // SAFETY: pieces differ in sample, block or channel, so no two write the same rows; the rows of other phases
        // between are this piece's too, and written at another time.
        let rows = unsafe { result.slice(voxels, piece.sample, channel, start, length) };
        for (line, to) in rows.chunks_mut(step[1] * size[2]).enumerate() {
            let from = line * piece.blocking.pitch;
            if step[2] == 1 {
                write_row::<E, L>(&even[from..], &mut to[..size[2]]);
            } else {
                write_both::<E, L>(&even[from..], &odd[from..], &mut to[..size[2]]);
            }
        }
    }
}

#[inline(always)]
fn lanes<L: Lanes>(from: &[f32], at: usize) -> L {
    L::load(sixteen(&from[at..]))
}

#[inline(always)]
pub(super) fn write_row<E: Element, L: Lanes>(from: &[f32], to: &mut [E]) {
    let length = to.len();
    if length < LANES {
        return store_tail(lanes::<L>(from, 0), to);
    }
    for (from, to) in from.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
        E::store(L::load(from), to);
    }
    if !length.is_multiple_of(LANES) {
        // The last sixteen, some of them a second time.
        let at = length - LANES;
        E::store(lanes::<L>(from, at), sixteen_mut(&mut to[at..]));
    }
}

#[inline(always)]
fn write_both<E: Element, L: Lanes>(even: &[f32], odd: &[f32], to: &mut [E]) {
    let (whole, rest) = to.as_chunks_mut::<{ 2 * LANES }>();
    let done = whole.len();
    for ((even, odd), to) in even.as_chunks::<LANES>().0.iter().zip(odd.as_chunks::<LANES>().0).zip(whole) {
        let (low, high) = L::interleave(L::load(even), L::load(odd));
        E::store(low, sixteen_mut(to));
        E::store(high, sixteen_mut(&mut to[LANES..]));
    }
    if !rest.is_empty() {
        let (low, high) = L::interleave(lanes(even, done * LANES), lanes(odd, done * LANES));
        let (to_low, to_high) = rest.split_at_mut(rest.len().min(LANES));
        store_tail(low, to_low);
        store_tail(high, to_high);
    }
}
