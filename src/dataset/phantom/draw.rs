//! Random numbers that are the same on every machine.
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Draws from one named stream.
pub struct Draw(ChaCha8Rng);

impl Draw {
    pub fn new(seed: u64, purpose: &str, case: u64, part: u64) -> Self {
        Self(crate::random::stream(seed, purpose, case, part))
    }

    /// From 0 up to 1, which it never is.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Evenly from `-size` to `size`.
    pub fn around(&mut self, size: f64) -> f64 {
        self.between(-size, size)
    }

    /// Two independent standard normals (Box and Muller 1958).
    pub fn normals(&mut self) -> (f64, f64) {
        let radius = (-2.0 * libm::log(1.0 - self.unit())).sqrt();
        let angle = std::f64::consts::TAU * self.unit();
        (radius * libm::cos(angle), radius * libm::sin(angle))
    }
}
