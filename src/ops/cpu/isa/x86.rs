//! [`Lanes`] in the registers of AVX2 (two of eight) and AVX-512 (one of sixteen).
use std::arch::x86_64::*;

use super::{Kernel, LANES, Lanes};

/// Whether the processor says that Intel made it.
pub fn made_by_intel() -> bool {
    let answer = __cpuid(0);
    [answer.ebx, answer.edx, answer.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

/// Runs `kernel` with AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
pub fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512Lanes<false>>()
}

/// Runs `kernel` with AVX-512 and its instructions for bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
pub fn run_avx512bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512Lanes<true>>()
}

/// Runs `kernel` with AVX2.
#[target_feature(enable = "avx2,fma,f16c")]
pub fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2Lanes>()
}

/// One register of AVX-512, with or without bf16. Private to `isa`, whose `dispatch` is the only way to it.
#[derive(Clone, Copy)]
pub struct Avx512Lanes<const BF16: bool>(__m512);

/// Two registers of AVX2. Private to `isa`, whose `dispatch` is the only way to it.
#[derive(Clone, Copy)]
pub struct Avx2Lanes(__m256, __m256);

/// Intrinsics of the set that a lanes type belongs to.
macro_rules! hw {
    ($($body:tt)*) => {
        // SAFETY: these types are named only by `run_avx2` and the two `run_avx512`, which `dispatch` calls where the CPU has
        // the set; every pointer comes from a reference to sixteen values, and the accesses are unaligned ones.
        unsafe { $($body)* }
    };
}

impl<const BF16: bool> Avx512Lanes<BF16> {
    #[inline(always)]
    fn bits(self) -> __m512i {
        hw!(_mm512_castps_si512(self.0))
    }
    #[inline(always)]
    fn from_bits(bits: __m512i) -> Self {
        Self(hw!(_mm512_castsi512_ps(bits)))
    }
}

impl<const BF16: bool> Lanes for Avx512Lanes<BF16> {
    const MANY_REGISTERS: bool = true;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(hw!(_mm512_set1_ps(value)))
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(hw!(_mm512_loadu_ps(from.as_ptr())))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        hw!(_mm512_storeu_ps(to.as_mut_ptr(), self.0))
    }
    #[inline(always)]
    fn load_bf16(from: &[u16; LANES]) -> Self {
        Self::from_bits(hw!(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast())))))
    }
    #[inline(always)]
    fn store_bf16(self, to: &mut [u16; LANES]) {
        hw!({
            let bits = self.bits();
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let kept = _mm512_srli_epi32::<16>(_mm512_mask_blend_epi32(nan, rounded, quiet));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(kept));
        })
    }
    #[inline(always)]
    fn load_f16(from: &[u16; LANES]) -> Self {
        Self(hw!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))))
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [u16; LANES]) {
        hw!({
            let half = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), half);
        })
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(hw!(_mm512_add_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(hw!(_mm512_sub_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(hw!(_mm512_mul_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(hw!(_mm512_div_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(hw!(_mm512_sqrt_ps(self.0)))
    }
    #[inline(always)]
    fn fma(self, factor: Self, term: Self) -> Self {
        Self(hw!(_mm512_fmadd_ps(self.0, factor.0, term.0)))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(hw!(_mm512_max_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn select_gt(a: Self, b: Self, yes: Self, no: Self) -> Self {
        Self(hw!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a.0, b.0), no.0, yes.0)))
    }
    #[inline(always)]
    fn select_eq(a: Self, b: Self, yes: Self, no: Self) -> Self {
        Self(hw!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a.0, b.0), no.0, yes.0)))
    }
    #[inline(always)]
    fn add_bits(self, other: Self) -> Self {
        Self::from_bits(hw!(_mm512_add_epi32(self.bits(), other.bits())))
    }
    #[inline(always)]
    fn sub_bits(self, other: Self) -> Self {
        Self::from_bits(hw!(_mm512_sub_epi32(self.bits(), other.bits())))
    }
    #[inline(always)]
    fn shl_bits<const N: u32>(self) -> Self {
        Self::from_bits(hw!(_mm512_slli_epi32::<N>(self.bits())))
    }
    #[inline(always)]
    fn sar_bits<const N: u32>(self) -> Self {
        Self::from_bits(hw!(_mm512_srai_epi32::<N>(self.bits())))
    }
    #[inline(always)]
    fn pair_bf16(even: Self, odd: Self) -> Self {
        Self::from_bits(hw!(_mm512_or_si512(_mm512_srli_epi32::<16>(even.bits()), odd.bits())))
    }
    #[inline(always)]
    fn pair_rounded(even: Self, odd: Self) -> Self {
        if !BF16 {
            return Self::pair_bf16(even.rounded_bf16(), odd.rounded_bf16());
        }
        hw!({
            // The even ones come to stand in the lower half, the odd ones in the upper; then one of each in turn.
            let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd.0, even.0));
            let low = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let turn = _mm512_or_si512(low, _mm512_slli_epi32::<16>(_mm512_add_epi32(low, _mm512_set1_epi32(16))));
            Self::from_bits(_mm512_permutexvar_epi16(turn, both))
        })
    }
    #[inline(always)]
    fn halves(self, low: &mut [u16; LANES], high: &mut [u16; LANES]) {
        hw!({
            let bits = self.bits();
            _mm256_storeu_si256(low.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(bits));
            _mm256_storeu_si256(high.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits)));
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        sum8(hw!(_mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0))))
    }
    #[inline(always)]
    fn interleave(a: Self, b: Self) -> (Self, Self) {
        hw!({
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            (Self(_mm512_permutex2var_ps(a.0, low, b.0)), Self(_mm512_permutex2var_ps(a.0, high, b.0)))
        })
    }
    #[inline(always)]
    fn deinterleave(low: Self, high: Self) -> (Self, Self) {
        hw!({
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            (Self(_mm512_permutex2var_ps(low.0, even, high.0)), Self(_mm512_permutex2var_ps(low.0, odd, high.0)))
        })
    }
}

