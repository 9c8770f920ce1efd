//! Intensity normalisation.
use ndarray::{ArrayView3, ArrayViewMut3};
use serde::{Deserialize, Serialize};

/// How one channel is normalised; part of the plan, so that prediction does the same as training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Normalisation {
    /// CT: clip to the dataset's foreground percentiles 0.5 and 99.5 (HU), subtract its mean, divide by its deviation.
    Ct { low: f64, high: f64, mean: f64, deviation: f64 },
    /// Mean 0 and deviation 1 per image; on voxels inside `mask` alone where `nonzero`, the rest stays 0.
    ZScore { nonzero: bool },
}

impl Normalisation {
    /// Normalises in place. `mask` marks the nonzero region (after filling holes).
    pub fn apply(&self, _data: ArrayViewMut3<'_, f32>, _mask: Option<ArrayView3<'_, bool>>) {
        unimplemented!()
    }
}
