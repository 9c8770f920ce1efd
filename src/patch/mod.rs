//! Patches: which are drawn for a sample, how they are augmented, and the sliding-window grid of prediction.
pub mod augment;
pub mod grid;
pub mod sampler;

use ndarray::{Array3, Array4};

/// One training sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `[channel, z, y, x]`.
    pub image: Array4<f32>,
    /// `[z, y, x]`.
    pub label: Array3<u16>,
}
