//! One tile through the networks.
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array4, ArrayView4, Axis};

use super::Predictor;
use crate::network::{Mode, UNet};

/// Mean logits of a tile over networks and mirrorings, in a fixed order. `memory/step/forward.rs` rehearses what this holds.
pub fn scores(predictor: &Predictor<'_>, tile: &Array4<f32>) -> Array4<f32> {
    let mirrorings = mirrorings(predictor.settings.mirror);
    let mut sum: Option<Array4<f32>> = None;
    for network in &predictor.networks {
        for &axes in &mirrorings {
            let logits = forward(predictor, network, mirrored(tile.view(), axes));
            match &mut sum {
                Some(sum) => *sum += &mirrored(logits.view(), axes),
                // The first is the one that is not mirrored.
                None => sum = Some(logits),
            }
        }
    }
    let count = (predictor.networks.len() * mirrorings.len()) as f32;
    let classes = predictor.settings.classes;
    let [z, y, x] = predictor.settings.patch;
    let mut sum = sum.unwrap_or_else(|| Array4::zeros((classes, z, y, x)));
    if count > 1.0 {
        sum /= count;
    }
    sum
}

/// Every choice among the allowed axes, none first.
pub fn mirrorings(allowed: [bool; 3]) -> Vec<[bool; 3]> {
    (0..8u8)
        .map(|bits| [bits & 4 != 0, bits & 2 != 0, bits & 1 != 0])
        .filter(|axes| axes.iter().zip(allowed).all(|(mirrored, allowed)| allowed || !mirrored))
        .collect()
}

fn mirrored(mut view: ArrayView4<'_, f32>, axes: [bool; 3]) -> ArrayView4<'_, f32> {
    for (axis, _) in axes.iter().enumerate().filter(|(_, mirrored)| **mirrored) {
        view.invert_axis(Axis(1 + axis));
    }
    view
}

/// One forward pass: `[channel, z, y, x]` to logits `[class, z, y, x]`.
fn forward(predictor: &Predictor<'_>, network: &UNet, tile: ArrayView4<'_, f32>) -> Array4<f32> {
    let settings = &predictor.settings;
    let (channels, z, y, x) = tile.dim();
    let mut values: Vec<f32> = Vec::with_capacity(tile.len());
    values.extend(tile.iter());
    let input = Tensor::<5>::from_data(TensorData::new(values, [1, channels, z, y, x]), &settings.device);
    let logits = network.forward(input.cast(settings.activations), Mode::Predict).swap_remove(0);
    let values = logits.into_data().convert::<f32>().try_into_vec::<f32>().unwrap_or_default();
    Array4::from_shape_vec((settings.classes, z, y, x), values)
        .unwrap_or_else(|_| Array4::zeros((settings.classes, z, y, x)))
}
