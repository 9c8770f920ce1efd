//! Gamma, of the image or of its negative, keeping mean and standard deviation.
use ndarray::{Array4, Axis};
use rand_chacha::ChaCha8Rng;

use super::config::GammaConfig;
use super::power::power;
use super::stats::{extremes, mean_and_deviation};
use crate::patch::uniform::{chance, factor};

/// What one application needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Per channel.
    pub gamma: Vec<f64>,
    /// Whether the negative image is raised.
    pub inverted: bool,
}

/// Ranges and deviations below this count as this (batchgeneratorsv2's guard against dividing by 0).
const LEAST: f32 = 1e-7;

/// Parameters for a sample of `channels` channels, where one is to be changed.
pub fn draw(config: &GammaConfig, inverted: bool, channels: usize, rng: &mut ChaCha8Rng) -> Option<Params> {
    chance(rng, config.probability)
        .then(|| Params { gamma: (0..channels).map(|_| factor(rng, config.gamma)).collect(), inverted })
}

/// Maps each channel of `image` `[channel, z, y, x]` to 0..1, raises it to gamma and maps it back; then shifts and
/// scales it to the mean and standard deviation it had.
pub fn apply(params: &Params, image: &mut Array4<f32>) {
    let sign = if params.inverted { -1.0 } else { 1.0 };
    for (mut channel, &gamma) in image.axis_iter_mut(Axis(0)).zip(&params.gamma) {
        let Some(voxels) = channel.as_slice_mut().filter(|voxels| !voxels.is_empty()) else { continue };
        voxels.iter_mut().for_each(|voxel| *voxel *= sign);
        let (mean, deviation) = mean_and_deviation(voxels);
        let (low, high) = extremes(voxels);
        let range = high - low;
        let divisor = range.max(LEAST);
        for voxel in voxels.iter_mut() {
            *voxel = power((*voxel - low) / divisor, gamma as f32) * range + low;
        }
        let (raised_mean, raised_deviation) = mean_and_deviation(voxels);
        let stretch = deviation as f32 / (raised_deviation as f32).max(LEAST);
        for voxel in voxels.iter_mut() {
            *voxel = sign * ((*voxel - raised_mean as f32) * stretch + mean as f32);
        }
    }
}
