//! Volumes: NIfTI read and write, geometry, resampling and intensity normalisation.
//!
//! A volume is read into RAS orientation (first axis to the patient's right, then anterior, then superior) by
//! permuting and flipping axes only; data is `[z, y, x]`. [`NativeGrid`] remembers how the file had it, so that a
//! label map is written back on the file's own grid.
//!
//! NIfTI-1 and NIfTI-2, `.nii` and gzip (told by content), either byte order, every type of one real number per
//! voxel. Positions are in mm: where a header says metres or micrometres they are converted. Every number of a
//! header is checked, and the size it asks for compared with the file's length, before anything is allocated.
mod error;
mod fields;
mod geometry;
mod header;
mod native;
pub mod normalise;
mod orientation;
mod read;
pub mod resample;
mod scalar;
mod source;
mod write;

use std::path::Path;

use ndarray::{Array3, Array4, ArrayView3, Axis};

pub use error::VolumeError;
pub use geometry::{Geometry, GridDifference};
pub use native::NativeGrid;
use read::Volume;
use scalar::Scalar;

/// What the header of a file says, before any voxel is read.
#[derive(Clone, Debug)]
pub struct Header {
    /// The grid after reorientation to RAS.
    pub geometry: Geometry,
    /// How the file itself has it.
    pub native: NativeGrid,
    /// Name of the stored scalar type, as in `int16`.
    pub dtype: &'static str,
    /// Volumes in the file: the product of the dimensions after the third, 1 for a 3D volume.
    pub volumes: usize,
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

/// Reads the header alone: dims, sizes and offsets are checked against the file's length (for gzip, against what its
/// length can hold), nothing large is allocated.
///
/// # Errors
/// [`VolumeError::Io`] where the file cannot be read, [`VolumeError::Invalid`] naming the field that is wrong.
pub fn read_header(path: &Path) -> Result<Header, VolumeError> {
    let header = Volume::open(path)?.header;
    Ok(Header {
        geometry: header.geometry,
        native: header.native,
        dtype: header.scalar.name(),
        volumes: header.volumes,
    })
}

/// Reads a scalar volume. Values that are not finite are kept: see [`first_non_finite`].
///
/// # Errors
/// As [`read_header`]; also a 4D file of several volumes, voxel data cut short or damaged, too little memory.
pub fn read_image(path: &Path) -> Result<Image, VolumeError> {
    let (data, header) = Volume::open(path)?.single()?.read(to_f32)?;
    Ok(Image { data: data.index_axis_move(Axis(0), 0), geometry: header.geometry, native: header.native })
}

/// Reads every volume of a 3D or 4D file as a channel: `[channel, z, y, x]`.
///
/// # Errors
/// As [`read_image`], except that several volumes are welcome.
pub fn read_channels(path: &Path) -> Result<(Array4<f32>, Geometry, NativeGrid), VolumeError> {
    let (data, header) = Volume::open(path)?.read(to_f32)?;
    Ok((data, header.geometry, header.native))
}

/// Reads a label map: every value must be a whole number from 0 to 65535, of whatever type it is stored as.
///
/// # Errors
/// As [`read_image`]; also a value that is no label, with its voxel (x, y, z in RAS orientation).
pub fn read_labels(path: &Path) -> Result<Labels, VolumeError> {
    let (data, header) = Volume::open(path)?.single()?.read(|value| {
        if value.fract() == 0.0 && (0.0..=65535.0).contains(&value) {
            return Ok(value as u16);
        }
        Err((
            format!("{value} is not a label, labels are whole numbers from 0 to 65535"),
            "is this an image instead of a label map? Otherwise resample labels with nearest neighbour only",
        ))
    })?;
    Ok(Labels { data: data.index_axis_move(Axis(0), 0), geometry: header.geometry, native: header.native })
}

/// Writes `labels` (`[z, y, x]` on the RAS grid of `native`) on the file's own grid, atomically; u8 where values allow,
/// else u16. `.nii.gz` or `.nii` by the ending of `path`; the version of NIfTI is that of the file `native` is from.
/// qform, sform, pixdim and units are copied exactly; descriptions, names and extensions are not. Trailing dimensions
/// of 1 are kept, on the grid of a 4D image the label map is 3D. The same labels give the same bytes.
///
/// # Errors
/// [`VolumeError::Io`] for anything of the file system, [`VolumeError::Invalid`] for another ending or size.
pub fn write_labels(path: &Path, labels: ArrayView3<'_, u16>, native: &NativeGrid) -> Result<(), VolumeError> {
    if labels.iter().all(|&label| label <= u16::from(u8::MAX)) {
        write::write(path, labels, native, Scalar::U8, |label, bytes| bytes.push(label as u8))
    } else {
        write::write(path, labels, native, Scalar::U16, |label, bytes| bytes.extend(label.to_le_bytes()))
    }
}

/// Writes a volume `[z, y, x]` as f32 on the file's own grid (class probabilities), else as [`write_labels`].
///
/// # Errors
/// As [`write_labels`].
pub fn write_image(path: &Path, data: ArrayView3<'_, f32>, native: &NativeGrid) -> Result<(), VolumeError> {
    write::write(path, data, native, Scalar::F32, |value, bytes| bytes.extend(value.to_le_bytes()))
}

/// The first voxel (x, y, z) of `data` (`[z, y, x]`) that is NaN or infinite.
pub fn first_non_finite(data: ArrayView3<'_, f32>) -> Option<[usize; 3]> {
    let finite = data.as_slice().is_some_and(|values| values.iter().all(|value| value.is_finite()));
    if finite {
        return None;
    }
    data.indexed_iter().find(|(_, value)| !value.is_finite()).map(|((z, y, x), _)| [x, y, z])
}

fn to_f32(value: f64) -> Result<f32, (String, &'static str)> {
    Ok(value as f32)
}
