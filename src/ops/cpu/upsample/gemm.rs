//! The matrix products of the way forth and of the input's gradient, one tile of voxels at a time.
use std::cell::RefCell;

use rayon::prelude::*;

use super::UpsampleShape;
use super::gather::{Line, flat, flat_mut, read, row_lines, window_rows, write, write_pair};
use super::tile::Tile;
use crate::ops::cpu::element::Element;
use crate::ops::cpu::isa::{Isa, Kernel, LANES, Lanes, dispatch};

/// Rows of the result that are made together.
const ROWS: usize = 8;

/// Lines of sixteen voxels that are made together.
const COLUMNS: usize = 3;

/// The left matrix in the order it is read: `[panel of eight rows][k][row of the panel]`, zeros below the last row.
pub(super) struct PackedWeights {
    panels: Vec<[f32; ROWS]>,
    depth: usize,
}

impl PackedWeights {
    /// From a weight `[k, row]`. As large as the weight itself.
    pub fn from_columns(weight: &[f32], rows: usize) -> Self {
        Self::new(rows, weight.len() / rows, |first, panel| {
            let last = rows.min(first + ROWS);
            for (values, from) in panel.iter_mut().zip(weight.chunks_exact(rows)) {
                values[..last - first].copy_from_slice(&from[first..last]);
            }
        })
    }

    /// From a weight `[row, k]`. As large as the weight itself.
    pub fn from_rows(isa: Isa, weight: &[f32], rows: usize) -> Self {
        let depth = weight.len() / rows;
        Self::new(rows, depth, |first, panel| {
            let rows = &weight[first * depth..rows.min(first + ROWS) * depth];
            dispatch(isa, Transpose { rows, panel });
        })
    }

    /// `fill(first row, panel)` on every panel of zeros.
    fn new(rows: usize, depth: usize, fill: impl Fn(usize, &mut [[f32; ROWS]]) + Sync) -> Self {
        let mut panels = vec![[0.0; ROWS]; rows.div_ceil(ROWS) * depth];
        let by_panel = panels.par_chunks_mut(depth).with_min_len((8192 / depth).max(1)).enumerate();
        by_panel.for_each(|(index, panel)| fill(index * ROWS, panel));
        Self { panels, depth }
    }

    /// The eight rows from `row`, a multiple of eight, on.
    fn panel(&self, row: usize) -> &[[f32; ROWS]] {
        &self.panels[row / ROWS * self.depth..][..self.depth]
    }
}

/// Up to eight rows `[row, k]` into a panel `[k][row]`.
struct Transpose<'a> {
    rows: &'a [f32],
    panel: &'a mut [[f32; ROWS]],
}

impl Kernel for Transpose<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let depth = self.panel.len();
        let whole = if self.rows.len() == ROWS * depth { depth / LANES * LANES } else { 0 };
        let (blocks, rest) = self.panel.split_at_mut(whole);
        for (index, block) in blocks.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut rows = [L::splat(0.0); ROWS];
            for (row, from) in rows.iter_mut().zip(self.rows.chunks_exact(depth)) {
                *row = read::<f32, L>(from, index * LANES);
            }
            // Each interleaving puts one bit of the row's number below the bits that are there: 4, then 2, then 1.
            for _ in 0..3 {
                let mut next = rows;
                for i in 0..ROWS / 2 {
                    (next[2 * i], next[2 * i + 1]) = L::interleave(rows[i], rows[i + ROWS / 2]);
                }
                rows = next;
            }
            let out = block.as_flattened_mut().as_chunks_mut::<LANES>().0;
            for (row, to) in rows.into_iter().zip(out) {
                row.store(to);
            }
        }
        for (k, values) in rest.iter_mut().enumerate() {
            for (value, row) in values.iter_mut().zip(self.rows.chunks_exact(depth)) {
                *value = row[whole + k];
            }
        }
    }
}

/// Room for a tile, kept by each thread.
#[derive(Default)]
pub(super) struct Scratch {
    /// The right matrix: `[panel of 48 voxels][k][voxel of the panel]`.
    columns: Vec<[Line; COLUMNS]>,
    /// Eight rows of the result, or two rows on the way into `columns`.
    rows: Vec<Line>,
}

