//! Augmentation: each transform against recorded values, and what is drawn for a sample.
mod drawn;
mod recorded;

use ndarray::{Array3, Array4};
use voxfit::patch::Sample;

const PATCH: [usize; 3] = [10, 9, 11];

/// The sample that the recorded values were made from (`shape` z, y, x).
fn sample(shape: [usize; 3], channels: usize) -> Sample {
    let value = |index: usize| ((index as f64 * 0.37).sin() + 0.5 * (index as f64 * 0.011).cos()) as f32;
    let count: usize = shape.iter().product();
    let image = (0..channels * count).map(value).collect();
    let label =
        Array3::from_shape_fn(shape, |(z, y, x)| match (z * 7 / shape[0] + y * 5 / shape[1] + x * 3 / shape[2]) % 4 {
            3 => 255,
            class => class as u16,
        });
    Sample { image: Array4::from_shape_vec((channels, shape[0], shape[1], shape[2]), image).unwrap(), label }
}
