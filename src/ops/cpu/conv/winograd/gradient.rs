//! The weight gradient: components of the output's gradient times those of the input, summed over a sample's positions
//! and only then turned into weights.
use std::ops::Range;

use rayon::prelude::*;

use super::super::block::{Block, Pack};
use super::super::operands::Operands;
use super::super::room::Room;
use super::super::shape::{ConvShape, Direction};
use super::super::source::{Channel, Part, Row, channel};
use super::super::tile::{self, LANES, OFFSETS, OuterTile, SUMS};
use super::super::transpose::transpose;
use super::COMPONENTS;
use super::components::{Spread, Vector, gradient_components, load, weight_gradients};
use super::grid::Grid;
use super::weights::TAPS;
use crate::ops::cpu::element::{Element, sixteen_mut};
use crate::ops::cpu::isa::{Isa, Kernel, Lanes, dispatch};
use crate::ops::cpu::pool::unwritten;
use crate::ops::cpu::shared::SharedSlice;
use crate::ops::cpu::slots::{Free, Slots};

/// Floats of components of a block's input and gradient: 3 MiB.
const SCRATCH: usize = 768 * 1024;
/// As in [`super::super::weight`].
const AT_ONCE: usize = 2;
/// As in [`super::super::weight`].
const CHUNK: usize = 256;
/// Output channels side by side.
const GROUP: usize = 2 * LANES;
/// Weights of a pair of channels.
const KERNEL: usize = 27;

/// Adds the weight gradient of a batch to `sum` (`[out, in, 3, 3, 3]`), sample by sample.
pub fn add<E: Element>(isa: Isa, shape: &ConvShape, input: &[Part<'_, E>], gradient: &[Part<'_, E>], sum: &mut [f32]) {
    let direction = Direction::forward(shape);
    let grid = grid(shape, &direction);
    let blocks = grid.blocks();
    let work = Work { isa, shape, direction: &direction, grid: &grid, groups: groups(shape) };
    // All that is held is taken here, and in this order.
    let mut totals: Vec<f32> = unwritten(work.total_start(work.groups.len()));
    let [input_floats, gradient_floats] = work.floats();
    let room = || Packed { input: unwritten(input_floats), gradient: unwritten(gradient_floats) };
    let mut packed: Vec<Packed> = (0..AT_ONCE.min(blocks.len())).map(|_| room()).collect();
    let length = grid.volume.channel_stride();
    let mut slots = Slots::new(length, rayon::current_num_threads());
    let slots = slots.free();
    for sample in 0..shape.batch {
        totals.fill(0.0);
        for blocks in blocks.chunks(AT_ONCE) {
            let packed = &mut packed[..blocks.len()];
            packed.par_iter_mut().zip(blocks).for_each(|(packed, block)| {
                rayon::join(
                    || work.spread(block, sample, input, &mut packed.input, &slots),
                    || work.transpose(block, sample, gradient, &mut packed.gradient),
                );
            });
            work.multiply(packed, &mut totals);
        }
        work.finish(&totals, sum);
    }
}

fn grid(shape: &ConvShape, direction: &Direction) -> Grid {
    let per_position = COMPONENTS * (shape.in_channels + shape.out_channels);
    Grid::new(direction, (SCRATCH / per_position).max(2 * LANES))
}

fn groups(shape: &ConvShape) -> Vec<Range<usize>> {
    let firsts = (0..shape.out_channels).step_by(GROUP);
    firsts.map(|first| first..shape.out_channels.min(first + GROUP)).collect()
}

/// What [`add`] holds beside its tensors.
pub fn room(isa: Isa, shape: &ConvShape, threads: usize) -> Room {
    let direction = Direction::forward(shape);
    let grid = grid(shape, &direction);
    let work = Work { isa, shape, direction: &direction, grid: &grid, groups: groups(shape) };
    let at_once = AT_ONCE.min(grid.count());
    let mut room = Room::default();
    room.add::<f32>(work.total_start(work.groups.len()), 1);
    for _ in 0..at_once {
        work.floats().into_iter().for_each(|floats| room.add::<f32>(floats, 1));
    }
    room.add::<f32>(Slots::<f32>::elements(grid.volume.channel_stride(), threads), 1);
    room
}

/// A block's components, ready for the tiles.
struct Packed {
    /// `[channel][component][position]`, as [`Grid`] says.
    input: Vec<f32>,
    /// `[group][component][position][channel of the group]`.
    gradient: Vec<f32>,
}

struct Work<'a> {
    isa: Isa,
    shape: &'a ConvShape,
    direction: &'a Direction,
    grid: &'a Grid,
    /// Output channels that are summed side by side.
    groups: Vec<Range<usize>>,
}