/// Lends this thread's scratch.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());
    SCRATCH.with_borrow_mut(work)
}

impl Scratch {
    /// Makes room; returns the number of panels.
    fn prepare(&mut self, voxels: usize, depth: usize) -> usize {
        let panels = voxels.div_ceil(COLUMNS * LANES);
        self.columns.resize(panels * depth, [Line([0.0; LANES]); COLUMNS]);
        let lines = (panels * COLUMNS + 1) | 1;
        debug_assert!(lines >= row_lines(voxels));
        self.rows.resize(ROWS * lines, Line([0.0; LANES]));
        panels
    }
}

/// Some rows times some columns, from the first k to the last: `R` rows from `row` on, `C` lines from `column` on.
#[inline(always)]
fn product<L: Lanes, const R: usize, const C: usize>(
    a: &[[f32; ROWS]],
    b: &[[Line; COLUMNS]],
    (row, column): (usize, usize),
    out: &mut [Line],
    stride: usize,
) {
    let mut sums = [[L::splat(0.0); C]; R];
    for (a, b) in a.iter().zip(b) {
        let mut values = [L::splat(0.0); C];
        for j in 0..C {
            values[j] = L::load(&b[column + j].0);
        }
        for i in 0..R {
            let factor = L::splat(a[row + i]);
            for j in 0..C {
                sums[i][j] = factor.fma(values[j], sums[i][j]);
            }
        }
    }
    for i in 0..R {
        for j in 0..C {
            sums[i][j].store(&mut out[(row + i) * stride + column + j].0);
        }
    }
}

/// Eight rows of the result over all panels, `lines` in all, into `out`, `[row][line]`.
#[inline(always)]
fn eight_rows<L: Lanes>(a: &[[f32; ROWS]], columns: &[[Line; COLUMNS]], lines: usize, out: &mut [Line]) {
    let stride = out.len() / ROWS;
    for (panel, b) in columns.chunks_exact(a.len()).enumerate() {
        let out = &mut out[panel * COLUMNS..];
        let lines = COLUMNS.min(lines - panel * COLUMNS);
        if L::MANY_REGISTERS {
            match lines {
                1 => product::<L, ROWS, 1>(a, b, (0, 0), out, stride),
                2 => product::<L, ROWS, 2>(a, b, (0, 0), out, stride),
                _ => product::<L, ROWS, COLUMNS>(a, b, (0, 0), out, stride),
            }
        } else {
            for column in 0..lines {
                product::<L, 4, 1>(a, b, (0, column), out, stride);
                product::<L, 4, 1>(a, b, (4, column), out, stride);
            }
        }
    }
}

/// Puts row `k` in place in the columns.
#[inline(always)]
fn spread<L: Lanes>(row: &[Line], k: usize, depth: usize, columns: &mut [[Line; COLUMNS]]) {
    for (from, panel) in row.chunks_exact(COLUMNS).zip(columns.chunks_exact_mut(depth)) {
        for j in 0..COLUMNS {
            L::load(&from[j].0).store(&mut panel[k][j].0);
        }
    }
}

/// One tile of the output, some channels.
pub(super) struct ForwardTile<'a, 'p, E> {
    /// One sample, `[input, z, y, x]`.
    pub x: &'a [E],
    pub weights: &'a PackedWeights,
    pub bias: Option<&'a [f32]>,
    pub shape: &'a UpsampleShape,
    pub tile: Tile,
    /// The first output channel; times the taps a multiple of eight.
    pub channel: usize,
    /// `[channel, plane of the tile, z of the window]`, each the tile's lines of that plane.
    pub pieces: &'a mut [&'p mut [E]],
    pub scratch: &'a mut Scratch,
}

