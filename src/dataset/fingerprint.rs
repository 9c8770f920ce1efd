//! What a dataset's cases have in common: nnU-Net's fingerprint, from which the plan is made.
use serde::{Deserialize, Serialize};

use super::{Dataset, DatasetError};

/// Sizes and spacings are x, y, z.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// mm, one per case, in the dataset's order.
    pub spacings: Vec<[f64; 3]>,
    /// Voxels after the crop to nonzero, one per case.
    pub sizes: Vec<[usize; 3]>,
    /// Median over cases of voxels after the crop / voxels before.
    pub median_relative_size_after_crop: f64,
    /// Foreground intensities of each channel over all cases.
    pub intensities: Vec<Intensities>,
}

/// Statistics of one channel over foreground voxels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intensities {
    pub mean: f64,
    pub median: f64,
    pub deviation: f64,
    pub min: f64,
    pub max: f64,
    pub percentile_00_5: f64,
    pub percentile_99_5: f64,
}

/// Reads every case (in parallel, a bounded number at once).
pub fn fingerprint(_dataset: &Dataset) -> Result<Fingerprint, DatasetError> {
    unimplemented!()
}
