//! The weight gradient: for every pair of channels and every tap, the sum over positions of output gradient times input.
//!
//! A block's input is packed as for the forward pass; the gradient of its output is transposed, so that a vector holds
//! the output channels of one position (or pair of positions). The sums of 16 or 32 output channels and some *columns*
//! (input channel and tap) stay in registers while positions go by. Columns come in threes that share a base address and
//! differ by the same three offsets everywhere: the taps along x, or, of kernels less than three wide, three neighbouring channels.
//!
//! Samples are added one after another, blocks in order within a sample, and every sum within a block has a fixed
//! order, so that the result depends neither on the number of threads nor on how samples are grouped in micro-batches.
use std::ops::Range;

use rayon::prelude::*;

use super::block::{Block, Blocking, Halve, Pack};
use super::operands::Operands;
use super::room::Room;
use super::shape::{ConvShape, Direction};
use super::source::{Channel, Part, Row, channel};
use super::tile::{self, LANES, OFFSETS, OuterTile, SUMS};
use super::transpose::{self, Transposed};
use crate::ops::cpu::element::Element;
use crate::ops::cpu::isa::{Isa, dispatch};
use crate::ops::cpu::pool::unwritten;
use crate::ops::cpu::shared::SharedSlice;
use crate::ops::cpu::slots::{Free, Slots};

/// Elements of packed input and gradient per block: 6 MiB in bf16. Fewer rows are read twice than in blocks that fit nearer
/// caches, and more is summed before sums are written.
const SCRATCH: usize = 3 * 1024 * 1024;
/// Blocks that are packed and multiplied at once: threads wait for each other less often.
const AT_ONCE: usize = 2;
/// Positions summed in registers before they are added to the block's sums: bounds the length of a chain of additions,
/// and their gradients stay in the first-level cache.
const CHUNK: usize = 256;
/// About as many pieces of work are made of a block: enough for threads to end together.
const UNITS: usize = 16;

/// Adds the weight gradient of a batch to `sum` (`[out, in, z, y, x]`); `input` is `[batch, in, z, y, x]`, `gradient`
/// (of the output) `[batch, out, z, y, x]`.
pub fn add<E: Element>(isa: Isa, shape: &ConvShape, input: &[Part<'_, E>], gradient: &[Part<'_, E>], sum: &mut [f32]) {
    if shape.batch * shape.in_voxels() * shape.in_channels * shape.out_channels == 0 {
        return;
    }
    let direction = Direction::forward(shape);
    let blocking = blocking(shape, &direction);
    let work = Work {
        isa,
        shape,
        operands: Operands::of::<E>(isa),
        blocking: &blocking,
        direction: &direction,
        columns: Columns::new(shape, &direction),
    };
    let blocks = work.blocking.blocks();
    let items: Vec<_> = (0..shape.batch).flat_map(|sample| blocks.iter().map(move |block| (sample, block))).collect();
    // All that is held is taken here, and in this order.
    let sizes = work.sizes(&blocks[0]);
    let mut packed: Vec<Packed> = (0..AT_ONCE.min(items.len())).map(|_| Packed::new(work.operands, &sizes)).collect();
    let mut slots = Slots::new(sizes.thread, rayon::current_num_threads());
    let slots = (slots.free(), sizes.thread);
    for items in items.chunks(AT_ONCE) {
        packed.par_iter_mut().zip(items).for_each(|(packed, (sample, block))| {
            let Packed { input: to, gradient: transposed } = packed;
            rayon::join(
                || work.pack_input(block, *sample, input, to),
                || transposed.fill(isa, work.operands, shape, work.blocking, block, *sample, gradient, &slots),
            );
        });
        let ready: Vec<(&Block, &Packed)> = items.iter().map(|(_, block)| *block).zip(&packed).collect();
        work.multiply(&ready, sum, &slots);
    }
}

/// Floats of the sums of some bases: whole tiles.
fn totals(bases: usize, vectors: usize) -> usize {
    bases.next_multiple_of(SUMS / OFFSETS / vectors) * OFFSETS * vectors * LANES
}

/// Elements that are held while a block is worked on.
struct Sizes {
    input: usize,
    gradient: usize,
    /// For each thread: rows while blocks are packed, sums while they are multiplied.
    thread: usize,
}

fn blocking(shape: &ConvShape, direction: &Direction) -> Blocking {
    let per_position = shape.in_channels * direction.source_phases().len() + shape.out_channels;
    Blocking::new(direction, SCRATCH / per_position)
}

/// What [`add`] holds beside its tensors.
pub fn room(shape: &ConvShape, operands: Operands, threads: usize) -> Room {
    let direction = Direction::forward(shape);
    let blocking = blocking(shape, &direction);
    if blocking.count() == 0 {
        return Room::default();
    }
    let columns = Columns::new(shape, &direction);
    let work = Work { isa: Isa::Portable, shape, operands, blocking: &blocking, direction: &direction, columns };
    let sizes = work.sizes(&blocking.block(0));
    let mut room = Room::default();
    for _ in 0..AT_ONCE.min(shape.batch * blocking.count()) {
        match operands {
            Operands::Paired => room.add::<u16>(sizes.input, 1),
            _ => room.add::<f32>(sizes.input, 1),
        }
        room.add::<f32>(sizes.gradient, 1);
    }
    room.add::<f32>(Slots::<f32>::elements(sizes.thread, threads), 1);
    room
}

