//! How parameters start: He's normal initialisation for the LeakyReLU of slope 0.01, zeros for biases (nnU-Net's way).
//! (He et al. 2015, "Delving deep into rectifiers", equation 15.)
use rand::Rng;

use super::unet::SLOPE;
use crate::random::stream;

/// Draws the weights of one convolution: normal with deviation sqrt(2 / ((1 + slope^2) * fan_in)).
///
/// Every parameter has its own stream, named by its name, so that adding a layer changes no other layer's start.
pub fn he_normal(seed: u64, name: &str, count: usize, fan_in: usize) -> Vec<f32> {
    let deviation = (2.0 / ((1.0 + f64::from(SLOPE).powi(2)) * fan_in.max(1) as f64)).sqrt();
    let mut random = stream(seed, &format!("init {name}"), 0, 0);
    // (0, 1]: 53 random bits; the logarithm of 0 does not occur.
    let mut uniform = || ((random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // Box and Muller 1958: two normal numbers from two uniform ones.
        let radius = libm::sqrt(-2.0 * libm::log(uniform()));
        let angle = 2.0 * std::f64::consts::PI * uniform();
        values.push((deviation * radius * libm::cos(angle)) as f32);
        values.push((deviation * radius * libm::sin(angle)) as f32);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::he_normal;

    #[test]
    fn deviation_is_he_s() {
        let values = he_normal(3, "w", 200_000, 27 * 32);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 200_000.0;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / 200_000.0;
        let expected = 2.0 / (1.0001 * 27.0 * 32.0);
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!((variance / expected - 1.0).abs() < 0.02, "{variance}");
    }
}
