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
        Self(std::array::from_fn(|i| self.0[i].mul_add(factor.0[i], term.0[i])))
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
