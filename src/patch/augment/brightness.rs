//! Multiplicative brightness.
use ndarray::{Array4, Axis};
use rand_chacha::ChaCha8Rng;

use super::config::BrightnessConfig;
use crate::patch::uniform::{chance, factor};

/// What one application needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Per channel.
    pub factors: Vec<f64>,
}

/// Parameters for a sample of `channels` channels, where one is to be changed.
pub fn draw(config: &BrightnessConfig, channels: usize, rng: &mut ChaCha8Rng) -> Option<Params> {
    chance(rng, config.probability)
        .then(|| Params { factors: (0..channels).map(|_| factor(rng, config.factor)).collect() })
}

/// Multiplies each channel of `image` `[channel, z, y, x]` by its factor.
pub fn apply(params: &Params, image: &mut Array4<f32>) {
    for (mut channel, &factor) in image.axis_iter_mut(Axis(0)).zip(&params.factors) {
        channel *= factor as f32;
    }
}
