//! Mirroring.
use ndarray::{Array, Array3, Array4, Axis, Dimension};
use rand_chacha::ChaCha8Rng;

use super::config::MirrorConfig;
use crate::patch::Sample;
use crate::patch::uniform::chance;

/// What one application needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// Whether z, y, x are mirrored.
    pub axes: [bool; 3],
}

/// Parameters for a sample; all axes `false` where it stays.
pub fn draw(config: &MirrorConfig, rng: &mut ChaCha8Rng) -> Params {
    // a number is taken for every axis, so that forbidding one leaves the others' draws
    Params { axes: config.allowed().map(|allowed| chance(rng, config.probability) && allowed) }
}

/// Mirrors image and label.
pub fn apply(params: &Params, sample: Sample) -> Sample {
    if params.axes == [false; 3] {
        return sample;
    }
    Sample { image: mirror_image(&sample.image, params.axes), label: mirror_label(&sample.label, params.axes) }
}

/// `image` `[channel, z, y, x]` mirrored along the axes (z, y, x) that are `true`, in standard layout; mirroring twice
/// gives the image back.
pub fn mirror_image<T: Copy>(image: &Array4<T>, axes: [bool; 3]) -> Array4<T> {
    mirror(image, axes, 1)
}

/// `label` `[z, y, x]` mirrored as by [`mirror_image`].
pub fn mirror_label<T: Copy>(label: &Array3<T>, axes: [bool; 3]) -> Array3<T> {
    mirror(label, axes, 0)
}

fn mirror<T: Copy, D: Dimension>(array: &Array<T, D>, axes: [bool; 3], first: usize) -> Array<T, D> {
    let mut view = array.view();
    for (axis, _) in axes.iter().enumerate().filter(|(_, mirrored)| **mirrored) {
        view.invert_axis(Axis(first + axis));
    }
    view.as_standard_layout().into_owned()
}
