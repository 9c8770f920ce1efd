//! The grid a file has, and what a label map written on it carries over.
use std::path::Path;

use super::fields::{Placement, Version};
use super::header::version_for;
use super::orientation::{self, Axes};
use super::{Geometry, GridDifference};

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

    /// Where the file's axes i, j, k run to, as in `LPS`.
    pub fn orientation(&self) -> String {
        let letter =
            |axis: usize| [["R", "L"], ["A", "P"], ["S", "I"]][self.axes.to[axis]][usize::from(self.axes.flip[axis])];
        (0..3).map(letter).collect()
    }

    /// How far the qform puts the volume from where the sform does, where the header has both and their corners are more
    /// than `tolerance` voxels apart. A qform that says nothing sensible counts for none.
    pub fn forms_apart(&self, tolerance: f64) -> Option<GridDifference> {
        let qform = Placement { sform_code: 0, ..self.placement.clone() };
        if self.placement.sform_code <= 0 || qform.qform_code <= 0 {
            return None;
        }
        let grid = |placement: &Placement| {
            let affine = orientation::affine(Path::new(""), placement, self.rank.min(3)).ok()?;
            Some(Geometry { size: self.size, affine })
        };
        grid(&self.placement)?.difference(&grid(&qform)?, tolerance)
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
