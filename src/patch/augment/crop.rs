//! The patch in the middle of a source box.
use ndarray::{Array, Array3, Array4, s};

use crate::patch::Sample;

/// The `patch` voxels (z, y, x) round the middle of `sample` (voxel `size / 2`, rounded down, becomes voxel
/// `patch / 2`); where the sample is smaller, zeros and background fill up.
pub fn centre(sample: Sample, patch: [usize; 3]) -> Sample {
    let size: [usize; 3] = sample.label.dim().into();
    if size == patch {
        return sample;
    }
    let spans = [0, 1, 2].map(|axis| span(size[axis], patch[axis]));
    let [(from_z, to_z, z), (from_y, to_y, y), (from_x, to_x, x)] = spans;
    let channels = sample.image.dim().0;
    let mut image: Array4<f32> = Array::zeros((channels, patch[0], patch[1], patch[2]));
    let mut label: Array3<u16> = Array::zeros(patch);
    image.slice_mut(s![.., to_z..to_z + z, to_y..to_y + y, to_x..to_x + x]).assign(&sample.image.slice(s![
        ..,
        from_z..from_z + z,
        from_y..from_y + y,
        from_x..from_x + x
    ]));
    label.slice_mut(s![to_z..to_z + z, to_y..to_y + y, to_x..to_x + x]).assign(&sample.label.slice(s![
        from_z..from_z + z,
        from_y..from_y + y,
        from_x..from_x + x
    ]));
    Sample { image, label }
}

/// First voxel in the source, first voxel in the patch, and how many.
fn span(size: usize, patch: usize) -> (usize, usize, usize) {
    let (from, to) = ((size / 2).saturating_sub(patch / 2), (patch / 2).saturating_sub(size / 2));
    (from, to, (size - from).min(patch - to))
}
