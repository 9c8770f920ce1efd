//! Elementary functions on [`Lanes`], the same bits on every machine: no platform library is asked.
//!
//! The polynomials are those of Cephes' `expf` and `logf` (S. Moshier), good to about one unit in the last place.
use super::isa::Lanes;

/// Adding it leaves the nearest integer in the low bits of the sum.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23

/// `e^x`. Below -87.3 it is 0 (no subnormals), above 88 it stays at `e^88`; NaN stays NaN.
#[inline(always)]
pub(super) fn exp<L: Lanes>(x: L) -> L {
    let lowest = L::splat(-87.3);
    // A NaN in the second place of `max` comes through.
    let bounded = lowest.max(x);
    let bounded = L::select_gt(bounded, L::splat(88.0), L::splat(88.0), bounded);
    let shifted = bounded.fma(L::splat(std::f32::consts::LOG2_E), L::splat(ROUND));
    let whole = shifted.sub(L::splat(ROUND));
    // ln 2 in two parts: the first has few digits, so its product with a small integer is exact.
    let rest = whole.fma(L::splat(-0.693_359_4), bounded);
    let rest = whole.fma(L::splat(2.121_944_4e-4), rest);
    let mut poly = L::splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        poly = poly.fma(rest, L::splat(coefficient));
    }
    let value = poly.fma(rest.mul(rest), rest).add(L::splat(1.0));
    // 2^whole: the integer in `shifted`'s low bits, moved into the exponent of 1.
    let power = shifted.shl_bits::<23>().add_bits(L::splat(1.0));
    L::select_gt(lowest, x, L::splat(0.0), value.mul(power))
}

/// The natural logarithm of a normal positive number; NaN and infinity give NaN.
#[inline(always)]
pub(super) fn ln<L: Lanes>(x: L) -> L {
    // x = 2^e * m with m in [sqrt(1/2), sqrt(2)).
    let root = L::splat(std::f32::consts::FRAC_1_SQRT_2);
    let exponent = x.sub_bits(root).sar_bits::<23>();
    let mantissa = x.sub_bits(exponent.shl_bits::<23>());
    let exponent = exponent.add_bits(L::splat(ROUND)).sub(L::splat(ROUND));
    let m = mantissa.sub(L::splat(1.0));
    let mut poly = L::splat(7.037_683_6e-2);
    for coefficient in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_7e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        poly = poly.fma(m, L::splat(coefficient));
    }
    let square = m.mul(m);
    let small = exponent.fma(L::splat(-2.121_944_4e-4), poly.mul(square).mul(m));
    let value = square.fma(L::splat(-0.5), small).add(m);
    // Nothing for finite x; NaN for what has no finite logarithm.
    exponent.fma(L::splat(0.693_359_4), value).add(x.sub(x))
}

#[cfg(test)]
mod tests {
    use super::super::isa::{Isa, Kernel, LANES, dispatch};
    use super::*;

    struct Each<'a>(&'a [f32], bool);

    impl Kernel for Each<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<f32> {
            let mut out = vec![0.0; self.0.len()];
            for (from, to) in self.0.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
                let x = L::load(from);
                if self.1 { exp(x) } else { ln(x) }.store(to);
            }
            out
        }
    }

    #[test]
    fn exp_is_close_everywhere_and_equal_on_all_sets() {
        let mut xs: Vec<f32> = (0..160_000).map(|i| -87.2 + i as f32 * 0.001_09).collect();
        xs.extend((0..1600).map(|i| (i as f32 - 800.0) * 1e-9));
        let expected = dispatch(Isa::Portable, Each(&xs, true));
        for (&x, &y) in xs.iter().zip(&expected) {
            let truth = libm::exp(f64::from(x).min(88.0));
            assert!((f64::from(y) - truth).abs() <= 1.6e-7 * truth, "exp({x}) = {y}, not {truth}");
        }
        for isa in Isa::available() {
            assert_eq!(dispatch(isa, Each(&xs, true)), expected, "{isa:?}");
        }
    }

    #[test]
    fn exp_at_the_ends() {
        let xs = [0.0, -0.0, -87.4, -1e30, f32::NEG_INFINITY, f32::NAN, 1e9, f32::INFINITY];
        for isa in Isa::available() {
            let out = dispatch(isa, Each(&[xs, xs].concat(), true));
            assert_eq!(out[..5], [1.0, 1.0, 0.0, 0.0, 0.0]);
            assert!(out[5].is_nan() && out[6] > 1.6e38 && out[7] > 1.6e38);
        }
    }

    #[test]
    fn ln_is_close_everywhere_and_equal_on_all_sets() {
        let mut xs: Vec<f32> = (0..160_000).map(|i| 1.0 + i as f32 * 0.001).collect();
        xs.extend((0..16_000).map(|i| 1.0 + i as f32 * f32::EPSILON));
        xs.extend((0..1600).map(|i| (i as f32 - 800.0).mul_add(0.05, 0.0).exp2()));
        let expected = dispatch(Isa::Portable, Each(&xs, false));
        for (&x, &y) in xs.iter().zip(&expected) {
            let truth = libm::log(f64::from(x));
            assert!((f64::from(y) - truth).abs() <= 1.3e-7 * truth.abs(), "ln({x}) = {y}, not {truth}");
        }
        for isa in Isa::available() {
            assert_eq!(dispatch(isa, Each(&xs, false)), expected, "{isa:?}");
            let odd = dispatch(isa, Each(&[f32::NAN, f32::INFINITY].repeat(8), false));
            assert!(odd.iter().all(|y| y.is_nan()));
        }
    }
}