/// A block, ready for the tiles.
struct Packed {
    input: Input,
    gradient: Transposed,
}

impl Packed {
    fn new(operands: Operands, sizes: &Sizes) -> Self {
        let input = match operands {
            Operands::Paired => Input { narrow: unwritten(sizes.input), ..Input::default() },
            _ => Input { wide: unwritten(sizes.input), ..Input::default() },
        };
        Self { input, gradient: Transposed::new(sizes.gradient) }
    }
}

/// `[channel][position]`, in f32 or (for `Paired` operands) the bits of bf16; the other is empty.
#[derive(Default)]
struct Input {
    wide: Vec<f32>,
    narrow: Vec<u16>,
}

/// The columns of the gradient matrix.
struct Columns {
    /// The first tap of each base.
    taps: Vec<usize>,
    /// Whether a base's columns are the taps along x; else they are channels.
    along: bool,
    /// Bases: threes of columns.
    count: usize,
}

impl Columns {
    fn new(shape: &ConvShape, direction: &Direction) -> Self {
        let along = shape.kernel[2] == OFFSETS;
        let step = if along { OFFSETS } else { 1 };
        let taps: Vec<usize> = (0..direction.gathers[0].taps.len()).step_by(step).collect();
        let channels = if along { shape.in_channels } else { shape.in_channels.div_ceil(OFFSETS) };
        let count = channels * taps.len();
        Self { taps, along, count }
    }

    /// First channel and first tap of a base.
    fn base(&self, index: usize) -> (usize, usize) {
        let channels = if self.along { 1 } else { OFFSETS };
        (index / self.taps.len() * channels, self.taps[index % self.taps.len()])
    }
}

struct Work<'a> {
    isa: Isa,
    shape: &'a ConvShape,
    operands: Operands,
    blocking: &'a Blocking,
    direction: &'a Direction,
    columns: Columns,
}

