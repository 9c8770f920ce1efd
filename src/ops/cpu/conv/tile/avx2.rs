//! The inner loops in AVX2: each tile in parts whose sums fit 16 registers, a vector in two halves.
use std::arch::x86_64::*;

use super::{GatherTile, LANES, OFFSETS, OuterTile, ROWS};

/// # Safety
/// As [`super::gather`], on a processor with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn gather(vectors: usize, tile: GatherTile<'_>) {
    const PART: usize = 4; // 4 rows x 2 half vectors of sums fit the 16 registers
    // SAFETY: the caller's promise.
    unsafe {
        for vector in 0..vectors {
            for first in [0, PART] {
                let out = tile.sums.add(first * tile.sums_stride + vector * LANES);
                let mut sums = [[_mm256_setzero_ps(); 2]; PART];
                for row in 0..PART {
                    sums[row] = if tile.starts.is_null() {
                        let out = out.add(row * tile.sums_stride);
                        [_mm256_loadu_ps(out), _mm256_loadu_ps(out.add(8))]
                    } else {
                        [_mm256_set1_ps(*tile.starts.add(first + row)); 2]
                    };
                }
                let mut weight = tile.weights.add(first);
                for unit in 0..tile.units {
                    let source = tile.source.add(unit * tile.unit_stride + vector * LANES);
                    for &tap in tile.taps {
                        let low = _mm256_loadu_ps(source.offset(tap));
                        let high = _mm256_loadu_ps(source.offset(tap).add(8));
                        for row in 0..PART {
                            let w = _mm256_set1_ps(*weight.add(row));
                            sums[row][0] = _mm256_fmadd_ps(w, low, sums[row][0]);
                            sums[row][1] = _mm256_fmadd_ps(w, high, sums[row][1]);
                        }
                        weight = weight.add(ROWS);
                    }
                }
                for row in 0..PART {
                    _mm256_storeu_ps(out.add(row * tile.sums_stride), sums[row][0]);
                    _mm256_storeu_ps(out.add(row * tile.sums_stride + 8), sums[row][1]);
                }
            }
        }
    }
}

/// With `SWAPPED`, the second position of each pair comes first.
///
/// # Safety
/// As [`super::outer`], on a processor with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn outer<const SWAPPED: bool>(vectors: usize, tile: OuterTile<'_>) {
    const PART: usize = 2; // 2 bases x 3 columns x 2 half vectors of sums fit the 16 registers
    // SAFETY: the caller's promise.
    unsafe {
        for vector in 0..vectors {
            for first in (0..tile.bases.len()).step_by(PART) {
                let bases: [*const f32; PART] =
                    std::array::from_fn(|base| tile.source.cast::<f32>().offset(tile.bases[first + base]));
                let mut sums = [[[_mm256_setzero_ps(); 2]; OFFSETS]; PART];
                for plane in 0..tile.planes {
                    let gradient = tile.gradient.add(plane * tile.gradient_plane + vector * LANES);
                    let plane = (plane * tile.source_plane) as isize;
                    let mut offsets = tile.offsets.map(|offset| offset + plane);
                    let group = if SWAPPED { 2 } else { 1 };
                    for step in (0..tile.steps).step_by(group) {
                        for member in 0..group {
                            let member = if SWAPPED { 1 - member } else { member };
                            let at = gradient.add((step + member) * vectors * LANES);
                            let halves = [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))];
                            for base in 0..PART {
                                for column in 0..OFFSETS {
                                    let value = _mm256_set1_ps(*bases[base].offset(offsets[column] + member as isize));
                                    for half in 0..2 {
                                        sums[base][column][half] =
                                            _mm256_fmadd_ps(halves[half], value, sums[base][column][half]);
                                    }
                                }
                            }
                        }
                        offsets = offsets.map(|offset| offset + group as isize);
                    }
                }
                for base in 0..PART {
                    for column in 0..OFFSETS {
                        for half in 0..2 {
                            let place = ((first + base) * OFFSETS + column) * vectors + vector;
                            let total = tile.sums.add(place * LANES + half * 8);
                            let sum = _mm256_add_ps(_mm256_loadu_ps(total), sums[base][column][half]);
                            _mm256_storeu_ps(total, sum);
                        }
                    }
                }
            }
        }
    }
}
