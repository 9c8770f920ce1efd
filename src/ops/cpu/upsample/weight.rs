//! The gradients of weight and bias, one sample at a time.
//!
//! Each weight's gradient is a dot product along all voxels: sixteen lanes within a tile, tiles added up in order
//! within a segment, segments in order onto what is there.
use std::cell::RefCell;

use rayon::prelude::*;

use super::UpsampleShape;
use super::gather::{Line, flat_mut, read, row_lines, window_rows};
use super::tile::{Tile, tiles_of};
use crate::ops::cpu::element::Element;
use crate::ops::cpu::isa::{Isa, Kernel, LANES, Lanes, dispatch, isa};

/// Tiles that are summed before they are added to the gradient; a matter of the result, so never of threads.
const SEGMENT: usize = 16;

/// Rows (output channel, tap) of one task.
const ROWS: usize = 96;

/// Floats of partial sums that wait at a time.
const WAITING: usize = 1 << 20;

/// Rows times channels whose dot products run together.
const TOGETHER: (usize, usize) = (6, 4);

/// Adds one sample's gradient of the weight to `gradient`, `[input, output, kz, ky, kx]`; `x` is that sample,
/// `[input, z, y, x]`, and `gy` its output's gradient. `shape.batch` is not looked at. Samples go in order.
pub fn add_weight_gradient<E: Element>(x: &[E], gy: &[E], shape: &UpsampleShape, gradient: &mut [f32]) {
    add_weight_gradient_on(isa(), x, gy, shape, gradient);
}

/// Adds one sample's gradient of the bias to `gradient`, `[output]`, from its output's gradient `gy`.
/// `shape.batch` is not looked at.
pub fn add_bias_gradient<E: Element>(gy: &[E], shape: &UpsampleShape, gradient: &mut [f32]) {
    add_bias_gradient_on(isa(), gy, shape, gradient);
}

pub(super) fn add_weight_gradient_on<E: Element>(
    isa: Isa,
    x: &[E],
    gy: &[E],
    shape: &UpsampleShape,
    gradient: &mut [f32],
) {
    shape.check();
    assert_eq!(x.len(), shape.input_len(), "upsample: the input is not one sample of shape {shape:?}");
    assert_eq!(gy.len(), shape.output_len(), "upsample: the output is not one sample of shape {shape:?}");
    assert_eq!(gradient.len(), shape.weight_len(), "upsample: the weight is not of shape {shape:?}");
    let rows = shape.rows();
    let channels = shape.inputs.next_multiple_of(TOGETHER.1);
    // Channels and rows of a tile in `f32` fill two thirds of a second cache of 1 MiB.
    let tiles = tiles_of(shape, (163_840 / (channels + ROWS)).clamp(64, 1024));
    let segments: Vec<&[Tile]> = tiles.chunks(SEGMENT).collect();
    let blocks = rows.div_ceil(ROWS);
    for segments in segments.chunks((WAITING / shape.weight_len()).max(1)) {
        let parts: Vec<Vec<f32>> = (0..segments.len() * blocks)
            .into_par_iter()
            .map(|task| {
                let (tiles, first) = (segments[task / blocks], task % blocks * ROWS);
                let rows = ROWS.min(rows - first);
                with_scratch(|scratch| dispatch(isa, Segment { x, gy, shape, tiles, first, rows, scratch }))
            })
            .collect();
        gradient.par_chunks_mut(rows).enumerate().with_min_len(8).for_each(|(channel, gradient)| {
            for parts in parts.chunks(blocks) {
                for (gradient, part) in gradient.chunks_mut(ROWS).zip(parts) {
                    let part = &part[channel * gradient.len()..][..gradient.len()];
                    gradient.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                }
            }
        });
    }
}

/// Widened channels and rows of a tile, kept by each thread: `[channel or row][line of voxels]`.
#[derive(Default)]
struct Scratch {
    x: Vec<Line>,
    gy: Vec<Line>,
}

fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());
    SCRATCH.with_borrow_mut(work)
}

/// The sums of some rows over some tiles: `[channel][row]`.
struct Segment<'a, E> {
    x: &'a [E],
    gy: &'a [E],
    shape: &'a UpsampleShape,
    tiles: &'a [Tile],
    first: usize,
    rows: usize,
    scratch: &'a mut Scratch,
}