impl<E: Element> Kernel for ForwardTile<'_, '_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { shape, tile, .. } = self;
        let (voxels, depth) = (tile.voxels(shape), shape.inputs);
        let panels = self.scratch.prepare(voxels, depth);
        let Scratch { columns, rows } = self.scratch;
        let start = tile.start(shape);
        for (k, x) in self.x.chunks_exact(shape.voxels()).enumerate() {
            let x = &x[start..start + voxels];
            for panel in 0..panels {
                for (j, line) in columns[panel * depth + k].iter_mut().enumerate() {
                    read::<E, L>(x, (panel * COLUMNS + j) * LANES).store(&mut line.0);
                }
            }
        }
        let [window_z, window_y, window_x] = shape.stride;
        // Rows of one channel, and of one line of its window.
        let (taps, pieces_per_channel) = (shape.taps(), tile.planes * window_z);
        let count = self.pieces.len() / pieces_per_channel * taps;
        let (stride, lines) = (rows.len() / ROWS, voxels.div_ceil(LANES));
        for first in (0..count).step_by(ROWS) {
            eight_rows::<L>(self.weights.panel(self.channel * taps + first), columns, lines, rows);
            for row in (first..count.min(first + ROWS)).step_by(window_x) {
                let (channel, tap) = (row / taps, row % taps);
                let (az, ay) = (tap / (window_y * window_x), tap / window_x % window_y);
                let bias = L::splat(self.bias.map_or(0.0, |bias| bias[self.channel + channel]));
                let made = flat(&rows[(row - first) * stride..]);
                for plane in 0..tile.planes {
                    let piece = &mut self.pieces[channel * pieces_per_channel + plane * window_z + az];
                    write_lines::<E, L>(made, stride * LANES, plane * tile.lines, shape, bias, ay, piece);
                }
            }
        }
    }
}

/// Writes one line of the window over one plane of the tile: one row of `made`, or two in turns.
#[inline(always)]
fn write_lines<E: Element, L: Lanes>(
    made: &[f32],
    stride: usize,
    first_line: usize,
    shape: &UpsampleShape,
    bias: L,
    ay: usize,
    piece: &mut [E],
) {
    let [_, window_y, window_x] = shape.stride;
    let width = shape.size[2];
    for (y, lines) in piece.chunks_exact_mut(window_y * width * window_x).enumerate() {
        let line = &mut lines[ay * width * window_x..][..width * window_x];
        let at = (first_line + y) * width;
        for (x, to) in (at..).step_by(LANES).zip(line.chunks_mut(LANES * window_x)) {
            let even = read::<f32, L>(made, x).add(bias);
            if window_x == 1 {
                write(even, to);
            } else {
                let (low, high) = L::interleave(even, read::<f32, L>(made, stride + x).add(bias));
                write_pair(low, high, to);
            }
        }
    }
}

/// One tile of the input's gradient, some channels.
pub(super) struct GradientTile<'a, 'p, E> {
    /// One sample, `[output, z, y, x]`.
    pub gy: &'a [E],
    pub weights: &'a PackedWeights,
    pub shape: &'a UpsampleShape,
    pub tile: Tile,
    /// The first input channel, a multiple of eight.
    pub channel: usize,
    /// The tile's voxels of each channel.
    pub pieces: &'a mut [&'p mut [E]],
    pub scratch: &'a mut Scratch,
}

impl<E: Element> Kernel for GradientTile<'_, '_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { shape, tile, .. } = self;
        let depth = shape.rows();
        self.scratch.prepare(tile.voxels(shape), depth);
        let Scratch { columns, rows } = self.scratch;
        let (stride, lines) = (rows.len() / ROWS, tile.voxels(shape).div_ceil(LANES));
        let [window_z, window_y, window_x] = shape.stride;
        let mut k = 0;
        for gy in self.gy.chunks_exact(shape.voxels() * shape.taps()) {
            for window in 0..window_z * window_y {
                let (even, odd) = rows.split_at_mut(stride);
                let window = (window / window_y, window % window_y);
                window_rows::<E, L>(gy, shape, &tile, window, [flat_mut(even), flat_mut(&mut odd[..stride])]);
                for row in rows.chunks_exact(stride).take(window_x) {
                    spread::<L>(row, k, depth, columns);
                    k += 1;
                }
            }
        }
        for first in (0..self.pieces.len()).step_by(ROWS) {
            eight_rows::<L>(self.weights.panel(self.channel + first), columns, lines, rows);
            for (piece, row) in self.pieces[first..].iter_mut().zip(rows.chunks_exact(stride)) {
                for (to, line) in piece.chunks_mut(LANES).zip(row) {
                    write(L::load(&line.0), to);
                }
            }
        }
    }
}
