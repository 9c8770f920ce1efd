//! The weights of a gather, in the order its tiles read them.
use half::bf16;
use rayon::prelude::*;

use super::operands::Operands;
use super::shape::{ConvShape, Direction, Gather};
use super::tile::ROWS;
use crate::ops::cpu::element::Element;
use crate::ops::cpu::pool;

/// Source channels and taps that a tile sums over at once: of pairs, what it reads of their scratch stays in the
/// first-level cache.
const BLOCK: usize = 32 * 27;
/// Source channels at once, at the least and the most. Even.
const CHANNELS: [usize; 2] = [32, 128];

/// Weights rounded at a time.
const NARROW: usize = 1 << 16;

/// `[gather][channel block][8 results][unit][tap][operand of the unit][8]`; a unit is a channel or a pair of them.
pub struct PackedWeights {
    values: Vec<f32>,
    starts: Vec<usize>,
    pub sources: usize,
    pub results: usize,
    pub operands: Operands,
    /// Source channels that a tile sums over at once. Even.
    pub channel_block: usize,
}

impl PackedWeights {
    /// All but the values, and how many there are; for the backward direction source and result change places.
    pub fn planned(shape: &ConvShape, direction: &Direction, backward: bool, operands: Operands) -> (Self, usize) {
        let (sources, results) =
            if backward { (shape.out_channels, shape.in_channels) } else { (shape.in_channels, shape.out_channels) };
        let taps = direction.gathers.iter().map(|gather| gather.taps.len()).max().unwrap_or(1);
        let channel_block = (BLOCK / taps / 2 * 2).clamp(CHANNELS[0], CHANNELS[1]);
        let mut packed = Self { values: Vec::new(), starts: Vec::new(), sources, results, operands, channel_block };
        let groups = results.div_ceil(ROWS);
        let mut length = 0;
        for gather in &direction.gathers {
            packed.starts.push(length);
            length += groups * packed.tile_length(gather.taps.len(), sources);
        }
        (packed, length)
    }

    /// `weights` is `[out, in, z, y, x]`.
    pub fn new(shape: &ConvShape, direction: &Direction, backward: bool, operands: Operands, weights: &[f32]) -> Self {
        let (mut packed, length) = Self::planned(shape, direction, backward, operands);
        packed.values = pool::unwritten(length);
        let Self { sources, results, channel_block, .. } = packed;
        let groups = results.div_ceil(ROWS);
        let mut rest = &mut packed.values[..];
        let mut jobs = Vec::new();
        for gather in &direction.gathers {
            for first in (0..sources).step_by(channel_block) {
                let count = channel_block.min(sources - first);
                for group in 0..groups {
                    let length = operands.units(count) * gather.taps.len() * operands.per_unit() * ROWS;
                    let (job, tail) = rest.split_at_mut(length);
                    rest = tail;
                    jobs.push((gather, first, first + count, group * ROWS, job));
                }
            }
        }
        let narrow = match operands {
            Operands::Single => Vec::new(),
            _ => {
                let mut narrow = pool::unwritten::<bf16>(weights.len());
                narrow
                    .par_chunks_mut(NARROW)
                    .zip(weights.par_chunks(NARROW))
                    .for_each(|(to, from)| bf16::narrow(from, to));
                narrow
            }
        };
        // Floats from a source channel to the next, and from a result channel to the next.
        let taps = shape.taps();
        let strides = if backward { (results * taps, taps) } else { (taps, sources * taps) };
        jobs.into_par_iter().for_each(|(gather, first, end, row, job)| {
            let rows = row..results.min(row + ROWS);
            fill(job, operands, gather, first..end, rows, strides, weights, &narrow);
        });
        packed
    }

    /// Channels of scratch that a block of source channels takes.
    pub fn scratch_channels(&self) -> usize {
        let block = self.channel_block.min(self.sources);
        self.operands.units(block) * self.operands.per_unit()
    }

    fn tile_length(&self, taps: usize, channels: usize) -> usize {
        self.operands.units(channels) * taps * self.operands.per_unit() * ROWS
    }

    /// The weights of 8 results and one channel block.
    pub fn tile(&self, gather: usize, taps: usize, first_source: usize, count: usize, group: usize) -> &[f32] {
        let groups = self.results.div_ceil(ROWS);
        let length = self.tile_length(taps, count);
        let start = self.starts[gather] + groups * self.tile_length(taps, first_source) + group * length;
        &self.values[start..start + length]
    }
}

/// Writes the weights of up to 8 results, `narrow` being those rounded for pairs; what belongs to no channel is zero.
#[allow(clippy::too_many_arguments)]
fn fill(
    job: &mut [f32],
    operands: Operands,
    gather: &Gather,
    sources: std::ops::Range<usize>,
    results: std::ops::Range<usize>,
    (source_stride, result_stride): (usize, usize),
    weights: &[f32],
    narrow: &[bf16],
) {
    let at = |source: usize, tap: usize| source * source_stride + tap;
    let step = if operands == Operands::Single { 1 } else { 2 };
    if results.len() < ROWS || (step == 2 && sources.len() % 2 == 1) {
        job.fill(0.0);
    }
    let mut targets = job.chunks_exact_mut(ROWS);
    let mut next = || targets.next().unwrap_or_default();
    for even in sources.clone().step_by(step) {
        let odd = (even + 1 < sources.end).then_some(even + 1);
        for tap in &gather.taps {
            let from = at(even, tap.weight);
            let odd = odd.map(|odd| at(odd, tap.weight));
            match operands {
                Operands::Single => {
                    for (value, result) in next().iter_mut().zip(results.clone()) {
                        *value = weights[from + result * result_stride];
                    }
                }
                Operands::Widened => {
                    for (value, result) in next().iter_mut().zip(results.clone()) {
                        *value = odd.map_or(0.0, |odd| narrow[odd + result * result_stride].to_f32());
                    }
                    for (value, result) in next().iter_mut().zip(results.clone()) {
                        *value = narrow[from + result * result_stride].to_f32();
                    }
                }
                Operands::Paired => {
                    for (value, result) in next().iter_mut().zip(results.clone()) {
                        let even = u32::from(narrow[from + result * result_stride].to_bits());
                        let odd = odd.map_or(0, |odd| u32::from(narrow[odd + result * result_stride].to_bits()));
                        *value = f32::from_bits(odd << 16 | even);
                    }
                }
            }
        }
    }
}
