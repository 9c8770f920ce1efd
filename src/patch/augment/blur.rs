//! Gaussian blur, one axis after the other.
use ndarray::{Array4, Axis};
use rand_chacha::ChaCha8Rng;

use super::config::BlurConfig;
use super::lines::{Line, along_axis};
use crate::patch::uniform::{chance, uniform};

/// What one application needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Per channel the standard deviation along z, y, x in voxels; `None` leaves the channel.
    pub sigma: Vec<Option<[f64; 3]>>,
}

/// Parameters for a sample of `channels` channels, where one is to be changed.
pub fn draw(config: &BlurConfig, channels: usize, rng: &mut ChaCha8Rng) -> Option<Params> {
    chance(rng, config.probability).then(|| {
        let sigma = (0..channels)
            .map(|_| chance(rng, config.channel_probability).then(|| [(); 3].map(|()| uniform(rng, config.sigma))))
            .collect();
        Params { sigma }
    })
}

/// Blurs the channels of `image` `[channel, z, y, x]` that have a sigma; beyond the border the image is reflected
/// (without repeating the border voxel).
pub fn apply(params: &Params, image: &mut Array4<f32>) {
    let shape = [image.len_of(Axis(1)), image.len_of(Axis(2)), image.len_of(Axis(3))];
    for (mut channel, sigma) in image.axis_iter_mut(Axis(0)).zip(&params.sigma) {
        let (Some(sigma), Some(voxels)) = (sigma, channel.as_slice_mut()) else { continue };
        let mut source = voxels.to_vec();
        let mut target = vec![0.0; source.len()];
        for axis in 0..3 {
            let kernel = kernel(sigma[axis]);
            let half = kernel.len() / 2;
            let taps = |index: usize| -> Line {
                let tap = |(offset, &weight)| {
                    (reflect(index as isize + offset as isize - half as isize, shape[axis]), weight)
                };
                kernel.iter().enumerate().map(tap).collect()
            };
            along_axis(&source, shape, axis, shape[axis], taps, &mut target);
            std::mem::swap(&mut source, &mut target);
        }
        voxels.copy_from_slice(&source);
    }
}

/// Weights of a Gaussian, normalised to sum 1, over the odd number of voxels nearest to 6 sigma + 0.5
/// (batchgeneratorsv2's width).
fn kernel(sigma: f64) -> Vec<f32> {
    let wanted = 6.0 * sigma + 0.5;
    let rounded = wanted.round_ties_even();
    let odd = rounded % 2.0 == 1.0;
    let width = if odd {
        rounded
    } else if wanted >= rounded {
        rounded + 1.0
    } else {
        rounded - 1.0
    };
    let half = (width as isize).max(1) / 2;
    let weights: Vec<f64> = (-half..=half).map(|x| libm::exp(-0.5 * (x as f64 / sigma) * (x as f64 / sigma))).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / sum) as f32).collect()
}

/// The voxel that `index` shows in an axis of `size` voxels mirrored at its first and last voxel again and again.
fn reflect(index: isize, size: usize) -> usize {
    let last = size as isize - 1;
    if last <= 0 {
        return 0;
    }
    let folded = index.rem_euclid(2 * last);
    folded.min(2 * last - folded) as usize
}