/// The sum of eight lanes: i and i + 4, then i + 2, then i + 1.
#[inline(always)]
fn sum8(values: __m256) -> f32 {
    hw!({
        let four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps::<1>(values));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    })
}

/// Eight values as bf16 in the low halves of 32-bit integers.
#[inline(always)]
fn round_bf16(values: __m256) -> __m256i {
    hw!({
        let bits = _mm256_castps_si256(values);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(values, values));
        _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan))
    })
}

#[inline(always)]
fn widen_bf16(half: __m128i) -> __m256 {
    hw!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half))))
}

#[inline(always)]
fn interleave8(a: __m256, b: __m256) -> Avx2Lanes {
    hw!({
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        Avx2Lanes(_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
    })
}

/// The even (`SELECT` 0x88) or odd (0xdd) lanes of sixteen.
#[inline(always)]
fn every_other<const SELECT: i32>(from: Avx2Lanes) -> __m256 {
    hw!({
        let mixed = _mm256_castps_pd(_mm256_shuffle_ps::<SELECT>(from.0, from.1));
        _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(mixed))
    })
}

/// An intrinsic on both halves.
macro_rules! both {
    ($intrinsic:ident, $a:expr, $b:expr) => {
        Self(hw!($intrinsic($a.0, $b.0)), hw!($intrinsic($a.1, $b.1)))
    };
}

/// An integer intrinsic on the bits of both halves.
macro_rules! both_bits {
    ($intrinsic:ident, $a:expr, $b:expr) => {
        hw!(Self(
            _mm256_castsi256_ps($intrinsic(_mm256_castps_si256($a.0), $b.0)),
            _mm256_castsi256_ps($intrinsic(_mm256_castps_si256($a.1), $b.1)),
        ))
    };
}

impl Avx2Lanes {
    #[inline(always)]
    fn bits(self) -> (__m256i, __m256i) {
        hw!((_mm256_castps_si256(self.0), _mm256_castps_si256(self.1)))
    }
}

