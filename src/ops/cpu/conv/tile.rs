//! The two inner loops, for each instruction set.
//!
//! *Gather tile*: 8 result channels x up to 3 vectors of 16 positions stay in registers while the loop runs over source
//! channels and taps. *Correlate tile*: up to 4 rows x up to 6 columns, each 16 lanes, stay in registers while the loop
//! runs over positions. Every number is a chain of fused multiply-adds in the same order on every instruction set, so
//! that all give the same bits.
#![allow(clippy::needless_range_loop, reason = "register tiles are clearest by index, and unroll reliably")]

/// Result channels per tile.
pub const ROWS: usize = 8;
/// Positions per vector.
pub const LANES: usize = 16;
/// Most vectors of positions per gather tile.
pub const VECTORS: usize = 3;
/// Output-gradient channels per correlate tile.
pub const CORRELATE_ROWS: usize = 4;
/// (channel, tap) pairs per correlate tile.
pub const CORRELATE_COLUMNS: usize = 6;

/// What a gather tile reads and writes.
#[derive(Clone, Copy)]
pub struct GatherTile<'a> {
    /// First position of the tile in the first channel's scratch.
    pub source: *const f32,
    pub channel_stride: usize,
    pub channels: usize,
    pub taps: &'a [isize],
    /// `[channel][tap][8]`.
    pub weights: *const f32,
    /// Sums, `[8][positions]`, added to.
    pub sums: *mut f32,
    pub sums_stride: usize,
}

/// What a correlate tile reads: sums over `steps` vectors of each of `planes` planes of `rows[r][p] * columns[c][p]`.
#[derive(Clone, Copy)]
pub struct CorrelateTile {
    pub rows: [*const f32; CORRELATE_ROWS],
    pub columns: [*const f32; CORRELATE_COLUMNS],
    pub steps: usize,
    pub planes: usize,
    /// Floats from a plane to the next.
    pub row_stride: usize,
    pub column_stride: usize,
}

pub type CorrelateSums = [[f32; CORRELATE_COLUMNS]; CORRELATE_ROWS];

/// Adds 16 lanes in a fixed tree.
fn lane_sum(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// # Safety
/// All pointers of the tile must cover what it reads: `source + channel * channel_stride + tap` for `16 * NV` floats,
/// `weights` for `8 * taps * channels`, `sums + row * sums_stride` for `16 * NV`.
pub unsafe fn gather_portable<const NV: usize>(tile: GatherTile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        for vector in 0..NV {
            for row in 0..ROWS {
                let out = tile.sums.add(row * tile.sums_stride + vector * LANES).cast::<[f32; LANES]>();
                let mut sum = *out;
                let mut weight = tile.weights.add(row);
                for channel in 0..tile.channels {
                    let source = tile.source.add(channel * tile.channel_stride + vector * LANES);
                    for &tap in tile.taps {
                        let values = *source.offset(tap).cast::<[f32; LANES]>();
                        let w = *weight;
                        for lane in 0..LANES {
                            sum[lane] = w.mul_add(values[lane], sum[lane]);
                        }
                        weight = weight.add(ROWS);
                    }
                }
                *out = sum;
            }
        }
    }
}

