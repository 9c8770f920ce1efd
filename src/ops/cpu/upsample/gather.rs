//! Between lines of the finer volume and rows of the coarser one, one row for each tap.
use super::UpsampleShape;
use super::tile::Tile;
use crate::ops::cpu::element::{Element, load_tail};
use crate::ops::cpu::isa::{LANES, Lanes};

/// Sixteen values of a cache line.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub [f32; LANES]);

/// The values of lines, in a row.
#[inline(always)]
pub(super) fn flat(lines: &[Line]) -> &[f32] {
    bytemuck::cast_slice(lines)
}

/// The values of lines, in a row.
#[inline(always)]
pub(super) fn flat_mut(lines: &mut [Line]) -> &mut [f32] {
    bytemuck::cast_slice_mut(lines)
}

/// Lines for a row of `voxels`, with room for a whole one behind any voxel. An odd number, so that rows do not fall
/// into the same few sets of the caches.
pub(super) fn row_lines(voxels: usize) -> usize {
    (voxels.div_ceil(LANES) + 1) | 1
}

/// Reads up to sixteen elements from `at` on; zero in the lanes after the end.
#[inline(always)]
pub(super) fn read<E: Element, L: Lanes>(from: &[E], at: usize) -> L {
    match from.get(at..).unwrap_or(&[]) {
        rest if rest.len() >= LANES => E::load(rest.first_chunk().unwrap_or(&[E::zeroed(); LANES])),
        rest => load_tail(rest, 0.0),
    }
}

/// Widens what the window (`az`, `ay`, both of x) of one output channel `gy` holds over a tile into `rows`, one row
/// for each x of the window. Only the first lanes of what follows the tile's voxels in a row are touched.
#[inline(always)]
pub(super) fn window_rows<E: Element, L: Lanes>(
    gy: &[E],
    shape: &UpsampleShape,
    tile: &Tile,
    (az, ay): (usize, usize),
    rows: [&mut [f32]; 2],
) {
    let [_, out_y, out_x] = shape.output_size();
    let width = shape.size[2];
    let [first, second] = rows;
    let mut at = 0;
    for z in tile.z..tile.z + tile.planes {
        for y in tile.y..tile.y + tile.lines {
            let start = ((z * shape.stride[0] + az) * out_y + y * shape.stride[1] + ay) * out_x;
            let line = &gy[start..start + out_x];
            for x in (0..width).step_by(LANES) {
                if shape.stride[2] == 1 {
                    put(read::<E, L>(line, x), first, at + x);
                } else {
                    let (low, high) = (read::<E, L>(line, 2 * x), read::<E, L>(line, 2 * x + LANES));
                    let (even, odd) = L::deinterleave(low, high);
                    put(even, first, at + x);
                    put(odd, second, at + x);
                }
            }
            at += width;
        }
    }
}

/// Stores sixteen lanes from `at` on.
#[inline(always)]
fn put<L: Lanes>(lanes: L, row: &mut [f32], at: usize) {
    if let Some(to) = row[at..].first_chunk_mut() {
        lanes.store(to);
    }
}

/// Rounds `low` and `high` into up to 32 elements.
#[inline(always)]
pub(super) fn write_pair<E: Element, L: Lanes>(low: L, high: L, to: &mut [E]) {
    if let Some(to) = to.first_chunk_mut::<{ 2 * LANES }>() {
        let (first, second) = to.as_chunks_mut::<LANES>().0.split_at_mut(1);
        E::store(low, &mut first[0]);
        E::store(high, &mut second[0]);
    } else {
        let mut both = [[E::zeroed(); LANES]; 2];
        E::store(low, &mut both[0]);
        E::store(high, &mut both[1]);
        to.copy_from_slice(&both.as_flattened()[..to.len()]);
    }
}

/// Rounds `lanes` into up to sixteen elements.
#[inline(always)]
pub(super) fn write<E: Element, L: Lanes>(lanes: L, to: &mut [E]) {
    if let Some(to) = to.first_chunk_mut() {
        E::store(lanes, to);
    } else {
        let mut all = [E::zeroed(); LANES];
        E::store(lanes, &mut all);
        to.copy_from_slice(&all[..to.len()]);
    }
}
