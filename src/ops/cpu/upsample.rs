//! Transposed convolution whose kernel is its stride, 1 or 2 along each axis: the U-Net's way up.
//!
//! Windows do not overlap, so it is one matrix product: `y[co, stride * v + tap] = bias[co] + sum_ci w[ci, co, tap]
//! x[ci, v]`, rows (co, tap), columns v. Activations are `[batch, channel, z, y, x]`, weights
//! `[input, output, kz, ky, kx]` as PyTorch has them, in `f32`.
//!
//! A task takes some lines of voxels, widens them to `f32` in scratch kept per thread (below 2 MiB for lines of up
//! to 512 voxels and 512 channels) and writes its part of the output. Every output is one sum in one order,
//! whatever the tiles, threads and instruction set; samples are alone.
mod gather;
mod gemm;
#[cfg(test)]
mod tests;
mod tile;
mod weight;

use rayon::prelude::*;

use self::gemm::{ForwardTile, GradientTile, PackedWeights};
use self::tile::{Tile, tiles};
use super::element::Element;
use super::isa::{Isa, dispatch, isa};
pub use weight::{add_bias_gradient, add_weight_gradient};

/// The shape of a transposed convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpsampleShape {
    /// Samples.
    pub batch: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Voxels of the input, `[z, y, x]`.
    pub size: [usize; 3],
    /// Kernel and stride, `[z, y, x]`, each 1 or 2.
    pub stride: [usize; 3],
}

impl UpsampleShape {
    /// Weights of one pair of channels.
    pub fn taps(&self) -> usize {
        self.stride.iter().product()
    }

    /// Voxels of the output, `[z, y, x]`.
    pub fn output_size(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.size[axis] * self.stride[axis])
    }

    /// Values of one sample's input.
    pub fn input_len(&self) -> usize {
        self.inputs * self.voxels()
    }

    /// Values of one sample's output.
    pub fn output_len(&self) -> usize {
        self.outputs * self.voxels() * self.taps()
    }

    /// Values of the weight, `[input, output, kz, ky, kx]`.
    pub fn weight_len(&self) -> usize {
        self.inputs * self.rows()
    }

    /// Voxels of one input channel.
    fn voxels(&self) -> usize {
        self.size.iter().product()
    }

    /// Pairs of output channel and tap.
    fn rows(&self) -> usize {
        self.outputs * self.taps()
    }

    fn check(&self) {
        assert!(self.stride.iter().all(|&stride| stride == 1 || stride == 2), "upsample: strides are 1 or 2, {self:?}");
        assert!(self.weight_len() > 0 && self.voxels() > 0, "upsample: an empty shape, {self:?}");
    }
}

/// `y = bias + x * weight`; `y`, `[batch, output, z, y, x]`, is written whole.
pub fn forward<E: Element>(x: &[E], weight: &[f32], bias: Option<&[f32]>, shape: &UpsampleShape, y: &mut [E]) {
    forward_on(isa(), x, weight, bias, shape, y);
}

/// The gradient of `x` from that of `y`; `gx`, `[batch, input, z, y, x]`, is written whole.
pub fn input_gradient<E: Element>(gy: &[E], weight: &[f32], shape: &UpsampleShape, gx: &mut [E]) {
    input_gradient_on(isa(), gy, weight, shape, gx);
}

/// What one thread writes at a time: a tile of some channels of one sample.
struct Task<'a, E> {
    sample: usize,
    /// The first of its channels.
    channel: usize,
    tile: Tile,
    /// The parts of the output, in the order of channels.
    pieces: Vec<&'a mut [E]>,
}

impl<E> Task<'_, E> {
    fn new(sample: usize, channel: usize, tile: &Tile) -> Self {
        Self { sample, channel, tile: *tile, pieces: Vec::new() }
    }
}

/// Fewer tasks than this, and the rows of the product are split too.
const TASKS: usize = 64;

/// Channels of the result per task, in steps of eight where there are several tasks.
fn channels_per_task(channels: usize, rows_per_channel: usize, tasks: usize) -> usize {
    if tasks >= TASKS { channels } else { 64_usize.div_ceil(rows_per_channel).next_multiple_of(8).min(channels) }
}

