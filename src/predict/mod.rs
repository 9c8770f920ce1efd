//! Prediction: from a case's files to a label map on their own grid.
mod case;
mod cases;
mod error;
mod folder;
mod memory;
mod networks;
pub mod postprocess;
mod record;
mod tile;
mod warnings;
mod window;

use std::ops::ControlFlow;
use std::path::PathBuf;

use burn::tensor::{Device, FloatDType};
use ndarray::{Array3, Array4};

pub use cases::{InputCase, find_cases};
pub use error::PredictError;
pub use folder::{CheckpointName, Observer, Options, run};
pub use memory::{Memory, check, check_validation};
pub(crate) use networks::members;
pub use record::{CaseRecord, Failure, Record};

use crate::dataset::prepare::Preparation;
use crate::network::UNet;
use crate::train::LoadedRun;
use crate::volume::NativeGrid;

/// A label map and the grid to write it on.
pub struct Prediction {
    /// `[z, y, x]` on the RAS grid of the input.
    pub labels: Array3<u16>,
    /// The input file's own grid.
    pub native: NativeGrid,
}

/// How predictions are made.
#[derive(Clone, Debug)]
pub struct PredictorSettings {
    /// Voxels, z, y, x: that of training, which norm statistics span.
    pub patch: [usize; 3],
    /// What the network has an answer for.
    pub classes: usize,
    /// Where that are regions: the label value of each, painted in this order where its score is above 0.
    pub paint: Option<Vec<u16>>,
    /// Type of what passes between layers.
    pub activations: FloatDType,
    /// What computes.
    pub device: Device,
    /// Share of a tile that neighbours have in common.
    pub overlap: f64,
    /// Average over all mirrorings along these axes, z, y, x.
    pub mirror: [bool; 3],
}

impl PredictorSettings {
    /// As a run was validated: with half of a tile in common and the mirrorings of its configuration.
    pub fn of(plan: &LoadedRun, device: Device) -> Self {
        Self {
            patch: plan.patch,
            classes: plan.network.classes,
            paint: plan.paint(),
            activations: crate::device::float_type(plan.activations),
            device,
            overlap: 0.5,
            mirror: plan.mirrored(None),
        }
    }
}

/// One network, or several whose scores are averaged.
pub struct Predictor<'a> {
    /// One at least.
    pub networks: Vec<&'a UNet>,
    /// What is done to a case first, as in training.
    pub preparation: &'a Preparation,
    /// Patch, classes, overlap and mirrorings.
    pub settings: PredictorSettings,
    /// Changes where volumes lie, never the result.
    pub memory: Memory,
    /// Told after every tile of how many it was; it may end the case there ([`PredictError::Stopped`]).
    pub tiles: Option<&'a (dyn Fn(usize, usize) -> ControlFlow<()> + Sync)>,
}

impl Predictor<'_> {
    /// The label map of a case: its files are one per channel, or one for all.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit the plan, scratch files that cannot be written.
    pub fn labels(&self, files: &[PathBuf]) -> Result<Prediction, PredictError> {
        let found = case::predict(self, files, None)?;
        let labels = found.labels().to_array().map_err(self.memory.failed())?;
        Ok(Prediction { labels, native: found.origin.native })
    }

    /// Mean logits `[class, z, y, x]` of a tile `[channel, z, y, x]` over networks and mirrorings.
    pub fn tile_scores(&self, tile: &Array4<f32>) -> Array4<f32> {
        tile::scores(self, tile)
    }

    /// Passes through a network that a tile takes.
    pub fn passes(&self) -> usize {
        self.networks.len() * tile::mirrorings(self.settings.mirror).len()
    }
}
