//! The inner loops with AVX-512's dot products of bf16 pairs: twice the multiplications per instruction.
use std::arch::x86_64::*;

use super::{GatherTile, LANES, OFFSETS, OuterTile, ROWS};

/// Sixteen pairs from memory.
///
/// # Safety
/// 64 readable bytes, on a processor with AVX-512F.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pairs(at: *const f32) -> __m512bh {
    // SAFETY: the caller's promise; both types are 64 bytes without meaning.
    unsafe { std::mem::transmute::<__m512, __m512bh>(_mm512_loadu_ps(at)) }
}

/// The same pair in all lanes.
///
/// # Safety
/// 4 readable bytes, on a processor with AVX-512F.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pair(at: *const u8) -> __m512bh {
    // SAFETY: the caller's promise; both types are 64 bytes without meaning.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(at.cast::<i32>().read_unaligned())) }
}

/// # Safety
/// As [`super::gather`], on a processor with AVX-512F and BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
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
                let values: [__m512bh; NV] = std::array::from_fn(|vector| pairs(at.add(vector * LANES)));
                for row in 0..ROWS {
                    let w = pair(weight.add(row).cast());
                    for vector in 0..NV {
                        sums[row][vector] = _mm512_dpbf16_ps(sums[row][vector], w, values[vector]);
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

/// `V` vectors of output channels, `B` bases.
///
/// # Safety
/// As [`super::outer`], on a processor with AVX-512F and BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn outer<const V: usize, const B: usize>(tile: OuterTile<'_>) {
    const SIZE: isize = size_of::<u16>() as isize;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[[_mm512_setzero_ps(); V]; OFFSETS]; B];
        // The bases move and the offsets stay: with eight bases there are registers for all of them. (Wrapping, for
        // behind the last step a base may point past what it reads.)
        let [first, second, third] = tile.offsets.map(|offset| SIZE * offset);
        let offsets = [0, second - first, third - first];
        for plane in 0..tile.planes {
            let mut gradient = tile.gradient.add(plane * tile.gradient_plane);
            let start = SIZE * (plane * tile.source_plane) as isize + first;
            let mut bases: [*const u8; B] =
                std::array::from_fn(|base| tile.source.offset(SIZE * tile.bases[base] + start));
            for _ in 0..tile.steps {
                let vectors: [__m512bh; V] = std::array::from_fn(|vector| pairs(gradient.add(vector * LANES)));
                for base in 0..B {
                    for column in 0..OFFSETS {
                        let value = pair(bases[base].offset(offsets[column]));
                        for vector in 0..V {
                            sums[base][column][vector] =
                                _mm512_dpbf16_ps(sums[base][column][vector], vectors[vector], value);
                        }
                    }
                }
                gradient = gradient.add(V * LANES);
                bases = bases.map(|base| base.wrapping_offset(2 * SIZE));
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
