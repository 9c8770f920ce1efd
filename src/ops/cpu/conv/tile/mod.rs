//! The two inner loops, for each instruction set.
//!
//! *Gather tile*: 8 result channels x up to 3 vectors of 16 positions stay in registers while the loop runs over source
//! channels and taps. *Outer tile*, of the weight gradient: 16 or 32 output channels x 24 or 12 columns (pairs of input
//! channel and tap) stay in registers while the loop runs over positions; a vector of the output's gradient is multiplied
//! by single values of the input. Every number is one chain of fused multiply-adds (or bf16 dot products, see
//! [`super::operands`]) in the same order on every instruction set, so that all give the same bits.
#![allow(clippy::needless_range_loop, reason = "register tiles are clearest by index, and unroll reliably")]
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;

use super::operands::Operands;
pub use crate::ops::cpu::isa::LANES;
use crate::ops::cpu::isa::{HAS_FUSED, Isa, fused};

/// Result channels per gather tile.
pub const ROWS: usize = 8;
/// Most vectors of positions per gather tile.
pub const VECTORS: usize = 3;
/// Columns of an outer tile that share a base address.
pub const OFFSETS: usize = 3;
/// Columns x vectors of output channels of an outer tile.
pub const SUMS: usize = 24;

/// What a gather tile reads and writes.
#[derive(Clone, Copy)]
pub struct GatherTile<'a> {
    /// First position of the tile in the first unit's scratch; f32, or pairs of bf16.
    pub source: *const f32,
    pub unit_stride: usize,
    /// Channels, or pairs of them.
    pub units: usize,
    pub taps: &'a [isize],
    /// `[unit][tap][8]`.
    pub weights: *const f32,
    /// Sums, `[8][positions]`.
    pub sums: *mut f32,
    pub sums_stride: usize,
    /// What the 8 sums begin with; null where they go on.
    pub starts: *const f32,
}

/// What an outer tile reads and writes: `sums[column][o] += sum over p of gradient[p][o] * column[p]`.
#[derive(Clone, Copy)]
pub struct OuterTile<'a> {
    /// Of the output, `[position][16 * vectors]` in f32, or `[pair of positions][16 * vectors][2]` in bf16.
    pub gradient: *const f32,
    /// Steps (positions or pairs) per plane; with `Widened` operands an even number.
    pub steps: usize,
    pub planes: usize,
    /// Floats from a plane of the gradient to the next.
    pub gradient_plane: usize,
    /// Elements from a plane of the input to the next.
    pub source_plane: usize,
    /// Packed input at the first position; bf16 for `Paired` operands, else f32.
    pub source: *const u8,
    /// Elements from `source` to each base: `SUMS / OFFSETS / vectors` of them.
    pub bases: &'a [isize],
    /// Elements from a base to each of its columns.
    pub offsets: [isize; OFFSETS],
    /// `[base][offset][16 * vectors]`.
    pub sums: *mut f32,
}

/// # Safety
/// All pointers of the tile must cover what it reads: `source + unit * unit_stride + tap` for `16 * vectors` floats,
/// `weights` for `8 * taps * units`, `sums + row * sums_stride` for `16 * vectors`; `isa` must be one the processor has.
pub unsafe fn gather(isa: Isa, operands: Operands, vectors: usize, tile: GatherTile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match (isa, vectors) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16, _) if operands == Operands::Paired => match vectors {
                1 => avx512bf16::gather::<1>(tile),
                2 => avx512bf16::gather::<2>(tile),
                _ => avx512bf16::gather::<3>(tile),
            },
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, 1) => avx512::gather::<1>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, 2) => avx512::gather::<2>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, _) => avx512::gather::<3>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, _) => avx2::gather(vectors, tile),
            (_, _) if operands == Operands::Single => gather_portable::<false>(vectors, tile),
            (_, _) => gather_portable::<true>(vectors, tile),
        }
    }
}

/// # Safety
/// All pointers of the tile must cover what it reads and writes; `isa` must be one the processor has, and `vectors` 1 or
/// 2.
pub unsafe fn outer(isa: Isa, operands: Operands, vectors: usize, tile: OuterTile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match (isa, operands, vectors) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16, Operands::Paired, 1) => avx512bf16::outer::<1, 8>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16, Operands::Paired, _) => avx512bf16::outer::<2, 4>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, Operands::Single, 1) => avx512::outer::<1, 8, false>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, Operands::Single, _) => avx512::outer::<2, 4, false>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, _, 1) => avx512::outer::<1, 8, true>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, _, _) => avx512::outer::<2, 4, true>(tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Operands::Single, _) => avx2::outer::<false>(vectors, tile),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, _, _) => avx2::outer::<true>(vectors, tile),
            (_, Operands::Single, _) => outer_portable::<false>(vectors, tile),
            (_, _, _) => outer_portable::<true>(vectors, tile),
        }
    }
}

/// `a * b + c` rounded once. Of bf16 operands the product is exact in f32 (from 2^-126 on), so that no more than rounding
/// the sum is left to do.
#[inline(always)]
fn multiply_add<const BF16: bool>(a: f32, b: f32, c: f32) -> f32 {
    if BF16 && !HAS_FUSED { a * b + c } else { fused(a, b, c) }
}

/// # Safety
/// As [`gather`].
unsafe fn gather_portable<const BF16: bool>(vectors: usize, tile: GatherTile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        for vector in 0..vectors {
            for row in 0..ROWS {
                let out = tile.sums.add(row * tile.sums_stride + vector * LANES).cast::<[f32; LANES]>();
                let mut sum = if tile.starts.is_null() { *out } else { [*tile.starts.add(row); LANES] };
                let mut weight = tile.weights.add(row);
                for unit in 0..tile.units {
                    let source = tile.source.add(unit * tile.unit_stride + vector * LANES);
                    for &tap in tile.taps {
                        let values = *source.offset(tap).cast::<[f32; LANES]>();
                        let w = *weight;
                        for lane in 0..LANES {
                            sum[lane] = multiply_add::<BF16>(w, values[lane], sum[lane]);
                        }
                        weight = weight.add(ROWS);
                    }
                }
                *out = sum;
            }
        }
    }
}

/// Of bf16 operands the second position of each pair comes first.
///
/// # Safety
/// As [`outer`].
unsafe fn outer_portable<const BF16: bool>(vectors: usize, tile: OuterTile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        for (base, &at) in tile.bases.iter().enumerate() {
            for (column, &offset) in tile.offsets.iter().enumerate() {
                let source = tile.source.cast::<f32>().offset(at + offset);
                for vector in 0..vectors {
                    let mut sum = [0.0f32; LANES];
                    for plane in 0..tile.planes {
                        for step in 0..tile.steps {
                            let step = step ^ usize::from(BF16);
                            let gradient = tile.gradient.add(plane * tile.gradient_plane + step * vectors * LANES);
                            let gradient = *gradient.add(vector * LANES).cast::<[f32; LANES]>();
                            let value = *source.add(plane * tile.source_plane + step);
                            for lane in 0..LANES {
                                sum[lane] = multiply_add::<BF16>(gradient[lane], value, sum[lane]);
                            }
                        }
                    }
                    let total = tile.sums.add(((base * OFFSETS + column) * vectors + vector) * LANES);
                    for (lane, sum) in sum.iter().enumerate() {
                        *total.add(lane) += sum;
                    }
                }
            }
        }
    }
}
