//! Prediction: from a case's files to a label map on their own grid.
mod cases;
mod error;
mod folder;
mod window;

use std::path::PathBuf;

use burn::tensor::{Device, FloatDType};
use ndarray::{Array3, Array4};

pub use cases::{InputCase, find_cases};
pub use error::PredictError;
pub use folder::{CheckpointName, Observer, Options, Record, run};

use crate::dataset::prepare::{self, Preparation, PreparedImage};
use crate::network::UNet;
use crate::volume::NativeGrid;

/// A label map and the grid to write it on.
pub struct Prediction {
    /// `[z, y, x]` on the RAS grid of the input.
    pub labels: Array3<u16>,
    pub native: NativeGrid,
}

/// How predictions are made.
#[derive(Clone, Debug)]
pub struct PredictorSettings {
    /// Voxels, z, y, x: that of training, which norm statistics span.
    pub patch: [usize; 3],
    pub classes: usize,
    pub activations: FloatDType,
    pub device: Device,
    /// Share of a tile that neighbours have in common.
    pub overlap: f64,
    /// Average over all mirrorings along these axes, z, y, x.
    pub mirror: [bool; 3],
}

/// One network, or several whose scores are averaged.
pub struct Predictor<'a> {
    pub networks: Vec<&'a UNet>,
    pub preparation: &'a Preparation,
    pub settings: PredictorSettings,
}

impl Predictor<'_> {
    /// The label map of a case: its files are one per channel, or one for all.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit the plan.
    pub fn labels(&self, files: &[PathBuf]) -> Result<Prediction, PredictError> {
        let image = prepare::image(files, self.preparation)?;
        let scores = self.scores(&image.data);
        Ok(self.restore(&scores, image))
    }

    /// Mean logits `[class, z, y, x]` over networks, mirrorings and tiles, of a prepared image `[channel, z, y, x]`.
    pub fn scores(&self, image: &Array4<f32>) -> Array4<f32> {
        window::scores(self, image)
    }

    /// A label map on the input's RAS grid from scores on the prepared one.
    pub fn restore(&self, scores: &Array4<f32>, image: PreparedImage) -> Prediction {
        let labels = prepare::restore_labels(scores.view(), &image.origin, self.preparation);
        Prediction { labels, native: image.origin.native }
    }
}
