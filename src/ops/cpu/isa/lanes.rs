//! Sixteen `f32` that are worked on together, whatever the registers of the machine.
use half::{bf16, f16};

/// How many `f32` one [`Lanes`] holds, on every machine: the order of sums hangs on it.
pub const LANES: usize = 16;

/// Sixteen `f32`. All methods are correctly rounded and so give the same bits on every instruction set, NaN payloads
/// and signs aside.
pub trait Lanes: Copy {
    /// Whether the machine has registers enough for 24 accumulators (AVX-512) or for about eight halves of one.
    const MANY_REGISTERS: bool;

    /// The same value in all lanes.
    fn splat(value: f32) -> Self;
    /// Reads sixteen values.
    fn load(from: &[f32; LANES]) -> Self;
    /// Writes sixteen values.
    fn store(self, to: &mut [f32; LANES]);
    /// Reads sixteen bf16, given as their bits.
    fn load_bf16(from: &[u16; LANES]) -> Self;
    /// Rounds to bf16, to nearest, ties to even; NaN stays NaN (quiet), beyond the range becomes infinite.
    fn store_bf16(self, to: &mut [u16; LANES]);
    /// Reads sixteen IEEE half-precision numbers, given as their bits.
    fn load_f16(from: &[u16; LANES]) -> Self;
    /// Rounds to half precision, to nearest, ties to even, subnormals included.
    fn store_f16(self, to: &mut [u16; LANES]);

    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self - other`.
    fn sub(self, other: Self) -> Self;
    /// `self * other`.
    fn mul(self, other: Self) -> Self;
    /// `self / other`.
    fn div(self, other: Self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// `self * factor + term`, rounded once.
    fn fma(self, factor: Self, term: Self) -> Self;
    /// `self > other ? self : other`, so `other` where either is NaN.
    fn max(self, other: Self) -> Self;
    /// `a > b ? yes : no`, lane by lane; false where either is NaN.
    fn select_gt(a: Self, b: Self, yes: Self, no: Self) -> Self;
    /// `a == b ? yes : no`, lane by lane; false where either is NaN.
    fn select_eq(a: Self, b: Self, yes: Self, no: Self) -> Self;

    /// The sum of the bit patterns, wrapping.
    fn add_bits(self, other: Self) -> Self;
    /// The difference of the bit patterns, wrapping.
    fn sub_bits(self, other: Self) -> Self;
    /// The bit patterns shifted left.
    fn shl_bits<const N: u32>(self) -> Self;
    /// The bit patterns shifted right as signed integers.
    fn sar_bits<const N: u32>(self) -> Self;

    /// Two bf16 numbers in each lane, `even` in the lower half; both must be exact in bf16.
    fn pair_bf16(even: Self, odd: Self) -> Self;
    /// [`Lanes::pair_bf16`] of both rounded; numbers below 2^-126 may become zero.
    #[inline(always)]
    fn pair_rounded(even: Self, odd: Self) -> Self {
        Self::pair_bf16(even.rounded_bf16(), odd.rounded_bf16())
    }
    /// What [`Lanes::store_bf16`] would leave to be loaded again.
    #[inline(always)]
    fn rounded_bf16(self) -> Self {
        let mut bits = [0; LANES];
        self.store_bf16(&mut bits);
        Self::load_bf16(&bits)
    }

    /// The lower halves of the bit patterns, and the upper ones.
    fn halves(self, low: &mut [u16; LANES], high: &mut [u16; LANES]);

    /// The sum of all lanes in one fixed tree: lanes i and i + 8, then i and i + 4, i + 2, i + 1.
    fn sum(self) -> f32;
    /// `a0 b0 a1 b1 ...`: the first sixteen, then the rest.
    fn interleave(a: Self, b: Self) -> (Self, Self);
    /// Undoes [`Lanes::interleave`].
    fn deinterleave(low: Self, high: Self) -> (Self, Self);
}

/// Lanes without any special instruction.
#[derive(Clone, Copy)]
pub struct PortableLanes(pub [f32; LANES]);

#[inline(always)]
fn map(a: [f32; LANES], f: impl Fn(f32) -> f32) -> PortableLanes {
    PortableLanes(std::array::from_fn(|i| f(a[i])))
}

#[inline(always)]
fn zip(a: PortableLanes, b: PortableLanes, f: impl Fn(f32, f32) -> f32) -> PortableLanes {
    PortableLanes(std::array::from_fn(|i| f(a.0[i], b.0[i])))
}

/// Whether the compiler's target has an instruction for `a * b + c` rounded once.
pub const HAS_FUSED: bool = cfg!(any(target_feature = "fma", not(target_arch = "x86_64")));

/// `a * b + c` rounded once.
///
/// Where the compiler's target has no instruction for it, as x86 by default, `f32::mul_add` is a function call for every
/// number. There the sum is made in f64, which holds the product exactly, and rounded to odd: with that, rounding it
/// again to f32 is as good as rounding once (S. Boldo, G. Melquiond, Emulation of FMA and correctly rounded sums:
/// proved algorithms using rounding to odd, IEEE Transactions on Computers 57, 2008).
#[inline(always)]
pub fn fused(a: f32, b: f32, c: f32) -> f32 {
    if HAS_FUSED {
        return a.mul_add(b, c);
    }
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // What rounding left out, exactly (Knuth); NaN where the sum is infinite.
    let of_c = sum - product;
    let left_out = (product - (sum - of_c)) + (c - of_c);
    // To odd: cut towards zero, and the last bit set where anything was cut.
    let too_large = (left_out.to_bits() ^ sum.to_bits()) >> 63;
    let odd = (sum.to_bits() - too_large) | 1;
    (if left_out.abs() > 0.0 { f64::from_bits(odd) } else { sum }) as f32
}

impl Lanes for PortableLanes {
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }
    #[inline(always)]
    fn load_bf16(from: &[u16; LANES]) -> Self {
        Self(from.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
    #[inline(always)]
    fn store_bf16(self, to: &mut [u16; LANES]) {
        *to = self.0.map(|value| bf16::from_f32(value).to_bits());
    }
    #[inline(always)]
    fn load_f16(from: &[u16; LANES]) -> Self {
        Self(from.map(|bits| f16::from_bits(bits).to_f32()))
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [u16; LANES]) {
        *to = self.0.map(|value| f16::from_f32(value).to_bits());
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        zip(self, other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        zip(self, other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        zip(self, other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        zip(self, other, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        map(self.0, f32::sqrt)
    }
    #[inline(always)]
    fn fma(self, factor: Self, term: Self) -> Self {
        Self(std::array::from_fn(|i| fused(self.0[i], factor.0[i], term.0[i])))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        zip(self, other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn select_gt(a: Self, b: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| if a.0[i] > b.0[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    fn select_eq(a: Self, b: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| if a.0[i] == b.0[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    fn add_bits(self, other: Self) -> Self {
        zip(self, other, |a, b| f32::from_bits(a.to_bits().wrapping_add(b.to_bits())))
    }
    #[inline(always)]
    fn sub_bits(self, other: Self) -> Self {
        zip(self, other, |a, b| f32::from_bits(a.to_bits().wrapping_sub(b.to_bits())))
    }
    #[inline(always)]
    fn shl_bits<const N: u32>(self) -> Self {
        map(self.0, |a| f32::from_bits(a.to_bits() << N))
    }
    #[inline(always)]
    fn sar_bits<const N: u32>(self) -> Self {
        map(self.0, |a| f32::from_bits(((a.to_bits() as i32) >> N) as u32))
    }
    #[inline(always)]
    fn pair_bf16(even: Self, odd: Self) -> Self {
        zip(even, odd, |even, odd| f32::from_bits(even.to_bits() >> 16 | odd.to_bits()))
    }
    #[inline(always)]
    fn halves(self, low: &mut [u16; LANES], high: &mut [u16; LANES]) {
        *low = self.0.map(|value| value.to_bits() as u16);
        *high = self.0.map(|value| (value.to_bits() >> 16) as u16);
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut values = self.0;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                values[i] += values[i + half];
            }
        }
        values[0]
    }
    #[inline(always)]
    fn interleave(a: Self, b: Self) -> (Self, Self) {
        let pick = |start: usize| {
            Self(std::array::from_fn(|i| if i % 2 == 0 { a.0[start + i / 2] } else { b.0[start + i / 2] }))
        };
        (pick(0), pick(8))
    }
    #[inline(always)]
    fn deinterleave(low: Self, high: Self) -> (Self, Self) {
        let pick = |odd: usize| {
            Self(std::array::from_fn(|i| if i < 8 { low.0[2 * i + odd] } else { high.0[2 * i - 16 + odd] }))
        };
        (pick(0), pick(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference is the platform's fused multiply-add.
    #[test]
    fn a_fused_sum_is_rounded_once() {
        let same = |a: f32, b: f32, c: f32| {
            let (ours, expected) = (fused(a, b, c), a.mul_add(b, c));
            assert!(
                ours.to_bits() == expected.to_bits() || ours.is_nan() && expected.is_nan(),
                "{a:e} * {b:e} + {c:e}"
            );
        };
        let awkward = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::EPSILON,
            1.0 + f32::EPSILON,
            1.0 - f32::EPSILON / 2.0,
            f32::from_bits(1),
            -f32::from_bits(3),
            f32::MIN_POSITIVE,
            f32::MAX,
            -f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            2.0_f32.powi(24),
            2.0_f32.powi(-24) + 2.0_f32.powi(-47),
            2.0_f32.powi(-75),
        ];
        for a in awkward {
            for b in awkward {
                for c in awkward {
                    same(a, b, c);
                }
            }
        }
        // Bits as they come, and sums that lie beside the middle of two numbers by far less than f64 can tell.
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        for _ in 0..200_000 {
            same(f32::from_bits(next()), f32::from_bits(next()), f32::from_bits(next()));
            let (a, b) = (1.0 + (next() % 4096) as f32 / 4096.0, 1.0 + (2 * (next() % 2048) + 1) as f32 / 4096.0);
            let small = 2.0_f32.powi(-(40 + (next() % 40) as i32));
            same(a, b, if next() % 2 == 0 { small } else { -small });
            same(a * 2.0_f32.powi(-40), small, b);
        }
    }
}
