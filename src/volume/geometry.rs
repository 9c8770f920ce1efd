//! Where a grid of voxels stands in the patient.
use serde::{Deserialize, Serialize};

/// A grid in RAS orientation. Sizes and columns are in the order x, y, z.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Voxels along x, y, z.
    pub size: [usize; 3],
    /// Rows R, A, S in mm; columns x, y, z voxel steps and the position of voxel (0, 0, 0).
    pub affine: [[f64; 4]; 3],
}

/// How far two grids are apart.
#[derive(Clone, Debug)]
pub enum GridDifference {
    Size {
        a: [usize; 3],
        b: [usize; 3],
    },
    /// The largest distance between the same corner voxel in the two grids.
    Position {
        mm: f64,
        voxels: f64,
    },
}

impl Geometry {
    /// Axis-aligned grid of this size (voxels) and spacing (mm) at the origin.
    pub fn new(size: [usize; 3], spacing: [f64; 3]) -> Self {
        let mut affine = [[0.0; 4]; 3];
        for axis in 0..3 {
            affine[axis][axis] = spacing[axis];
        }
        Self { size, affine }
    }

    /// Spacing along x, y, z in mm.
    pub fn spacing(&self) -> [f64; 3] {
        std::array::from_fn(|axis| (0..3).map(|row| self.affine[row][axis].powi(2)).sum::<f64>().sqrt())
    }

    /// None where the two are the same grid within `tolerance` voxels at every corner.
    pub fn difference(&self, _other: &Self, _tolerance: f64) -> Option<GridDifference> {
        unimplemented!()
    }
}
