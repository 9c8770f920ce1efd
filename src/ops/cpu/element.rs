//! The number types that activations are stored in. Arithmetic is always in `f32`.
use half::{bf16, f16};

use super::isa::{Isa, Kernel, LANES, Lanes, PortableLanes, dispatch, isa};

/// A stored number: `f32`, [`bf16`] or [`struct@f16`]. Rounding is to nearest, ties to even.
pub trait Element: bytemuck::Pod + Send + Sync + std::fmt::Debug {
    /// The name in configurations: `f32`, `bf16`, `f16`.
    const NAME: &'static str;
    /// Whether products are of numbers rounded to bf16, two at a time ([`crate::ops::cpu::conv`] says how).
    const DOT: bool = false;

    /// The exact value.
    fn to_f32(self) -> f32;
    /// The nearest stored number.
    fn from_f32(value: f32) -> Self;
    /// Reads sixteen into registers.
    fn load<L: Lanes>(from: &[Self; LANES]) -> L;
    /// Rounds and writes sixteen.
    fn store<L: Lanes>(lanes: L, to: &mut [Self; LANES]);

    /// What [`Element::store`] would leave to be loaded again.
    #[inline(always)]
    fn round<L: Lanes>(lanes: L) -> L {
        let mut stored = [Self::zeroed(); LANES];
        Self::store(lanes, &mut stored);
        Self::load(&stored)
    }

    /// The first sixteen of `from`; panics where there are fewer.
    #[inline(always)]
    fn load16(from: &[Self]) -> [f32; LANES] {
        Self::load::<PortableLanes>(sixteen(from)).0
    }

    /// Rounds into the first sixteen of `to`; panics where there are fewer.
    #[inline(always)]
    fn store16(values: &[f32; LANES], to: &mut [Self]) {
        Self::store(PortableLanes(*values), sixteen_mut(to));
    }

    /// All values of `from` into `to`, which is as long.
    fn widen(from: &[Self], to: &mut [f32]) {
        widen_on(isa(), from, to);
    }

    /// All values of `from`, rounded, into `to`, which is as long.
    fn narrow(from: &[f32], to: &mut [Self]) {
        narrow_on(isa(), from, to);
    }
}

/// The first sixteen of a slice, which must have them.
#[inline(always)]
pub(super) fn sixteen<T>(from: &[T]) -> &[T; LANES] {
    from.first_chunk().expect("sixteen elements")
}

/// The first sixteen of a slice, which must have them.
#[inline(always)]
pub(super) fn sixteen_mut<T>(to: &mut [T]) -> &mut [T; LANES] {
    to.first_chunk_mut().expect("sixteen elements")
}

/// Up to sixteen elements, and `fill` in the lanes after them.
#[inline(always)]
pub(super) fn load_tail<E: Element, L: Lanes>(from: &[E], fill: f32) -> L {
    let mut values = [E::zeroed(); LANES];
    values[..from.len()].copy_from_slice(from);
    let mut wide = [0.0; LANES];
    E::load::<L>(&values).store(&mut wide);
    wide[from.len()..].fill(fill);
    L::load(&wide)
}

/// Rounds the first lanes into up to sixteen elements.
#[inline(always)]
pub(super) fn store_tail<E: Element, L: Lanes>(lanes: L, to: &mut [E]) {
    match to.first_chunk_mut() {
        Some(to) => E::store(lanes, to),
        None => {
            let mut values = [E::zeroed(); LANES];
            E::store(lanes, &mut values);
            to.copy_from_slice(&values[..to.len()]);
        }
    }
}

impl Element for f32 {
    const NAME: &'static str = "f32";
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn load<L: Lanes>(from: &[Self; LANES]) -> L {
        L::load(from)
    }
    #[inline(always)]
    fn store<L: Lanes>(lanes: L, to: &mut [Self; LANES]) {
        lanes.store(to);
    }
    #[inline(always)]
    fn round<L: Lanes>(lanes: L) -> L {
        lanes
    }
}

impl Element for bf16 {
    const NAME: &'static str = "bf16";
    const DOT: bool = true;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }
    #[inline(always)]
    fn load<L: Lanes>(from: &[Self; LANES]) -> L {
        L::load_bf16(bytemuck::cast_ref(from))
    }
    #[inline(always)]
    fn store<L: Lanes>(lanes: L, to: &mut [Self; LANES]) {
        lanes.store_bf16(bytemuck::cast_mut(to));
    }
}

impl Element for f16 {
    const NAME: &'static str = "f16";
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }
    #[inline(always)]
    fn load<L: Lanes>(from: &[Self; LANES]) -> L {
        L::load_f16(bytemuck::cast_ref(from))
    }
    #[inline(always)]
    fn store<L: Lanes>(lanes: L, to: &mut [Self; LANES]) {
        lanes.store_f16(bytemuck::cast_mut(to));
    }
}

