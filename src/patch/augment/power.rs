//! A power that the compiler can vectorise: products, sums and bit moves only, so it gives the same bits everywhere.

/// `base` to the power `exponent` for `base` in [0, 1] and `exponent` in [0.1, 10], within 3e-6 of the true value
/// (relative to 1): `2^(exponent * log2 base)`; 0 stays 0.
pub fn power(base: f32, exponent: f32) -> f32 {
    let raised = exp2((exponent * log2(base)).max(-126.0));
    if base > 0.0 { raised } else { 0.0 }
}

/// `log2` of a positive normal number: its exponent plus the series of 2 artanh(s) / ln 2, s = (m - 1) / (m + 1), for
/// the fraction m between sqrt(1/2) and sqrt(2); the first term left out is below 1e-9.
fn log2(value: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3F35_04F3;
    const ONE: u32 = 0x3F80_0000;
    const TERMS: [f32; 5] = [2.885_39, 0.961_796_7, 0.577_078, 0.412_198_57, 0.320_598_9];
    let bits = value.to_bits().wrapping_sub(SQRT_HALF).wrapping_add(ONE);
    let exponent = (bits as i32 >> 23) - 127;
    let fraction = f32::from_bits((bits & 0x007F_FFFF).wrapping_add(SQRT_HALF));
    let s = (fraction - 1.0) / (fraction + 1.0);
    let square = s * s;
    let series = TERMS[0] + square * (TERMS[1] + square * (TERMS[2] + square * (TERMS[3] + square * TERMS[4])));
    exponent as f32 + s * series
}

/// `2^value` for `value` in [-126, 0]: the Taylor series about the nearest integer, whose first term left out is below
/// 6e-9, times a power of two put together from bits.
fn exp2(value: f32) -> f32 {
    // adding 1.5 * 2^23 leaves the nearest integer in the low bits
    const SHIFT: f32 = 12_582_912.0;
    const TERMS: [f32; 7] = [
        std::f32::consts::LN_2,
        0.240_226_5,
        0.055_504_11,
        0.009_618_129,
        0.001_333_355_8,
        0.000_154_035_3,
        0.000_015_252_734,
    ];
    let shifted = value + SHIFT;
    let whole = shifted.to_bits().wrapping_sub(SHIFT.to_bits());
    let part = value - (shifted - SHIFT);
    let mut series = TERMS[6];
    for term in TERMS[..6].iter().rev() {
        series = series * part + term;
    }
    (series * part + 1.0) * f32::from_bits(whole.wrapping_add(127) << 23)
}

#[cfg(test)]
mod tests {
    use super::power;

    #[test]
    fn a_power_is_that_of_the_mathematics_library() {
        let bases = (0..=100_000).map(|step| step as f32 / 100_000.0).chain([1e-30, 1e-20, 1e-10, 1e-7, 0.999_999_9]);
        let mut worst: f64 = 0.0;
        for base in bases {
            for exponent in [0.1_f32, 0.5, 0.7, 0.74, 1.0, 1.41, 1.5, 3.0, 10.0] {
                let expected = libm::pow(f64::from(base), f64::from(exponent));
                worst = worst.max((f64::from(power(base, exponent)) - expected).abs());
            }
        }
        assert!(worst < 3e-6, "off by {worst}");
        assert_eq!((power(0.0, 0.1), power(1.0, 0.7)), (0.0, 1.0));
    }
}