impl Work<'_> {
    /// Vectors of a group.
    fn vectors(&self, group: usize) -> usize {
        self.groups[group].len().div_ceil(LANES)
    }

    /// Input channels whose sums are in registers at once; each has three columns.
    fn per_tile(&self, group: usize) -> usize {
        SUMS / OFFSETS / self.vectors(group)
    }

    /// Floats of totals of a group and component, `[input channel][tap along x][channel of the group]`: whole tiles.
    fn total_length(&self, group: usize) -> usize {
        self.shape.in_channels.div_ceil(self.per_tile(group)) * SUMS * LANES
    }

    /// Where a group's totals begin, component after component.
    fn total_start(&self, group: usize) -> usize {
        (0..group).map(|group| COMPONENTS * self.total_length(group)).sum()
    }

    /// Floats of a component of a group's gradient.
    fn plane(&self, group: usize) -> usize {
        self.grid.positions() * self.vectors(group) * LANES
    }

    /// Floats of a block's components: of the input, and of the output's gradient.
    fn floats(&self) -> [usize; 2] {
        let gradient = COMPONENTS * (0..self.groups.len()).map(|group| self.plane(group)).sum::<usize>();
        [self.grid.channel_stride() * self.shape.in_channels, gradient]
    }

    fn spread<E: Element>(
        &self,
        block: &Block,
        sample: usize,
        input: &[Part<'_, E>],
        components: &mut [f32],
        slots: &Free<'_, f32>,
    ) {
        let Self { isa, shape, direction, grid, .. } = *self;
        let targets = components.par_chunks_exact_mut(grid.channel_stride()).enumerate();
        targets.for_each_init(Vec::new, |row, (index, components)| {
            slots.with(grid.volume.channel_stride(), |volume| {
                let source = channel(input, shape.in_voxels(), sample, index);
                dispatch(isa, Pack { blocking: &grid.volume, direction, block, source, scratch: volume, row });
                dispatch(isa, Spread { grid, volume, components });
            });
        });
    }

    fn transpose<E: Element>(&self, block: &Block, sample: usize, gradient: &[Part<'_, E>], to: &mut [f32]) {
        let Self { isa, shape, grid, .. } = *self;
        let starts: Vec<usize> = (0..self.groups.len())
            .map(|group| COMPONENTS * (0..group).map(|group| self.plane(group)).sum::<usize>())
            .collect();
        let mut jobs = Vec::new();
        for group in 0..self.groups.len() {
            for vector in 0..self.vectors(group) {
                jobs.extend((0..grid.planes).map(|plane| (group, vector, plane)));
            }
        }
        let to = SharedSlice::new(to);
        jobs.into_par_iter().for_each_init(Vec::new, |rows, (group, vector, plane)| {
            let first = self.groups[group].start + vector * LANES;
            let channels = first..self.groups[group].end.min(first + LANES);
            let source = channels.map(|output| channel(gradient, shape.out_voxels(), sample, output)).collect();
            let place =
                Place { start: starts[group], component: self.plane(group), lanes: self.vectors(group) * LANES };
            dispatch(isa, Turn { work: self, block, plane, source, rows, place, vector, to: &to });
        });
    }

    /// Adds the products of some blocks, each group and component alone.
    fn multiply(&self, blocks: &[Packed], totals: &mut [f32]) {
        let mut units = Vec::new();
        let (mut rest, mut start) = (totals, 0);
        for group in 0..self.groups.len() {
            for component in 0..COMPONENTS {
                let (total, tail) = rest.split_at_mut(self.total_length(group));
                rest = tail;
                units.push((group, start + component * self.plane(group), component, total));
            }
            start += COMPONENTS * self.plane(group);
        }
        units.into_par_iter().for_each(|(group, start, component, total)| {
            for packed in blocks {
                self.unit(packed, group, &packed.gradient[start..], component, total);
            }
        });
    }

    fn unit(&self, packed: &Packed, group: usize, gradient: &[f32], component: usize, total: &mut [f32]) {
        let (grid, per_tile) = (self.grid, self.per_tile(group));
        let lanes = self.vectors(group) * LANES;
        for start in (0..grid.positions()).step_by(CHUNK) {
            let source = packed.input[grid.component(component) + start..].as_ptr().cast::<u8>();
            for (tile, sums) in total.chunks_exact_mut(SUMS * LANES).enumerate() {
                // Beyond the last channel it is read again, and the sum thrown away.
                let mut bases = [0; SUMS / OFFSETS];
                for (base, place) in bases[..per_tile].iter_mut().enumerate() {
                    let channel = (tile * per_tile + base).min(self.shape.in_channels - 1);
                    *place = (channel * grid.channel_stride()) as isize - 1;
                }
                let tile = OuterTile {
                    gradient: gradient[start * lanes..].as_ptr(),
                    steps: CHUNK.min(grid.positions() - start),
                    planes: 1,
                    gradient_plane: 0,
                    source_plane: 0,
                    source,
                    bases: &bases[..per_tile],
                    offsets: [0, 1, 2],
                    sums: sums.as_mut_ptr(),
                };
                // SAFETY: a channel's scratch has readable floats on both sides of every position of every component; the
                // gradient has all positions; totals are cut in whole tiles.
                unsafe { tile::outer(self.isa, Operands::Single, self.vectors(group), tile) };
            }
        }
    }

    /// Turns the components' totals into weights, and adds them.
    fn finish(&self, totals: &[f32], sum: &mut [f32]) {
        let sum = SharedSlice::new(sum);
        let mut jobs = Vec::new();
        for group in 0..self.groups.len() {
            jobs.extend((0..self.vectors(group)).map(|vector| (group, vector)));
        }
        let channels: Vec<usize> = (0..self.shape.in_channels).collect();
        jobs.into_par_iter().for_each(|(group, vector)| {
            let totals = &totals[self.total_start(group)..];
            channels.par_iter().for_each(|input| {
                dispatch(self.isa, Finish { work: self, group, vector, input: *input, totals, sum: &sum });
            });
        });
    }
}

/// Where a group's gradient stands.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    /// Floats from a component to the next.
    component: usize,
    /// Floats from a position to the next.
    lanes: usize,
}

