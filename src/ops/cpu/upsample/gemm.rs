//! The matrix products of the way forth and of the input's gradient, one tile of voxels at a time.
use std::cell::RefCell;

use super::UpsampleShape;
use super::gather::{Line, flat, flat_mut, read, row_lines, window_rows, write, write_pair};
use super::tile::Tile;
use crate::ops::cpu::element::Element;
use crate::ops::cpu::isa::{Kernel, LANES, Lanes};

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
    /// From `weight(row, k)`. As large as the weight itself.
    pub fn new(rows: usize, depth: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let mut panels = Vec::with_capacity(rows.div_ceil(ROWS) * depth);
        for first in (0..rows).step_by(ROWS) {
            for k in 0..depth {
                let mut values = [0.0; ROWS];
                for (value, row) in values.iter_mut().zip(first..rows) {
                    *value = weight(row, k);
                }
                panels.push(values);
            }
        }
        Self { panels, depth }
    }

    /// The eight rows from `row`, a multiple of eight, on.
    fn panel(&self, row: usize) -> &[[f32; ROWS]] {
        &self.panels[row / ROWS * self.depth..][..self.depth]
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
        let lines = panels * COLUMNS + 1;
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

/// Eight rows of the result over all panels, into `out`, `[row][line]`.
#[inline(always)]
fn eight_rows<L: Lanes>(a: &[[f32; ROWS]], columns: &[[Line; COLUMNS]], out: &mut [Line]) {
    let stride = out.len() / ROWS;
    for (panel, b) in columns.chunks_exact(a.len()).enumerate() {
        let out = &mut out[panel * COLUMNS..];
        if L::MANY_REGISTERS {
            product::<L, ROWS, COLUMNS>(a, b, (0, 0), out, stride);
        } else {
            for column in 0..COLUMNS {
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
        let stride = rows.len() / ROWS;
        for first in (0..count).step_by(ROWS) {
            eight_rows::<L>(self.weights.panel(self.channel * taps + first), columns, rows);
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
        let stride = rows.len() / ROWS;
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
            eight_rows::<L>(self.weights.panel(self.channel + first), columns, rows);
            for (piece, row) in self.pieces[first..].iter_mut().zip(rows.chunks_exact(stride)) {
                for (to, line) in piece.chunks_mut(LANES).zip(row) {
                    write(L::load(&line.0), to);
                }
            }
        }
    }
}
