//! The grid a file has, and what a label map written on it carries over.
use super::Geometry;
use super::fields::{Placement, Version};
use super::header::version_for;
use super::orientation::Axes;

/// The file's own grid and the header fields that a label map written on it must carry over: size, order and
/// direction of the axes, pixdim, qform, sform, units and the version of the format.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeGrid {
    pub(super) version: Version,
    /// dim[0] of a file of one volume, 2 to 7.
    pub(super) rank: usize,
    /// Voxels along the file's axes i, j, k.
    pub(super) size: [usize; 3],
    pub(super) axes: Axes,
    pub(super) placement: Placement,
}

impl NativeGrid {
    /// A plain RAS grid of this geometry (sform code 1), for volumes that come from no file. It is written as NIfTI-1
    /// (the affine rounded to f32), as NIfTI-2 where an axis has more than 32767 voxels.
    pub fn from_geometry(geometry: &Geometry) -> Self {
        let [x, y, z] = geometry.spacing();
        Self {
            version: version_for(geometry.size),
            rank: 3,
            size: geometry.size,
            axes: Axes::RAS,
            placement: Placement {
                pixdim: [1.0, x, y, z, 1.0, 1.0, 1.0, 1.0],
                xyzt_units: 2,
                qform_code: 0,
                sform_code: 1,
                quatern: [0.0; 3],
                qoffset: std::array::from_fn(|row| geometry.affine[row][3]),
                srow: geometry.affine,
            },
        }
    }

    /// Voxels along the file's own axes i, j, k.
    pub fn size(&self) -> [usize; 3] {
        self.size
    }

    /// The size `[z, y, x]` of the array in RAS orientation that this grid takes.
    pub fn array_shape(&self) -> [usize; 3] {
        self.axes.array_shape(self.size)
    }
}