fn forward_on<E: Element>(isa: Isa, x: &[E], weight: &[f32], bias: Option<&[f32]>, shape: &UpsampleShape, y: &mut [E]) {
    shape.check();
    assert_eq!(x.len(), shape.batch * shape.input_len(), "upsample: the input is not of shape {shape:?}");
    assert_eq!(y.len(), shape.batch * shape.output_len(), "upsample: the output is not of shape {shape:?}");
    assert_eq!(weight.len(), shape.weight_len(), "upsample: the weight is not of shape {shape:?}");
    assert!(bias.is_none_or(|bias| bias.len() == shape.outputs), "upsample: one bias for each output channel");
    let rows = shape.rows();
    let weights = PackedWeights::from_columns(weight, rows);
    let tiles = tiles(shape, shape.inputs);
    let group = channels_per_task(shape.outputs, shape.taps(), shape.batch * tiles.len());

    // Hand out the output: per sample, group of channels and tile, the pieces [channel, z, window's z].
    let mut tasks: Vec<Task<E>> = Vec::new();
    let [_, out_y, out_x] = shape.output_size();
    for (sample, y) in y.chunks_mut(shape.output_len()).enumerate() {
        for (index, y) in y.chunks_mut(group * shape.voxels() * shape.taps()).enumerate() {
            let first = tasks.len();
            tasks.extend(tiles.iter().map(|tile| Task::new(sample, index * group, tile)));
            for channel in y.chunks_mut(shape.voxels() * shape.taps()) {
                for (z, mut plane) in channel.chunks_mut(out_y * out_x).enumerate() {
                    let z = z / shape.stride[0];
                    for task in tasks[first..].iter_mut().filter(|task| task.tile.has(z)) {
                        let piece;
                        (piece, plane) = plane.split_at_mut(task.tile.lines * shape.stride[1] * out_x);
                        task.pieces.push(piece);
                    }
                }
            }
        }
    }
    tasks.into_par_iter().for_each(|Task { sample, channel, tile, mut pieces }| {
        let x = &x[sample * shape.input_len()..][..shape.input_len()];
        gemm::with_scratch(|scratch| {
            let pieces = &mut pieces;
            dispatch(isa, ForwardTile { x, weights: &weights, bias, shape, tile, channel, pieces, scratch });
        });
    });
}

fn input_gradient_on<E: Element>(isa: Isa, gy: &[E], weight: &[f32], shape: &UpsampleShape, gx: &mut [E]) {
    shape.check();
    assert_eq!(gx.len(), shape.batch * shape.input_len(), "upsample: the input is not of shape {shape:?}");
    assert_eq!(gy.len(), shape.batch * shape.output_len(), "upsample: the output is not of shape {shape:?}");
    assert_eq!(weight.len(), shape.weight_len(), "upsample: the weight is not of shape {shape:?}");
    let rows = shape.rows();
    let weights = PackedWeights::from_rows(isa, weight, shape.inputs);
    let tiles = tiles(shape, rows);
    let group = channels_per_task(shape.inputs, 1, shape.batch * tiles.len());

    let mut tasks: Vec<Task<E>> = Vec::new();
    for (sample, gx) in gx.chunks_mut(shape.input_len()).enumerate() {
        for (index, gx) in gx.chunks_mut(group * shape.voxels()).enumerate() {
            let first = tasks.len();
            tasks.extend(tiles.iter().map(|tile| Task::new(sample, index * group, tile)));
            for mut channel in gx.chunks_mut(shape.voxels()) {
                for task in &mut tasks[first..] {
                    let piece;
                    (piece, channel) = channel.split_at_mut(task.tile.voxels(shape));
                    task.pieces.push(piece);
                }
            }
        }
    }
    tasks.into_par_iter().for_each(|Task { sample, channel, tile, mut pieces }| {
        let gy = &gy[sample * shape.output_len()..][..shape.output_len()];
        gemm::with_scratch(|scratch| {
            let pieces = &mut pieces;
            dispatch(isa, GradientTile { gy, weights: &weights, shape, tile, channel, pieces, scratch });
        });
    });
}