impl<E: Element> Kernel for Segment<'_, E> {
    type Output = Vec<f32>;
    #[inline(always)]
    fn run<L: Lanes>(self) -> Vec<f32> {
        let Self { shape, first, rows, .. } = self;
        let mut sums = vec![0.0; shape.inputs * rows];
        for tile in self.tiles {
            let voxels = tile.voxels(shape);
            let (lines, stride) = (voxels.div_ceil(LANES), row_lines(voxels));
            let Scratch { x, gy } = &mut *self.scratch;
            // Zeros in the rows and channels that only fill up the last group.
            for (scratch, count, group) in [(&mut *x, shape.inputs, TOGETHER.1), (&mut *gy, rows, TOGETHER.0)] {
                let needed = count.next_multiple_of(group) * stride;
                scratch.resize(needed, Line([0.0; LANES]));
                scratch[count * stride..].fill(Line([0.0; LANES]));
            }
            let start = tile.start(shape);
            for (from, to) in self.x.chunks_exact(shape.voxels()).zip(x.chunks_exact_mut(stride)) {
                let from = &from[start..start + voxels];
                for (i, line) in to[..lines].iter_mut().enumerate() {
                    read::<E, L>(from, i * LANES).store(&mut line.0);
                }
            }
            read_rows::<E, L>(self.gy, shape, tile, first..first + rows, stride, gy);
            for channel in (0..shape.inputs).step_by(TOGETHER.1) {
                let x = &x[channel * stride..][..TOGETHER.1 * stride];
                let sums = &mut sums[channel * rows..];
                for row in (0..rows).step_by(TOGETHER.0) {
                    let gy = &gy[row * stride..][..TOGETHER.0 * stride];
                    let mut part = [[0.0; TOGETHER.0]; TOGETHER.1];
                    if L::MANY_REGISTERS {
                        dots::<L, 4, 6>(x, gy, (0, 0), (lines, stride), &mut part);
                    } else {
                        for corner in [(0, 0), (0, 2), (0, 4), (2, 0), (2, 2), (2, 4)] {
                            dots::<L, 2, 2>(x, gy, corner, (lines, stride), &mut part);
                        }
                    }
                    for (sums, part) in sums.chunks_mut(rows).zip(&part) {
                        sums[row..].iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                    }
                }
            }
        }
        sums
    }
}

/// Widens the rows (output channel, tap) `range` over a tile; what follows a row's voxels in its last line is zero.
#[inline(always)]
fn read_rows<E: Element, L: Lanes>(
    gy: &[E],
    shape: &UpsampleShape,
    tile: &Tile,
    range: std::ops::Range<usize>,
    stride: usize,
    to: &mut [Line],
) {
    let [_, window_y, window_x] = shape.stride;
    let (taps, voxels) = (shape.taps(), tile.voxels(shape));
    let channel_len = shape.voxels() * taps;
    // `ROWS` and the taps are even where the window is two wide, so both rows of a line are in the range.
    for (row, to) in range.step_by(window_x).zip(to.chunks_mut(stride * window_x)) {
        let (channel, tap) = (row / taps, row % taps);
        let window = (tap / (window_y * window_x), tap / window_x % window_y);
        let (even, odd) = to.split_at_mut(stride);
        let (even, odd) = (flat_mut(even), flat_mut(odd));
        window_rows::<E, L>(&gy[channel * channel_len..][..channel_len], shape, tile, window, [even, odd]);
        even[voxels..].fill(0.0);
        if let Some(rest) = odd.get_mut(voxels..) {
            rest.fill(0.0);
        }
    }
}

/// Dot products of `R` channels and `C` rows, from `corner` on.
#[inline(always)]
fn dots<L: Lanes, const R: usize, const C: usize>(
    x: &[Line],
    gy: &[Line],
    corner: (usize, usize),
    (lines, stride): (usize, usize),
    out: &mut [[f32; TOGETHER.0]; TOGETHER.1],
) {
    let mut sums = [[L::splat(0.0); C]; R];
    let mut a: [&[Line]; R] = [&[]; R];
    let mut b: [&[Line]; C] = [&[]; C];
    for i in 0..R {
        a[i] = &x[(corner.0 + i) * stride..][..lines];
    }
    for j in 0..C {
        b[j] = &gy[(corner.1 + j) * stride..][..lines];
    }
    for line in 0..lines {
        let mut values = [L::splat(0.0); C];
        for j in 0..C {
            values[j] = L::load(&b[j][line].0);
        }
        for i in 0..R {
            let factor = L::load(&a[i][line].0);
            for j in 0..C {
                sums[i][j] = factor.fma(values[j], sums[i][j]);
            }
        }
    }
    for i in 0..R {
        for j in 0..C {
            out[corner.0 + i][corner.1 + j] = sums[i][j].sum();
        }
    }
}

pub(super) fn add_bias_gradient_on<E: Element>(isa: Isa, gy: &[E], shape: &UpsampleShape, gradient: &mut [f32]) {
    shape.check();
    assert_eq!(gy.len(), shape.output_len(), "upsample: the output is not one sample of shape {shape:?}");
    assert_eq!(gradient.len(), shape.outputs, "upsample: one bias for each output channel");
    let channels = gy.par_chunks(shape.voxels() * shape.taps());
    channels.zip(gradient).for_each(|(gy, sum)| *sum += dispatch(isa, Sum(gy)) as f32);
}

/// The sum of all values: `f32` lanes within 4096, `f64` across.
struct Sum<'a, E>(&'a [E]);

impl<E: Element> Kernel for Sum<'_, E> {
    type Output = f64;
    #[inline(always)]
    fn run<L: Lanes>(self) -> f64 {
        let mut all = 0.0;
        for block in self.0.chunks(4096) {
            let mut sum = L::splat(0.0);
            for at in (0..block.len()).step_by(LANES) {
                sum = sum.add(read::<E, L>(block, at));
            }
            all += f64::from(sum.sum());
        }
        all
    }
}
