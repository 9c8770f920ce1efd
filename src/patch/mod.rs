//! Patches: which are drawn for a sample, how they are augmented, and the sliding-window grid of prediction.
//!
//! Triples are z, y, x, as arrays have them, everywhere in this module.
pub mod augment;
pub mod grid;
pub mod sampler;
mod uniform;

pub use augment::mirror::{mirror_image, mirror_label};
use ndarray::{Array3, Array4};

/// One training sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `[channel, z, y, x]`.
    pub image: Array4<f32>,
    /// `[z, y, x]`.
    pub label: Array3<u16>,
}
