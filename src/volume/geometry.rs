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
#[derive(Clone, Debug, PartialEq)]
pub enum GridDifference {
    /// Voxels along x, y, z differ.
    Size {
        /// Of the first grid.
        a: [usize; 3],
        /// Of the second grid.
        b: [usize; 3],
    },
    /// The largest distance between the same outer corner of the two grids, in mm and in voxels of the first.
    Position {
        /// Distance in mm.
        mm: f64,
        /// Distance in voxels of the first grid.
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

    /// The volume of one voxel in mm^3.
    pub fn voxel_volume(&self) -> f64 {
        determinant(&self.steps()).abs()
    }

    /// None where the two are the same grid within `tolerance` voxels at every corner.
    ///
    /// Corners are those of the outermost voxels, half a voxel outside their centres, so that the direction of an
    /// axis one voxel thick counts too. Voxels are those of `self`.
    pub fn difference(&self, other: &Self, tolerance: f64) -> Option<GridDifference> {
        if self.size != other.size {
            return Some(GridDifference::Size { a: self.size, b: other.size });
        }
        let to_voxels = inverse(&self.steps());
        let (mut mm, mut voxels) = (0.0f64, 0.0f64);
        let mut comparable = to_voxels.is_some();
        for corner in 0..8 {
            let position: [f64; 3] =
                std::array::from_fn(|axis| if corner >> axis & 1 == 0 { -0.5 } else { self.size[axis] as f64 - 0.5 });
            let (a, b) = (self.position(position), other.position(position));
            let apart: [f64; 3] = std::array::from_fn(|row| b[row] - a[row]);
            comparable &= apart.iter().all(|value| value.is_finite());
            mm = mm.max(norm(apart));
            if let Some(to_voxels) = &to_voxels {
                voxels = voxels.max(norm(to_voxels.map(|row| (0..3).map(|column| row[column] * apart[column]).sum())));
            }
        }
        if !comparable {
            return Some(GridDifference::Position { mm: f64::INFINITY, voxels: f64::INFINITY });
        }
        (voxels > tolerance).then_some(GridDifference::Position { mm, voxels })
    }

    /// Where a point given in voxels (x, y, z) lies, R, A, S in mm.
    pub fn position(&self, voxel: [f64; 3]) -> [f64; 3] {
        self.affine.map(|row| row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3])
    }

    fn steps(&self) -> [[f64; 3]; 3] {
        self.affine.map(|[x, y, z, _]| [x, y, z])
    }
}

fn norm(vector: [f64; 3]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

pub(super) fn determinant(m: &[[f64; 3]; 3]) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

/// None where the matrix is singular or not finite.
pub(super) fn inverse(m: &[[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let determinant = determinant(m);
    if determinant == 0.0 || !determinant.is_finite() {
        return None;
    }
    let cofactor = |row: usize, column: usize| {
        let (r, s) = ((row + 1) % 3, (row + 2) % 3);
        let (c, d) = ((column + 1) % 3, (column + 2) % 3);
        m[r][c] * m[s][d] - m[r][d] * m[s][c]
    };
    Some(std::array::from_fn(|row| std::array::from_fn(|column| cofactor(column, row) / determinant)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_grid_has_no_difference() {
        let grid = Geometry::new([10, 20, 30], [0.5, 0.5, 2.0]);
        assert_eq!(grid.difference(&grid, 0.0), None);
        assert_eq!(grid.voxel_volume(), 0.5);
    }

    #[test]
    fn shift_counts_in_mm_and_voxels() {
        let grid = Geometry::new([10, 20, 30], [0.5, 0.5, 2.0]);
        let mut other = grid.clone();
        other.affine[2][3] = 1.0;
        let expected = GridDifference::Position { mm: 1.0, voxels: 0.5 };
        assert_eq!(grid.difference(&other, 0.4), Some(expected));
        assert_eq!(grid.difference(&other, 0.6), None);
    }

    #[test]
    fn spacing_counts_at_the_far_corner() {
        let grid = Geometry::new([100, 1, 1], [1.0; 3]);
        let other = Geometry::new([100, 1, 1], [1.01, 1.0, 1.0]);
        // The far face is at 99.5 voxels: 99.5 * 0.01.
        let Some(GridDifference::Position { mm, .. }) = grid.difference(&other, 0.1) else { panic!("no difference") };
        assert!((mm - 0.995).abs() < 1e-12, "{mm}");
    }

    #[test]
    fn direction_of_a_single_slice_counts() {
        let grid = Geometry::new([4, 4, 1], [1.0; 3]);
        let mut other = grid.clone();
        other.affine[2][2] = 3.0;
        assert!(matches!(grid.difference(&other, 0.5), Some(GridDifference::Position { mm: 1.0, .. })));
    }

    #[test]
    fn size_is_told_first_and_nan_is_never_the_same() {
        let grid = Geometry::new([4, 4, 4], [1.0; 3]);
        let other = Geometry::new([4, 4, 5], [1.0; 3]);
        assert_eq!(grid.difference(&other, 9.0), Some(GridDifference::Size { a: [4, 4, 4], b: [4, 4, 5] }));
        let mut nan = grid.clone();
        nan.affine[0][3] = f64::NAN;
        assert!(grid.difference(&nan, 9.0).is_some());
        assert!(nan.difference(&grid, 9.0).is_some());
        let flat = Geometry::new([4, 4, 4], [1.0, 0.0, 1.0]);
        assert!(flat.difference(&grid, 1e9).is_some());
    }
}
