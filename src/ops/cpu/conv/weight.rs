//! The weight gradient: for every pair of channels and every tap, the sum over positions of output gradient times input.
//!
//! Samples are added one after another, blocks in order within a sample, and every sum within a block has a fixed
//! order, so that the result depends neither on the number of threads nor on how samples are grouped in micro-batches.
use rayon::prelude::*;

use super::block::{Block, Blocking};
use super::shape::{ConvShape, Direction};
use super::source::{self, Part};
use super::tile::{self, CORRELATE_COLUMNS, CORRELATE_ROWS, CorrelateSums, CorrelateTile, LANES};
use crate::ops::cpu::element::Element;
use crate::ops::cpu::isa::Isa;
use crate::ops::cpu::shared::SharedSlice;

/// Floats of packed input per block: 4 MiB.
const SCRATCH: usize = 1024 * 1024;
/// Positions correlated at once: four rows of them and one channel's neighbourhood stay in the first-level cache.
const CHUNK: usize = 96 * LANES;

/// Adds the weight gradient of a batch to `sum` (`[out, in, z, y, x]`); `input` is `[batch, in, z, y, x]`, `gradient`
/// (of the output) `[batch, out, z, y, x]`.
pub fn add<E: Element>(isa: Isa, shape: &ConvShape, input: &[Part<'_, E>], gradient: &[E], sum: &mut [f32]) {
    let direction = Direction::forward(shape);
    if shape.in_voxels() * shape.in_channels * shape.out_channels == 0 {
        return;
    }
    let blocking = Blocking::new(&direction, shape.in_channels, SCRATCH);
    let mut packed = Packed::default();
    for sample in 0..shape.batch {
        let gradient =
            &gradient[sample * shape.out_channels * shape.out_voxels()..][..shape.out_channels * shape.out_voxels()];
        for block in blocking.blocks() {
            packed.fill(isa, shape, &direction, &blocking, &block, sample, input, gradient);
            packed.correlate(isa, shape, &direction, &blocking, &block, sum);
        }
    }
}

/// A block's input and output gradient in f32.
#[derive(Default)]
struct Packed {
    input: Vec<f32>,
    gradient: Vec<f32>,
}

/// Floats of packed gradient per channel, and per plane: rows `pitch` apart, zeros between, whole vectors per plane.
fn gradient_strides(blocking: &Blocking, block: &Block) -> (usize, usize) {
    let plane = blocking.plane_positions(block).next_multiple_of(LANES);
    (plane * block.z.len(), plane)
}

impl Packed {
    #[allow(clippy::too_many_arguments)]
    fn fill<E: Element>(
        &mut self,
        isa: Isa,
        shape: &ConvShape,
        direction: &Direction,
        blocking: &Blocking,
        block: &Block,
        sample: usize,
        input: &[Part<'_, E>],
        gradient: &[E],
    ) {
        let channel_stride = blocking.channel_stride();
        self.input.resize(channel_stride * shape.in_channels, 0.0);
        self.input.par_chunks_exact_mut(channel_stride).enumerate().for_each_init(
            Vec::new,
            |row, (channel, target)| {
                let source = source::channel(input, shape.in_voxels(), sample, channel);
                blocking.pack(isa, direction, block, source, target, row);
            },
        );
        let (channel_stride, plane_stride) = gradient_strides(blocking, block);
        let [_, height, width] = shape.out_size();
        self.gradient.resize(channel_stride * shape.out_channels, 0.0);
        self.gradient.par_chunks_exact_mut(channel_stride).enumerate().for_each(|(channel, target)| {
            let source = &gradient[channel * shape.out_voxels()..][..shape.out_voxels()];
            for (plane, z) in target.chunks_exact_mut(plane_stride).zip(block.z.clone()) {
                let (lines, rest) = plane.split_at_mut(block.y.len() * blocking.pitch);
                for (line, y) in lines.chunks_exact_mut(blocking.pitch).zip(block.y.clone()) {
                    let (values, padding) = line.split_at_mut(width);
                    E::widen(&source[(z * height + y) * width..][..width], values);
                    padding.fill(0.0);
                }
                rest.fill(0.0);
            }
        });
    }

    fn correlate(
        &self,
        isa: Isa,
        shape: &ConvShape,
        direction: &Direction,
        blocking: &Blocking,
        block: &Block,
        sum: &mut [f32],
    ) {
        let taps: Vec<(usize, isize)> =
            direction.gathers[0].taps.iter().map(|tap| (tap.weight, blocking.offset(tap.phase, tap.offset))).collect();
        // The columns of the gradient matrix: (place in a row of weights, float of packed input at position 0).
        let columns: Vec<(usize, isize)> = (0..shape.in_channels)
            .flat_map(|channel| {
                let base = (channel * blocking.channel_stride()) as isize;
                taps.iter().map(move |(weight, offset)| (channel * shape.taps() + weight, base + offset))
            })
            .collect();
        // Shares of columns so that few output channels still occupy every thread.
        let fours = shape.out_channels.div_ceil(CORRELATE_ROWS);
        let shares = 16usize.div_ceil(fours);
        let per_share = columns.len().div_ceil(shares).next_multiple_of(CORRELATE_COLUMNS);
        let shares = columns.len().div_ceil(per_share);
        let sum = SharedSlice::new(sum);
        (0..fours * shares).into_par_iter().for_each(|unit| {
            let columns = &columns[unit % shares * per_share..];
            let columns = &columns[..columns.len().min(per_share)];
            let mut totals = vec![[0.0f32; CORRELATE_ROWS]; columns.len().next_multiple_of(CORRELATE_COLUMNS)];
            self.unit(isa, shape, blocking, block, unit / shares * CORRELATE_ROWS, columns, &mut totals);
            for row in 0..CORRELATE_ROWS {
                let channel = unit / shares * CORRELATE_ROWS + row;
                if channel >= shape.out_channels {
                    break;
                }
                for ((place, _), total) in columns.iter().zip(&totals) {
                    let at = channel * shape.in_channels * shape.taps() + place;
                    // SAFETY: units differ in output channel or column, so no two touch the same weight.
                    unsafe { sum.slice(at, 1)[0] += total[row] };
                }
            }
        });
    }

    /// Four output channels from `first`, some columns.
    #[allow(clippy::too_many_arguments)]
    fn unit(
        &self,
        isa: Isa,
        shape: &ConvShape,
        blocking: &Blocking,
        block: &Block,
        first: usize,
        columns: &[(usize, isize)],
        totals: &mut [[f32; CORRELATE_ROWS]],
    ) {
        let (channel_stride, plane_stride) = gradient_strides(blocking, block);
        // Several small planes, or part of a large one, at a time.
        let together = (CHUNK / plane_stride).clamp(1, block.z.len());
        for plane in (0..block.z.len()).step_by(together) {
            let planes = together.min(block.z.len() - plane);
            let origin = blocking.origin(plane);
            for start in (0..plane_stride).step_by(CHUNK) {
                let length = CHUNK.min(plane_stride - start);
                let row_reach = (planes - 1) * plane_stride + length;
                let column_reach = (planes - 1) * blocking.plane_distance() + length;
                // Beyond the last channel or column the last one is read again and the sum thrown away.
                let rows = std::array::from_fn(|row| {
                    let channel = (first + row).min(shape.out_channels - 1);
                    self.gradient[channel * channel_stride + plane * plane_stride + start..][..row_reach].as_ptr()
                });
                for (group, totals) in columns.chunks(CORRELATE_COLUMNS).zip(totals.chunks_mut(CORRELATE_COLUMNS)) {
                    let columns = std::array::from_fn(|column| {
                        let (_, offset) = group[column.min(group.len() - 1)];
                        let at = (offset + (origin + start) as isize) as usize;
                        self.input[at..][..column_reach].as_ptr()
                    });
                    let tile = CorrelateTile {
                        rows,
                        columns,
                        steps: length / LANES,
                        planes,
                        row_stride: plane_stride,
                        column_stride: blocking.plane_distance(),
                    };
                    // SAFETY: the slices above reach to the last vector of the last plane.
                    let sums = unsafe { run_tile(isa, tile) };
                    for (column, total) in totals.iter_mut().enumerate() {
                        for row in 0..CORRELATE_ROWS {
                            total[row] += sums[row][column];
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`tile::correlate_portable`]; `isa` must be one the processor has.
unsafe fn run_tile(isa: Isa, tile: CorrelateTile) -> CorrelateSums {
    // SAFETY: the caller's promise.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 => tile::x86::correlate_avx512(tile),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => tile::x86::correlate_avx2(tile),
            _ => tile::correlate_portable(tile),
        }
    }
}
