//! Volumes: NIfTI read and write, geometry, resampling and intensity normalisation.
//!
//! A volume is read into RAS orientation (first axis to the patient's right, then anterior, then superior) by
//! permuting and flipping axes only; data is `[z, y, x]`. [`NativeGrid`] remembers how the file had it, so that a
//! label map is written back on the file's own grid.
mod error;
mod geometry;
pub mod normalise;
pub mod resample;

use std::path::Path;

use ndarray::{Array3, ArrayView3};

pub use error::VolumeError;
pub use geometry::{Geometry, GridDifference};

/// What the header of a file says, before any voxel is read.
#[derive(Clone, Debug)]
pub struct Header {
    /// The grid after reorientation to RAS.
    pub geometry: Geometry,
    /// How the file itself has it.
    pub native: NativeGrid,
    /// Name of the stored scalar type, as in `int16`.
    pub dtype: &'static str,
}

/// The file's own grid and the header fields that a label map written on it must carry over.
#[derive(Clone, Debug)]
pub struct NativeGrid {
    // filled by the reader: size as stored, axis permutation and flips to RAS, pixdim, qform/sform codes and values,
    // units, NIfTI version, ...
}

/// A scalar volume in RAS orientation.
#[derive(Clone, Debug)]
pub struct Image {
    /// `[z, y, x]`, after scl_slope and scl_inter.
    pub data: Array3<f32>,
    pub geometry: Geometry,
    pub native: NativeGrid,
}

/// A label map in RAS orientation.
#[derive(Clone, Debug)]
pub struct Labels {
    /// `[z, y, x]`.
    pub data: Array3<u16>,
    pub geometry: Geometry,
    pub native: NativeGrid,
}

/// Reads the header alone: dims, sizes and offsets are checked against the file's length (for `.nii`), nothing large is allocated.
pub fn read_header(_path: &Path) -> Result<Header, VolumeError> {
    unimplemented!()
}

/// Reads a scalar volume.
pub fn read_image(_path: &Path) -> Result<Image, VolumeError> {
    unimplemented!()
}

/// Reads a label map: every value must be a whole number from 0 to 65535.
pub fn read_labels(_path: &Path) -> Result<Labels, VolumeError> {
    unimplemented!()
}

/// Writes `labels` (`[z, y, x]` on the RAS grid of `native`) on the file's own grid, atomically; u8 where values allow, else u16.
pub fn write_labels(_path: &Path, _labels: ArrayView3<'_, u16>, _native: &NativeGrid) -> Result<(), VolumeError> {
    unimplemented!()
}

/// Writes a volume `[z, y, x]` as f32 on the file's own grid (class probabilities).
pub fn write_image(_path: &Path, _data: ArrayView3<'_, f32>, _native: &NativeGrid) -> Result<(), VolumeError> {
    unimplemented!()
}

impl NativeGrid {
    /// A plain RAS grid of this geometry (sform code 1), for volumes that come from no file.
    pub fn from_geometry(_geometry: &Geometry) -> Self {
        unimplemented!()
    }
}