struct Widen<'a, E>(&'a [E], &'a mut [f32]);

impl<E: Element> Kernel for Widen<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (from, from_tail) = self.0.as_chunks::<LANES>();
        let (to, to_tail) = self.1.as_chunks_mut::<LANES>();
        for (from, to) in from.iter().zip(to) {
            E::load::<L>(from).store(to);
        }
        for (from, to) in from_tail.iter().zip(to_tail) {
            *to = from.to_f32();
        }
    }
}

struct Narrow<'a, E>(&'a [f32], &'a mut [E]);

impl<E: Element> Kernel for Narrow<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (from, from_tail) = self.0.as_chunks::<LANES>();
        let (to, to_tail) = self.1.as_chunks_mut::<LANES>();
        for (from, to) in from.iter().zip(to) {
            E::store(L::load(from), to);
        }
        for (from, to) in from_tail.iter().zip(to_tail) {
            *to = E::from_f32(*from);
        }
    }
}

fn widen_on<E: Element>(isa: Isa, from: &[E], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "widen: as many values out as in");
    dispatch(isa, Widen(from, to));
}

fn narrow_on<E: Element>(isa: Isa, from: &[f32], to: &mut [E]) {
    assert_eq!(from.len(), to.len(), "narrow: as many values out as in");
    dispatch(isa, Narrow(from, to));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 65536 patterns of a 16-bit type come back, on every instruction set, as the scalar conversion says.
    fn all_patterns<E: Element>(bits_of: fn(E) -> u16, of_bits: fn(u16) -> E) {
        let all: Vec<E> = (0..=u16::MAX).map(of_bits).collect();
        for isa in Isa::available() {
            let mut wide = vec![0.0; all.len()];
            widen_on(isa, &all, &mut wide);
            let mut back = vec![of_bits(0); all.len()];
            narrow_on(isa, &wide, &mut back);
            for ((&start, &value), &end) in all.iter().zip(&wide).zip(&back) {
                assert_eq!(value.is_nan(), start.to_f32().is_nan());
                if value.is_nan() {
                    assert!(end.to_f32().is_nan());
                } else {
                    assert_eq!(value.to_bits(), start.to_f32().to_bits(), "{isa:?}");
                    assert_eq!(bits_of(end), bits_of(start), "{isa:?}");
                }
            }
        }
    }

    #[test]
    fn every_half_pattern_survives() {
        all_patterns::<bf16>(bf16::to_bits, bf16::from_bits);
        all_patterns::<f16>(f16::to_bits, f16::from_bits);
    }

    /// Rounding of values between, at and just beside the ties, over the whole range of exponents.
    fn rounds_like<E: Element>(dropped: u32, bits_of: fn(E) -> u16, expected: fn(f32) -> u16) {
        let mut values = Vec::new();
        for sign_and_exponent in 0..512_u32 {
            for kept in [0_u32, 1, 2, 0x55, 0x7e, 0x7f] {
                let base = (sign_and_exponent << 23) | (kept << (23 - 7)) | (kept << dropped & 0x007f_ffff);
                for low in [0_u32, 1, (1 << (dropped - 1)) - 1, 1 << (dropped - 1), (1 << (dropped - 1)) + 1] {
                    values.push(f32::from_bits(base | low));
                }
            }
        }
        values.extend([f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 65504.0, 65519.99, 65520.0]);
        for isa in Isa::available() {
            let mut out = vec![E::from_f32(0.0); values.len()];
            narrow_on(isa, &values, &mut out);
            for (&value, &out) in values.iter().zip(&out) {
                if value.is_nan() {
                    assert!(out.to_f32().is_nan());
                } else {
                    assert_eq!(bits_of(out), expected(value), "{value:e} on {isa:?}");
                }
            }
        }
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        rounds_like::<bf16>(16, bf16::to_bits, |value| bf16::from_f32(value).to_bits());
        rounds_like::<f16>(13, f16::to_bits, |value| f16::from_f32(value).to_bits());
        // 1 + 2^-8 lies halfway between 1 and the next bf16: to even, down; 1 + 3 * 2^-8 goes up.
        assert_eq!(<bf16 as Element>::from_f32(1.0 + 1.0 / 256.0).to_bits(), 0x3f80);
        assert_eq!(<bf16 as Element>::from_f32(1.0 + 3.0 / 256.0).to_bits(), 0x3f82);
    }

    #[test]
    fn sixteen_at_a_time() {
        let values: [f32; LANES] = std::array::from_fn(|i| i as f32 - 3.5);
        let mut stored = [f16::ZERO; 20];
        f16::store16(&values, &mut stored[2..]);
        assert_eq!(f16::load16(&stored[2..]), values);
        assert_eq!((stored[1], stored[18]), (f16::ZERO, f16::ZERO));
    }
}