impl Lanes for Avx2Lanes {
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        let half = hw!(_mm256_set1_ps(value));
        Self(half, half)
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        hw!(Self(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        hw!({
            _mm256_storeu_ps(to.as_mut_ptr(), self.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
        })
    }
    #[inline(always)]
    fn load_bf16(from: &[u16; LANES]) -> Self {
        hw!({
            let half = _mm256_loadu_si256(from.as_ptr().cast());
            Self(widen_bf16(_mm256_castsi256_si128(half)), widen_bf16(_mm256_extracti128_si256::<1>(half)))
        })
    }
    #[inline(always)]
    fn store_bf16(self, to: &mut [u16; LANES]) {
        hw!({
            let packed = _mm256_packus_epi32(round_bf16(self.0), round_bf16(self.1));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm256_permute4x64_epi64::<0xd8>(packed));
        })
    }
    #[inline(always)]
    fn load_f16(from: &[u16; LANES]) -> Self {
        hw!({
            let half = _mm256_loadu_si256(from.as_ptr().cast());
            Self(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(half)))
        })
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [u16; LANES]) {
        hw!({
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm256_set_m128i(high, low));
        })
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        both!(_mm256_add_ps, self, other)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        both!(_mm256_sub_ps, self, other)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        both!(_mm256_mul_ps, self, other)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        both!(_mm256_div_ps, self, other)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        hw!(Self(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1)))
    }
    #[inline(always)]
    fn fma(self, factor: Self, term: Self) -> Self {
        hw!(Self(_mm256_fmadd_ps(self.0, factor.0, term.0), _mm256_fmadd_ps(self.1, factor.1, term.1)))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        both!(_mm256_max_ps, self, other)
    }
    #[inline(always)]
    fn select_gt(a: Self, b: Self, yes: Self, no: Self) -> Self {
        hw!(Self(
            _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_GT_OQ>(a.0, b.0)),
            _mm256_blendv_ps(no.1, yes.1, _mm256_cmp_ps::<_CMP_GT_OQ>(a.1, b.1)),
        ))
    }
    #[inline(always)]
    fn select_eq(a: Self, b: Self, yes: Self, no: Self) -> Self {
        hw!(Self(
            _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_EQ_OQ>(a.0, b.0)),
            _mm256_blendv_ps(no.1, yes.1, _mm256_cmp_ps::<_CMP_EQ_OQ>(a.1, b.1)),
        ))
    }
    #[inline(always)]
    fn add_bits(self, other: Self) -> Self {
        both_bits!(_mm256_add_epi32, self, other.bits())
    }
    #[inline(always)]
    fn sub_bits(self, other: Self) -> Self {
        both_bits!(_mm256_sub_epi32, self, other.bits())
    }
    #[inline(always)]
    fn shl_bits<const N: u32>(self) -> Self {
        let by = hw!(_mm_cvtsi32_si128(N as i32));
        both_bits!(_mm256_sll_epi32, self, (by, by))
    }
    #[inline(always)]
    fn sar_bits<const N: u32>(self) -> Self {
        let by = hw!(_mm_cvtsi32_si128(N as i32));
        both_bits!(_mm256_sra_epi32, self, (by, by))
    }
    #[inline(always)]
    fn pair_bf16(even: Self, odd: Self) -> Self {
        hw!({
            let pair = |even, odd| {
                let low = _mm256_srli_epi32::<16>(_mm256_castps_si256(even));
                _mm256_castsi256_ps(_mm256_or_si256(low, _mm256_castps_si256(odd)))
            };
            Self(pair(even.0, odd.0), pair(even.1, odd.1))
        })
    }
    #[inline(always)]
    fn halves(self, low: &mut [u16; LANES], high: &mut [u16; LANES]) {
        hw!({
            let (first, last) = self.bits();
            let mask = _mm256_set1_epi32(0xffff);
            let lower = _mm256_packus_epi32(_mm256_and_si256(first, mask), _mm256_and_si256(last, mask));
            let upper = _mm256_packus_epi32(_mm256_srli_epi32::<16>(first), _mm256_srli_epi32::<16>(last));
            _mm256_storeu_si256(low.as_mut_ptr().cast(), _mm256_permute4x64_epi64::<0xd8>(lower));
            _mm256_storeu_si256(high.as_mut_ptr().cast(), _mm256_permute4x64_epi64::<0xd8>(upper));
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        sum8(hw!(_mm256_add_ps(self.0, self.1)))
    }
    #[inline(always)]
    fn interleave(a: Self, b: Self) -> (Self, Self) {
        (interleave8(a.0, b.0), interleave8(a.1, b.1))
    }
    #[inline(always)]
    fn deinterleave(low: Self, high: Self) -> (Self, Self) {
        (
            Self(every_other::<0x88>(low), every_other::<0x88>(high)),
            Self(every_other::<0xdd>(low), every_other::<0xdd>(high)),
        )
    }
}
