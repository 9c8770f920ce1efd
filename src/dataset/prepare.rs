//! From a case's files to what the network sees: crop to nonzero, normalise, resample (nnU-Net's order).
use ndarray::{Array3, Array4};
use serde::{Deserialize, Serialize};

use super::{Case, DatasetError};
use crate::volume::NativeGrid;
use crate::volume::normalise::Normalisation;

/// What is done to every case, in training and in prediction alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preparation {
    /// Target spacing in mm, x, y, z.
    pub spacing: [f64; 3],
    /// One per channel.
    pub normalisation: Vec<Normalisation>,
}

/// A case on the plan's grid.
pub struct PreparedImage {
    /// `[channel, z, y, x]`.
    pub data: Array4<f32>,
    /// How to bring a label map back.
    pub origin: Origin,
}

/// Where a prepared image was taken from: enough to restore a prediction to the input's own grid.
#[derive(Clone, Debug)]
pub struct Origin {
    pub native: NativeGrid,
    /// RAS grid before the crop, voxels z, y, x.
    pub size: [usize; 3],
    /// First voxel of the crop, z, y, x.
    pub crop_start: [usize; 3],
    /// Voxels of the crop before resampling, z, y, x.
    pub crop_size: [usize; 3],
    /// mm, z, y, x, before resampling.
    pub spacing: [f64; 3],
}

/// Reads and prepares the image files of a case (one per channel, or one 4D file).
pub fn image(_files: &[std::path::PathBuf], _preparation: &Preparation) -> Result<PreparedImage, DatasetError> {
    unimplemented!()
}

/// Reads and prepares image and label map of a training case: both `[.., z, y, x]` on one grid; checks the label's
/// grid, its values against the dataset's classes, and that image voxels are finite.
pub fn case(
    _case: &Case,
    _classes: usize,
    _ignore: Option<u16>,
    _preparation: &Preparation,
) -> Result<(Array4<f32>, Array3<u16>), DatasetError> {
    unimplemented!()
}

/// Brings class scores `[class, z, y, x]` on the prepared grid back to a label map on the RAS grid before the crop:
/// scores resampled linearly class by class (never all classes at full size at once), largest wins, zeros outside the crop.
pub fn restore_labels(
    _scores: ndarray::ArrayView4<'_, f32>,
    _origin: &Origin,
    _preparation: &Preparation,
) -> Array3<u16> {
    unimplemented!()
}
