//! Volumes: NIfTI read and write, geometry, resampling and intensity normalisation.
//!
//! A volume is read into RAS orientation (first axis to the patient's right, then anterior, then superior) by
//! permuting and flipping axes only; data is `[z, y, x]`. [`NativeGrid`] remembers how the file had it, so that a
//! label map is written back on the file's own grid.
//!
//! NIfTI-1 and NIfTI-2, one file or a pair of `.hdr` and `.img`, plain or gzip (told by content), either byte order, every type of one real number per
//! voxel. Positions are in mm: where a header says metres or micrometres they are converted. Every number of a
//! header is checked, and the size it asks for compared with the file's length, before anything is allocated.
pub mod components;
mod error;
mod fields;
mod framed;
mod geometry;
mod header;
pub mod mask;
mod native;
pub mod normalise;
mod orientation;
mod pair;
pub mod planes;
mod read;
pub mod resample;
mod scalar;
mod source;
mod write;

use std::path::Path;

use ndarray::{Array3, Array4, ArrayView3, Axis};

pub use error::VolumeError;
pub use framed::Framed;
pub use geometry::{Geometry, GridDifference};
pub use native::NativeGrid;
pub use pair::{files_of, pair_stem};
use read::Volume;
use scalar::Scalar;
pub use write::Boxes;

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
    /// Size and place of the RAS grid.
    pub geometry: Geometry,
    /// The file's own grid.
    pub native: NativeGrid,
}

/// A label map in RAS orientation.
#[derive(Clone, Debug)]
pub struct Labels {
    /// `[z, y, x]`.
    pub data: Array3<u16>,
    /// Size and place of the RAS grid.
    pub geometry: Geometry,
    /// The file's own grid.
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
    let (data, header) = Volume::open(path)?.single()?.read()?;
    Ok(Image { data: data.index_axis_move(Axis(0), 0), geometry: header.geometry, native: header.native })
}

/// Reads every volume of a 3D or 4D file as a channel: `[channel, z, y, x]`.
///
/// # Errors
/// As [`read_image`], except that several volumes are welcome.
pub fn read_channels(path: &Path) -> Result<(Array4<f32>, Geometry, NativeGrid), VolumeError> {
    let (data, header) = Volume::open(path)?.read()?;
    Ok((data, header.geometry, header.native))
}

/// As [`read_channels`], each channel an array `[z, y, x]` of its own, so that each can be let go alone.
///
/// # Errors
/// As [`read_channels`].
pub fn read_each_channel(path: &Path) -> Result<(Vec<Array3<f32>>, Geometry, NativeGrid), VolumeError> {
    let (data, header) = Volume::open(path)?.read_each()?;
    Ok((data, header.geometry, header.native))
}

/// Reads every volume of a file piece by piece, so that it need not be in memory: `take` is handed the volume's number,
/// the first voxel (z, y, x) of a box of it, and the box `[z, y, x]`. Boxes of a volume do not overlap and fill it, in no
/// order that matters.
///
/// # Errors
/// As [`read_channels`], and those of `take`; also a file that is no longer `expected` volumes of z, y, x voxels.
pub fn read_pieces(
    path: &Path,
    expected: (usize, [usize; 3]),
    take: impl FnMut(usize, [usize; 3], ArrayView3<'_, f32>) -> Result<(), VolumeError>,
) -> Result<(), VolumeError> {
    let volume = Volume::open(path)?;
    if (volume.header.volumes, volume.header.native.array_shape()) != expected {
        return Err(VolumeError::invalid(path, "dim", "changed while it was read", "read it again"));
    }
    volume.pieces(take).map(|_| ())
}

/// Bytes of voxels that reading and writing hold at a time, where a plane is not larger.
pub const PIECE_BYTES: usize = read::BATCH;

/// Reads a label map: every value must be a whole number from 0 to 65535, of whatever type it is stored as.
///
/// # Errors
/// As [`read_image`]; also a value that is no label, with its voxel (x, y, z in RAS orientation).
pub fn read_labels(path: &Path) -> Result<Labels, VolumeError> {
    let (data, header) = Volume::open(path)?.single()?.read()?;
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
        write_label_boxes(path, &labels, u8::MAX.into(), native)
    } else {
        write_label_boxes(path, &labels, u16::MAX, native)
    }
}

/// As [`write_labels`], of labels up to `largest` that come box by box.
///
/// # Errors
/// As [`write_labels`].
pub fn write_label_boxes(
    path: &Path,
    labels: &impl Boxes<u16>,
    largest: u16,
    native: &NativeGrid,
) -> Result<(), VolumeError> {
    if largest <= u16::from(u8::MAX) {
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
    write_image_boxes(path, &data, native)
}

/// As [`write_image`], of values that come box by box.
///
/// # Errors
/// As [`write_labels`].
pub fn write_image_boxes(path: &Path, data: &impl Boxes<f32>, native: &NativeGrid) -> Result<(), VolumeError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every order and direction of axes, several pieces each (a piece is 1 KiB in tests).
    #[test]
    fn pieces_are_the_whole_however_the_axes_lie() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nii");
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for flips in 0..8 {
                let mut native = NativeGrid::from_geometry(&Geometry::new([11, 12, 13], [1.0; 3]));
                native.axes.to = order;
                native.axes.flip = std::array::from_fn(|axis| flips >> axis & 1 == 1);
                native.placement.srow = [[0.0; 4]; 3];
                for (axis, to) in order.into_iter().enumerate() {
                    native.placement.srow[to][axis] = if native.axes.flip[axis] { -1.0 } else { 1.0 };
                }
                let [z, y, x] = native.array_shape();
                let data = Array3::from_shape_fn((z, y, x), |(z, y, x)| (z * 1000 + y * 30 + x) as f32);
                write_image(&path, data.view(), &native).unwrap();
                let whole = read_image(&path).unwrap();
                assert_eq!((&whole.data, whole.native.axes), (&data, native.axes));
                let mut again = Array3::zeros((z, y, x));
                let mut pieces = 0;
                read_pieces(&path, (1, [z, y, x]), |_, [z, y, x], piece| {
                    let (d, h, w) = piece.dim();
                    again.slice_mut(ndarray::s![z..z + d, y..y + h, x..x + w]).assign(&piece);
                    pieces += 1;
                    Ok(())
                })
                .unwrap();
                assert_eq!(again, data);
                assert!(pieces > 5);
                // The first voxel of the file is where the axes say.
                let bytes = std::fs::read(&path).unwrap();
                let first = f32::from_le_bytes(bytes[352..356].try_into().unwrap());
                let corner: [usize; 3] = std::array::from_fn(|row| {
                    let axis = order.iter().position(|to| *to == row).unwrap();
                    if native.axes.flip[axis] { native.size[axis] - 1 } else { 0 }
                });
                assert_eq!(first, data[[corner[2], corner[1], corner[0]]]);
            }
        }
        assert!(read_pieces(&path, (1, [1, 2, 3]), |_, _, _| Ok(())).is_err());
    }
}