/// The components of the gradient of up to sixteen output channels, on one plane of positions, channels side by side.
struct Turn<'a, E> {
    work: &'a Work<'a>,
    block: &'a Block,
    plane: usize,
    source: Vec<Channel<'a, E>>,
    rows: &'a mut Vec<f32>,
    place: Place,
    vector: usize,
    to: &'a SharedSlice<'a, f32>,
}

impl<E: Element> Kernel for Turn<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { work, block, plane, source, rows, place, vector, to } = self;
        let [depth, height, width] = work.shape.out_size();
        let Grid { rows: lines, pitch, .. } = *work.grid;
        // Two planes by two rows of each channel; zeros where there is none, and after each row.
        let whole = pitch.next_multiple_of(LANES) + LANES;
        rows.clear();
        rows.resize(LANES * 4 * whole, 0.0);
        let mut components = [[[0.0f32; LANES]; LANES]; COMPONENTS];
        for line in 0..lines {
            for (source, rows) in source.iter().zip(rows.chunks_exact_mut(4 * whole)) {
                for (index, row) in rows.chunks_exact_mut(whole).enumerate() {
                    let (z, y) = (block.z.start + 2 * plane + index / 2, block.y.start + 2 * line + index % 2);
                    if z < depth.min(block.z.end) && y < height.min(block.y.end) {
                        source.read::<L>((z * height + y) * width, width, row);
                        row[width..].fill(0.0);
                    } else {
                        row.fill(0.0);
                    }
                }
            }
            for x in (0..pitch).step_by(LANES) {
                for (channel, rows) in rows.chunks_exact(4 * whole).enumerate() {
                    let found = gradient_components(load::<2, L>(&rows[x..], 2 * whole, whole));
                    for (value, component) in found.as_flattened().iter().zip(&mut components) {
                        value.0.store(&mut component[channel]);
                    }
                }
                let first = (plane * lines + line) * pitch + x;
                let count = LANES.min(pitch - x);
                for (index, component) in components.iter().enumerate() {
                    let start = place.start + index * place.component + first * place.lanes;
                    for (step, column) in transpose::<L>(component).into_iter().take(count).enumerate() {
                        // SAFETY: jobs differ in group, vector or plane, so no two write the same place.
                        let to = unsafe { to.slice(start + step * place.lanes + vector * LANES, LANES) };
                        column.store(sixteen_mut(to));
                    }
                }
            }
        }
    }
}

/// Adds the weights of an input channel and up to sixteen output channels.
struct Finish<'a> {
    work: &'a Work<'a>,
    group: usize,
    vector: usize,
    input: usize,
    /// From the group's first on.
    totals: &'a [f32],
    sum: &'a SharedSlice<'a, f32>,
}

impl Kernel for Finish<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { work, group, vector, input, totals, sum } = self;
        let (length, lanes) = (work.total_length(group), work.vectors(group) * LANES);
        let mut weights = [[0.0f32; LANES]; KERNEL];
        for tap in 0..TAPS {
            let at = (input * TAPS + tap) * lanes + vector * LANES;
            let found: [[Vector<L>; 3]; 3] = weight_gradients(load::<4, L>(&totals[at..], 4 * length, length));
            for (line, value) in found.as_flattened().iter().enumerate() {
                value.0.store(&mut weights[line * TAPS + tap]);
            }
        }
        let outputs = &work.groups[group];
        for (lane, output) in (outputs.start + vector * LANES..outputs.end).take(LANES).enumerate() {
            // SAFETY: jobs differ in input channel or in output channels, so no two touch the same weight.
            let sum = unsafe { sum.slice((output * work.shape.in_channels + input) * KERNEL, KERNEL) };
            for (sum, weight) in sum.iter_mut().zip(&weights) {
                *sum += weight[lane];
            }
        }
    }
}
