//! Contrast within the image's own range.
use ndarray::{Array4, Axis};
use rand_chacha::ChaCha8Rng;

use super::config::ContrastConfig;
use super::stats::{extremes, mean};
use crate::patch::uniform::{chance, factor};

/// What one application needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Per channel.
    pub factors: Vec<f64>,
}

/// Parameters for a sample of `channels` channels, where one is to be changed.
pub fn draw(config: &ContrastConfig, channels: usize, rng: &mut ChaCha8Rng) -> Option<Params> {
    chance(rng, config.probability)
        .then(|| Params { factors: (0..channels).map(|_| factor(rng, config.factor)).collect() })
}

/// `mean + factor * (value - mean)` for each channel of `image` `[channel, z, y, x]`, cut off at its smallest and
/// largest value before.
pub fn apply(params: &Params, image: &mut Array4<f32>) {
    for (mut channel, &factor) in image.axis_iter_mut(Axis(0)).zip(&params.factors) {
        let Some(voxels) = channel.as_slice_mut().filter(|voxels| !voxels.is_empty()) else { continue };
        let (mean, (low, high)) = (mean(voxels) as f32, extremes(voxels));
        for voxel in voxels {
            *voxel = ((*voxel - mean) * factor as f32 + mean).max(low).min(high);
        }
    }
}
