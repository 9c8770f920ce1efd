//! Simulated low resolution: nearest voxel down, linear up.
use ndarray::{Array4, Axis};
use rand_chacha::ChaCha8Rng;

use super::config::LowResolutionConfig;
use super::lines::{Line, along_axis};
use crate::patch::uniform::{chance, uniform};

/// What one application needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Per channel the share of voxels kept along z, y, x; `None` leaves the channel.
    pub scale: Vec<Option<[f64; 3]>>,
}

/// Parameters for a sample of `channels` channels, where one is to be changed; axis `kept` (a flat patch's thin axis)
/// keeps its resolution.
pub fn draw(
    config: &LowResolutionConfig,
    channels: usize,
    kept: Option<usize>,
    rng: &mut ChaCha8Rng,
) -> Option<Params> {
    chance(rng, config.probability).then(|| {
        let scale = (0..channels).map(|_| {
            chance(rng, config.channel_probability).then(|| {
                let scale = uniform(rng, config.scale);
                std::array::from_fn(|axis| if kept == Some(axis) { 1.0 } else { scale })
            })
        });
        Params { scale: scale.collect() }
    })
}

/// Samples the channels of `image` `[channel, z, y, x]` that have a scale down and up again, as PyTorch's `interpolate`
/// does with `nearest-exact` and then `trilinear` without aligned corners.
pub fn apply(params: &Params, image: &mut Array4<f32>) {
    let shape = [image.len_of(Axis(1)), image.len_of(Axis(2)), image.len_of(Axis(3))];
    for (mut channel, scale) in image.axis_iter_mut(Axis(0)).zip(&params.scale) {
        let (Some(scale), Some(voxels)) = (scale, channel.as_slice_mut()) else { continue };
        let mut size: [usize; 3] = std::array::from_fn(|axis| {
            // the scale is kept as f32 there, and halves round to even
            let wanted = shape[axis] as f64 * f64::from(scale[axis] as f32);
            (wanted.round_ties_even() as usize).clamp(1, shape[axis].max(1))
        });
        if size == shape {
            continue;
        }
        let mut source = shrink(voxels, shape, size);
        let mut target = vec![0.0; voxels.len()];
        for axis in 0..3 {
            let (from, to) = (size[axis], shape[axis]);
            along_axis(&source, size, axis, to, |index| linear(index, from, to), &mut target);
            size[axis] = to;
            source.resize(voxels.len(), 0.0);
            std::mem::swap(&mut source, &mut target);
        }
        voxels.copy_from_slice(&source);
    }
}

/// The nearest voxel for each of `size` voxels spread over `shape`.
fn shrink(voxels: &[f32], shape: [usize; 3], size: [usize; 3]) -> Vec<f32> {
    let picked: [Vec<usize>; 3] = std::array::from_fn(|axis| {
        let ratio = shape[axis] as f32 / size[axis] as f32;
        let last = shape[axis].saturating_sub(1);
        (0..size[axis]).map(|index| (((index as f32 + 0.5) * ratio) as usize).min(last)).collect()
    });
    let mut small = Vec::with_capacity(size.iter().product());
    for &z in &picked[0] {
        for &y in &picked[1] {
            let row = &voxels[(z * shape[1] + y) * shape[2]..][..shape[2]];
            small.extend(picked[2].iter().map(|&x| row[x]));
        }
    }
    small
}

/// The two of `from` voxels between which voxel `index` of `to` lies, edges to edges, and their weights.
fn linear(index: usize, from: usize, to: usize) -> Line {
    let ratio = from as f32 / to as f32;
    let position = ((index as f32 + 0.5) * ratio - 0.5).max(0.0);
    let low = (position as usize).min(from - 1);
    let share = position - low as f32;
    vec![(low, 1.0 - share), ((low + 1).min(from - 1), share)]
}
