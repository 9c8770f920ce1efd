//! Gaussian noise.
use ndarray::{Array4, Axis};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::config::NoiseConfig;
use crate::patch::uniform::{chance, uniform};
use crate::random::stream;

/// What one application needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Standard deviation.
    pub sigma: f64,
    /// Names the noise: each channel's is the stream `(seed, "noise", channel, 0)`.
    pub seed: u64,
}

/// Parameters for a sample, where one is to be changed.
pub fn draw(config: &NoiseConfig, rng: &mut ChaCha8Rng) -> Option<Params> {
    chance(rng, config.probability).then(|| Params { sigma: uniform(rng, config.sigma), seed: rng.next_u64() })
}

/// Adds `sigma` times a standard normal number to every voxel of `image` `[channel, z, y, x]`.
pub fn apply(params: &Params, image: &mut Array4<f32>) {
    let sigma = params.sigma as f32;
    for (channel, mut voxels) in image.axis_iter_mut(Axis(0)).enumerate() {
        let mut rng = stream(params.seed, "noise", channel as u64, 0);
        let mut spare = None;
        for voxel in &mut voxels {
            let normal = spare.take().unwrap_or_else(|| {
                let [first, second] = normal_pair(&mut rng);
                spare = Some(second);
                first
            });
            *voxel += sigma * normal;
        }
    }
}

/// Two independent standard normal numbers (Box and Muller 1958), within 5.9 of 0 as the radius comes from 24 bits.
fn normal_pair(rng: &mut ChaCha8Rng) -> [f32; 2] {
    const STEP: f32 = 1.0 / (1 << 24) as f32;
    let bits = rng.next_u64();
    let radius_bits = (bits >> 40) as f32;
    let angle_bits = ((bits >> 8) & 0xFF_FFFF) as f32;
    let radius = (-2.0 * libm::logf((radius_bits + 1.0) * STEP)).sqrt();
    let (sine, cosine) = libm::sincosf(angle_bits * STEP * std::f32::consts::TAU);
    [radius * cosine, radius * sine]
}
