//! The inner loops in AVX-512: 24 sums in registers, one vector each.
use std::arch::x86_64::*;

use super::{GatherTile, LANES, OFFSETS, OuterTile, ROWS};

/// # Safety
/// As [`super::gather`], on a processor with AVX-512F.
#[target_feature(enable = "avx512f")]
pub unsafe fn gather<const NV: usize>(tile: GatherTile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); NV]; ROWS];
        for row in 0..ROWS {
            for vector in 0..NV {
                sums[row][vector] = if tile.starts.is_null() {
                    _mm512_loadu_ps(tile.sums.add(row * tile.sums_stride + vector * LANES))
                } else {
                    _mm512_set1_ps(*tile.starts.add(row))
                };
            }
        }
        let mut weight = tile.weights;
        for unit in 0..tile.units {
            let source = tile.source.add(unit * tile.unit_stride);
            for &tap in tile.taps {
                let at = source.offset(tap);
                let mut values = [_mm512_setzero_ps(); NV];
                for vector in 0..NV {
                    values[vector] = _mm512_loadu_ps(at.add(vector * LANES));
                }
                for row in 0..ROWS {
                    let w = _mm512_set1_ps(*weight.add(row));
                    for vector in 0..NV {
                        sums[row][vector] = _mm512_fmadd_ps(w, values[vector], sums[row][vector]);
                    }
                }
                weight = weight.add(ROWS);
            }
        }
        for row in 0..ROWS {
            for vector in 0..NV {
                _mm512_storeu_ps(tile.sums.add(row * tile.sums_stride + vector * LANES), sums[row][vector]);
            }
        }
    }
}

/// `V` vectors of output channels, `B` bases; with `SWAPPED`, the second position of each pair comes first.
///
/// # Safety
/// As [`super::outer`], on a processor with AVX-512F.
#[target_feature(enable = "avx512f")]
pub unsafe fn outer<const V: usize, const B: usize, const SWAPPED: bool>(tile: OuterTile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[[_mm512_setzero_ps(); V]; OFFSETS]; B];
        let bases: [*const f32; B] = std::array::from_fn(|base| tile.source.cast::<f32>().offset(tile.bases[base]));
        for plane in 0..tile.planes {
            let mut gradient = tile.gradient.add(plane * tile.gradient_plane);
            let plane = (plane * tile.source_plane) as isize;
            let mut offsets = tile.offsets.map(|offset| offset + plane);
            let group = if SWAPPED { 2 } else { 1 };
            for _ in 0..tile.steps / group {
                for member in 0..group {
                    let member = if SWAPPED { 1 - member } else { member };
                    let mut vectors = [_mm512_setzero_ps(); V];
                    for vector in 0..V {
                        vectors[vector] = _mm512_loadu_ps(gradient.add((member * V + vector) * LANES));
                    }
                    for base in 0..B {
                        for column in 0..OFFSETS {
                            let value = _mm512_set1_ps(*bases[base].offset(offsets[column] + member as isize));
                            for vector in 0..V {
                                sums[base][column][vector] =
                                    _mm512_fmadd_ps(vectors[vector], value, sums[base][column][vector]);
                            }
                        }
                    }
                }
                gradient = gradient.add(group * V * LANES);
                offsets = offsets.map(|offset| offset + group as isize);
            }
        }
        for base in 0..B {
            for column in 0..OFFSETS {
                for vector in 0..V {
                    let total = tile.sums.add(((base * OFFSETS + column) * V + vector) * LANES);
                    _mm512_storeu_ps(total, _mm512_add_ps(_mm512_loadu_ps(total), sums[base][column][vector]));
                }
            }
        }
    }
}
