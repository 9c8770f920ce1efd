//! The Gaussian-weighted sliding window.
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array3, Array4, Axis, s};

use super::Predictor;
use crate::network::{Mode, UNet};
use crate::ops::cpu::pool;
use crate::patch::augment::mirror::mirror_image;
use crate::patch::grid;

/// See [`Predictor::scores`]. A volume smaller than the patch is padded with zeros (the mean, after normalisation) on
/// both sides.
pub fn scores(predictor: &Predictor<'_>, image: &Array4<f32>) -> Array4<f32> {
    // Tile after tile asks for the same buffers.
    let _keep = pool::Keep::new();
    let settings = &predictor.settings;
    let patch = settings.patch;
    let (channels, z, y, x) = image.dim();
    let size = [z, y, x];
    let padded: [usize; 3] = std::array::from_fn(|axis| size[axis].max(patch[axis]));
    let before: [usize; 3] = std::array::from_fn(|axis| (padded[axis] - size[axis]) / 2);
    let weight = grid::gaussian(patch);
    let mut sums = Array4::<f32>::zeros((settings.classes, z, y, x));
    let mut weights = Array3::<f32>::zeros((z, y, x));
    for start in grid::tiles(padded, patch, settings.overlap) {
        // The part of the tile that lies on the volume: in the volume's voxels, and in the tile's.
        let from: [usize; 3] = std::array::from_fn(|axis| start[axis].saturating_sub(before[axis]));
        let offset: [usize; 3] = std::array::from_fn(|axis| before[axis].saturating_sub(start[axis]));
        let count: [usize; 3] =
            std::array::from_fn(|axis| (patch[axis] - offset[axis]).min(size[axis].saturating_sub(from[axis])));
        if count.contains(&0) {
            continue;
        }
        let mut tile = Array4::<f32>::zeros((channels, patch[0], patch[1], patch[2]));
        let on_volume = s![.., from[0]..from[0] + count[0], from[1]..from[1] + count[1], from[2]..from[2] + count[2]];
        let on_tile =
            s![.., offset[0]..offset[0] + count[0], offset[1]..offset[1] + count[1], offset[2]..offset[2] + count[2]];
        tile.slice_mut(on_tile).assign(&image.slice(on_volume));
        let logits = tile_logits(predictor, &tile);
        let plane = weight.view().insert_axis(Axis(0));
        let weight = plane.slice(on_tile);
        let mut target = sums.slice_mut(on_volume);
        ndarray::Zip::from(&mut target)
            .and(&logits.slice(on_tile))
            .and_broadcast(&weight)
            .for_each(|sum, logit, weight| *sum += logit * weight);
        let mut all = weights.view_mut().insert_axis(Axis(0));
        let mut target = all.slice_mut(on_volume);
        target += &weight;
    }
    let weights = weights.insert_axis(Axis(0));
    ndarray::Zip::from(&mut sums).and_broadcast(&weights).for_each(|sum, weight| *sum /= weight);
    sums
}

/// Mean logits of a tile over networks and mirrorings, in a fixed order.
fn tile_logits(predictor: &Predictor<'_>, tile: &Array4<f32>) -> Array4<f32> {
    let mirrorings = mirrorings(predictor.settings.mirror);
    let mut sum: Option<Array4<f32>> = None;
    for network in &predictor.networks {
        for &axes in &mirrorings {
            let logits = if axes == [false; 3] {
                forward(predictor, network, tile)
            } else {
                mirror_image(&forward(predictor, network, &mirror_image(tile, axes)), axes)
            };
            sum = Some(match sum {
                Some(sum) => sum + logits,
                None => logits,
            });
        }
    }
    let count = (predictor.networks.len() * mirrorings.len()) as f32;
    let classes = predictor.settings.classes;
    let [z, y, x] = predictor.settings.patch;
    sum.map_or_else(|| Array4::zeros((classes, z, y, x)), |sum| if count == 1.0 { sum } else { sum / count })
}

/// Every choice among the allowed axes, none first.
fn mirrorings(allowed: [bool; 3]) -> Vec<[bool; 3]> {
    (0..8u8)
        .map(|bits| [bits & 4 != 0, bits & 2 != 0, bits & 1 != 0])
        .filter(|axes| axes.iter().zip(allowed).all(|(mirrored, allowed)| allowed || !mirrored))
        .collect()
}

/// One forward pass: `[channel, z, y, x]` to logits `[class, z, y, x]`.
fn forward(predictor: &Predictor<'_>, network: &UNet, tile: &Array4<f32>) -> Array4<f32> {
    let settings = &predictor.settings;
    let (channels, z, y, x) = tile.dim();
    let values: Vec<f32> = tile.iter().copied().collect();
    let input = Tensor::<5>::from_data(TensorData::new(values, [1, channels, z, y, x]), &settings.device);
    let logits = network.forward(input.cast(settings.activations), Mode::Predict).swap_remove(0);
    let values = logits.into_data().convert::<f32>().try_into_vec::<f32>().unwrap_or_default();
    Array4::from_shape_vec((settings.classes, z, y, x), values)
        .unwrap_or_else(|_| Array4::zeros((settings.classes, z, y, x)))
}