/// # Safety
/// Every row and column must have `16 * steps` readable floats in each plane.
pub unsafe fn correlate_portable(tile: CorrelateTile) -> CorrelateSums {
    let mut sums = [[0.0; CORRELATE_COLUMNS]; CORRELATE_ROWS];
    // SAFETY: the caller's promise.
    unsafe {
        for (row, line) in tile.rows.iter().zip(&mut sums) {
            for (column, total) in tile.columns.iter().zip(line) {
                let mut lanes = [0.0f32; LANES];
                for plane in 0..tile.planes {
                    let (row, column) = (row.add(plane * tile.row_stride), column.add(plane * tile.column_stride));
                    for step in 0..tile.steps {
                        let a = *row.add(step * LANES).cast::<[f32; LANES]>();
                        let b = *column.add(step * LANES).cast::<[f32; LANES]>();
                        for lane in 0..LANES {
                            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
                        }
                    }
                }
                *total = lane_sum(lanes);
            }
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::*;

    /// # Safety
    /// As [`gather_portable`], on a processor with AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn gather_avx512<const NV: usize>(tile: GatherTile<'_>) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); NV]; ROWS];
            for row in 0..ROWS {
                for vector in 0..NV {
                    sums[row][vector] = _mm512_loadu_ps(tile.sums.add(row * tile.sums_stride + vector * LANES));
                }
            }
            let mut weight = tile.weights;
            for channel in 0..tile.channels {
                let source = tile.source.add(channel * tile.channel_stride);
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

    /// # Safety
    /// As [`gather_portable`], on a processor with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn gather_avx2<const NV: usize>(tile: GatherTile<'_>) {
        const PART: usize = 4; // 4 rows x 2 half vectors of sums fit the 16 registers
        // SAFETY: the caller's promise.
        unsafe {
            for vector in 0..NV {
                for first in [0, PART] {
                    let out = tile.sums.add(first * tile.sums_stride + vector * LANES);
                    let mut sums = [[_mm256_setzero_ps(); 2]; PART];
                    for row in 0..PART {
                        sums[row][0] = _mm256_loadu_ps(out.add(row * tile.sums_stride));
                        sums[row][1] = _mm256_loadu_ps(out.add(row * tile.sums_stride + 8));
                    }
                    let mut weight = tile.weights.add(first);
                    for channel in 0..tile.channels {
                        let source = tile.source.add(channel * tile.channel_stride + vector * LANES);
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

    /// # Safety
    /// As [`correlate_portable`], on a processor with AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn correlate_avx512(tile: CorrelateTile) -> CorrelateSums {
        let mut result = [[0.0; CORRELATE_COLUMNS]; CORRELATE_ROWS];
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); CORRELATE_COLUMNS]; CORRELATE_ROWS];
            for plane in 0..tile.planes {
                let (from, to) = (plane * tile.row_stride, plane * tile.column_stride);
                for step in 0..tile.steps {
                    let mut rows = [_mm512_setzero_ps(); CORRELATE_ROWS];
                    for row in 0..CORRELATE_ROWS {
                        rows[row] = _mm512_loadu_ps(tile.rows[row].add(from + step * LANES));
                    }
                    for column in 0..CORRELATE_COLUMNS {
                        let values = _mm512_loadu_ps(tile.columns[column].add(to + step * LANES));
                        for row in 0..CORRELATE_ROWS {
                            sums[row][column] = _mm512_fmadd_ps(rows[row], values, sums[row][column]);
                        }
                    }
                }
            }
            for row in 0..CORRELATE_ROWS {
                for column in 0..CORRELATE_COLUMNS {
                    // The tree of `lane_sum`: 16 -> 8 -> 4 -> 2 -> 1 by halves.
                    let wide = sums[row][column];
                    let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(wide)));
                    result[row][column] = fold8(_mm256_add_ps(_mm512_castps512_ps256(wide), high));
                }
            }
        }
        result
    }

    #[target_feature(enable = "avx")]
    fn fold8(eight: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }

    /// # Safety
    /// As [`correlate_portable`], on a processor with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn correlate_avx2(tile: CorrelateTile) -> CorrelateSums {
        const R: usize = 2; // 2 rows x 3 columns x 2 half vectors fit the 16 registers
        const C: usize = 3;
        let mut result = [[0.0; CORRELATE_COLUMNS]; CORRELATE_ROWS];
        // SAFETY: the caller's promise.
        unsafe {
            for first_row in (0..CORRELATE_ROWS).step_by(R) {
                for first_column in (0..CORRELATE_COLUMNS).step_by(C) {
                    let mut sums = [[[_mm256_setzero_ps(); 2]; C]; R];
                    for index in 0..tile.planes * tile.steps {
                        let (plane, step) = (index / tile.steps, index % tile.steps);
                        let mut rows = [[_mm256_setzero_ps(); 2]; R];
                        for row in 0..R {
                            let at = tile.rows[first_row + row].add(plane * tile.row_stride + step * LANES);
                            rows[row] = [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))];
                        }
                        for column in 0..C {
                            let at = tile.columns[first_column + column].add(plane * tile.column_stride + step * LANES);
                            let values = [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))];
                            for row in 0..R {
                                for half in 0..2 {
                                    sums[row][column][half] =
                                        _mm256_fmadd_ps(rows[row][half], values[half], sums[row][column][half]);
                                }
                            }
                        }
                    }
                    for row in 0..R {
                        for column in 0..C {
                            let [low, high] = sums[row][column];
                            result[first_row + row][first_column + column] = fold8(_mm256_add_ps(low, high));
                        }
                    }
                }
            }
        }
        result
    }
}