impl Work<'_> {
    /// The largest block, which is the first, says how much is held.
    fn sizes(&self, block: &Block) -> Sizes {
        // Threes of channels may reach beyond the last.
        let input = self.blocking.channel_stride() * self.shape.in_channels.next_multiple_of(OFFSETS);
        let [gradient, rows] = transpose::floats(self.shape, self.blocking, block, self.operands);
        let sums = self.units().map(|(_, vectors, bases)| totals(bases.len(), vectors)).max().unwrap_or(0);
        Sizes { input, gradient, thread: rows.max(sums) }
    }

    fn pack_input<E: Element>(&self, block: &Block, sample: usize, input: &[Part<'_, E>], packed: &mut Input) {
        match self.operands {
            Operands::Paired => self.pack_channels(block, sample, input, &mut packed.narrow[..]),
            _ => self.pack_channels(block, sample, input, &mut packed.wide[..]),
        }
    }

    fn pack_channels<T, E>(&self, block: &Block, sample: usize, input: &[Part<'_, E>], packed: &mut [T])
    where
        T: bytemuck::Pod + Default + Halve + Send,
        E: Element,
        for<'a> Channel<'a, E>: Row<T>,
    {
        let Self { isa, shape, blocking, direction, .. } = *self;
        let stride = blocking.channel_stride();
        // What is summed of channels beyond the last is thrown away.
        let (channels, beyond) = packed.split_at_mut(stride * shape.in_channels);
        beyond.fill(T::default());
        let targets = channels.par_chunks_exact_mut(stride).enumerate();
        targets.for_each_init(Vec::new, |row, (index, scratch)| {
            let source = channel(input, shape.in_voxels(), sample, index);
            dispatch(isa, Pack { blocking, direction, block, source, scratch, row });
        });
    }

    /// Shares output channels and columns out, in whole tiles and as evenly as they go.
    fn multiply(&self, blocks: &[(&Block, &Packed)], sum: &mut [f32], (slots, length): &(Free<'_, f32>, usize)) {
        let Some((_, first)) = blocks.first() else { return };
        let groups = first.gradient.groups();
        let units: Vec<_> = self.units().collect();
        let sum = SharedSlice::new(sum);
        units.into_par_iter().for_each(|(group, vectors, bases)| {
            slots.with(*length, |slot| {
                let totals = &mut slot[..totals(bases.len(), vectors)];
                for (block, packed) in blocks {
                    self.unit(block, packed, group, bases.clone(), totals);
                    self.add_totals(&groups[group], bases.clone(), totals, &sum);
                }
            });
        });
    }

    /// Pieces of the work: group of output channels, their vectors, bases.
    fn units(&self) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
        let (channels, columns) = (self.shape.out_channels, self.columns.count);
        let groups = channels.div_ceil(transpose::GROUP);
        (0..groups).flat_map(move |group| {
            let vectors = (channels - group * transpose::GROUP).min(transpose::GROUP).div_ceil(LANES);
            let per_tile = SUMS / OFFSETS / vectors;
            let tiles = columns.div_ceil(per_tile);
            let shares = UNITS.div_ceil(groups).min(tiles);
            (0..shares).map(move |share| {
                let [first, end] = [share, share + 1].map(|at| (at * tiles / shares * per_tile).min(columns));
                (group, vectors, first..end)
            })
        })
    }

    /// The sums of a group of output channels and some bases over the block, `[base][offset][channel of the group]`.
    fn unit(&self, block: &Block, packed: &Packed, group: usize, bases: Range<usize>, totals: &mut [f32]) {
        let (blocking, operands) = (self.blocking, self.operands);
        let vectors = packed.gradient.groups()[group].len().div_ceil(LANES);
        let per_tile = SUMS / OFFSETS / vectors;
        let places: Vec<isize> = bases.map(|base| self.place(base)).collect();
        totals.fill(0.0);
        let taps = &self.direction.gathers[0].taps;
        let offset = |tap: usize| blocking.offset(taps[tap].phase, taps[tap].offset);
        let offsets = std::array::from_fn(|index| {
            if self.columns.along { offset(index) - offset(0) } else { (index * blocking.channel_stride()) as isize }
        });
        let plane_steps = packed.gradient.steps();
        let chunk = if operands == Operands::Paired { CHUNK / 2 } else { CHUNK };
        // Several small planes, or part of a large one, at a time.
        let together = (chunk / plane_steps).clamp(1, block.z.len());
        for plane in (0..block.z.len()).step_by(together) {
            for start in (0..plane_steps).step_by(chunk) {
                let position = if operands == Operands::Paired { 2 * start } else { start };
                let from = blocking.origin(plane) + position;
                for (places, totals) in places.chunks(per_tile).zip(totals.chunks_exact_mut(SUMS * LANES)) {
                    // Beyond the last base the last one is read again and the sum thrown away.
                    let mut bases = [0; SUMS / OFFSETS];
                    for (base, value) in bases[..per_tile].iter_mut().enumerate() {
                        *value = places[base.min(places.len() - 1)];
                    }
                    let source = match operands {
                        Operands::Paired => packed.input.narrow[from..].as_ptr().cast::<u8>(),
                        _ => packed.input.wide[from..].as_ptr().cast::<u8>(),
                    };
                    let tile = OuterTile {
                        gradient: packed.gradient.at(group, plane, start).as_ptr(),
                        steps: chunk.min(plane_steps - start),
                        planes: together.min(block.z.len() - plane),
                        gradient_plane: packed.gradient.plane_stride(group),
                        source_plane: blocking.plane_distance(),
                        source,
                        bases: &bases[..per_tile],
                        offsets,
                        sums: totals.as_mut_ptr(),
                    };
                    // SAFETY: `Blocking` leaves readable elements on both sides of every tap of every position, and more
                    // behind the last; the gradient has all steps of all planes; totals are cut in whole tiles.
                    unsafe { tile::outer(self.isa, operands, vectors, tile) };
                }
            }
        }
    }

    /// Elements from a position to where a base reads for it.
    fn place(&self, base: usize) -> isize {
        let (channel, tap) = self.columns.base(base);
        let tap = &self.direction.gathers[0].taps[tap];
        (channel * self.blocking.channel_stride()) as isize + self.blocking.offset(tap.phase, tap.offset)
    }

    fn add_totals(&self, outputs: &Range<usize>, bases: Range<usize>, totals: &[f32], sum: &SharedSlice<'_, f32>) {
        let row = self.shape.in_channels * self.shape.taps();
        let lanes = outputs.len().next_multiple_of(LANES);
        for (lane, output) in outputs.clone().enumerate() {
            let totals = totals.chunks_exact(lanes).map(|column| column[lane]);
            if self.columns.along {
                // Bases in order are weights in order.
                let (start, length) = (output * row + bases.start * OFFSETS, bases.len() * OFFSETS);
                // SAFETY: units differ in output channel or column, so no two touch the same weight.
                let weights = unsafe { sum.slice(start, length) };
                weights.iter_mut().zip(totals).for_each(|(weight, total)| *weight += total);
                continue;
            }
            let columns = bases.clone().flat_map(|base| {
                let (channel, tap) = self.columns.base(base);
                let weight = self.direction.gathers[0].taps[tap].weight;
                (0..OFFSETS).map(move |offset| (channel + offset, weight))
            });
            for ((channel, weight), total) in columns.zip(totals).filter(|((c, _), _)| *c < self.shape.in_channels) {
                let at = output * row + channel * self.shape.taps() + weight;
                // SAFETY: as above.
                unsafe { sum.slice(at, 1)[0] += total };
            }
        }
    }
}
