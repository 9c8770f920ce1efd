//! From the header's placement to an affine, and from an affine to the closest RAS order of axes.
use std::ops::Range;
use std::path::Path;

use ndarray::{ArrayView3, Axis};

use super::error::VolumeError;
use super::fields::Placement;
use super::geometry::{Geometry, determinant, inverse};

/// Rows R, A, S in mm; columns of the file's axes i, j, k and the position of voxel (0, 0, 0).
pub(super) type Affine = [[f64; 4]; 3];

/// Positions beyond these, in any unit, are damage; squares of larger numbers leave f64's range.
const FARTHEST: std::ops::RangeInclusive<f64> = -1e12..=1e12;

/// How the file's axes lie along R, A, S.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axes {
    /// The RAS axis (0 to 2) that each file axis i, j, k becomes.
    pub(super) to: [usize; 3],
    /// Whether the file axis runs the other way.
    pub(super) flip: [bool; 3],
}

impl Axes {
    pub(super) const RAS: Self = Self { to: [0, 1, 2], flip: [false; 3] };

    /// The RAS axis that changes most along each file axis, by nibabel's rule: the affine's columns, made unit and
    /// replaced by the closest orthogonal matrix, are assigned from the most to the least aligned.
    pub(super) fn closest(affine: &Affine) -> Self {
        let norms = column_norms(affine);
        let unit = std::array::from_fn(|row| std::array::from_fn(|column| affine[row][column] / norms[column]));
        let rotation = closest_rotation(unit);
        let strength: [f64; 3] =
            std::array::from_fn(|column| (0..3).map(|row| rotation[row][column].powi(2)).fold(0.0, f64::max));
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| strength[b].total_cmp(&strength[a]));
        let mut axes = Self::RAS;
        let mut free = [true; 3];
        for column in order {
            let mut best = None;
            for row in (0..3).filter(|&row| free[row]) {
                if best.is_none_or(|best: usize| rotation[row][column].abs() > rotation[best][column].abs()) {
                    best = Some(row);
                }
            }
            if let Some(row) = best {
                free[row] = false;
                axes.to[column] = row;
                axes.flip[column] = rotation[row][column] < 0.0;
            }
        }
        axes
    }

    /// The grid after these permutations and flips; `size` and `affine` are in the file's order.
    pub(super) fn geometry(&self, size: [usize; 3], affine: &Affine) -> Geometry {
        let mut ras = Geometry { size: [0; 3], affine: *affine };
        for axis in 0..3 {
            let target = self.to[axis];
            ras.size[target] = size[axis];
            for (row, from) in ras.affine.iter_mut().zip(affine) {
                row[target] = if self.flip[axis] { -from[axis] } else { from[axis] };
                if self.flip[axis] {
                    row[3] += from[axis] * (size[axis] - 1) as f64;
                }
            }
        }
        ras
    }

    /// Planes `planes` of the file's last axis, of a file of `size` voxels (its own order): their first voxel and voxels in
    /// the RAS array, z, y, x.
    pub(super) fn ras_box(&self, size: [usize; 3], planes: Range<usize>) -> ([usize; 3], [usize; 3]) {
        let (mut start, mut shape) = ([0; 3], self.array_shape(size));
        let across = 2 - self.to[2];
        start[across] = if self.flip[2] { size[2] - planes.end } else { planes.start };
        shape[across] = planes.len();
        (start, shape)
    }

    /// A box in the file's order, `[k, j, i]`, as `[z, y, x]`.
    pub(super) fn file_to_ras<'a, T>(&self, view: ArrayView3<'a, T>) -> ArrayView3<'a, T> {
        let mut view = view;
        for axis in 0..3 {
            if self.flip[axis] {
                view.invert_axis(Axis(2 - axis));
            }
        }
        let mut from = [0; 3];
        for axis in 0..3 {
            from[2 - self.to[axis]] = 2 - axis;
        }
        view.permuted_axes(from)
    }

    /// A box `[z, y, x]` in the file's order, `[k, j, i]`.
    pub(super) fn ras_to_file<'a, T>(&self, view: ArrayView3<'a, T>) -> ArrayView3<'a, T> {
        let mut view = view.permuted_axes([2 - self.to[2], 2 - self.to[1], 2 - self.to[0]]);
        for axis in 0..3 {
            if self.flip[axis] {
                view.invert_axis(Axis(2 - axis));
            }
        }
        view
    }

    /// The size `[z, y, x]` of the RAS array.
    pub(super) fn array_shape(&self, size: [usize; 3]) -> [usize; 3] {
        let mut shape = [0; 3];
        for axis in 0..3 {
            shape[2 - self.to[axis]] = size[axis];
        }
        shape
    }
}

fn column_norms(affine: &Affine) -> [f64; 3] {
    std::array::from_fn(|column| affine.iter().map(|row| row[column].powi(2)).sum::<f64>().sqrt())
}

/// The orthogonal factor of the polar decomposition, by Newton's iteration (Higham 1986).
fn closest_rotation(matrix: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let mut current = matrix;
    for _ in 0..100 {
        let Some(inverse) = inverse(&current) else { return current };
        let mut change = 0.0f64;
        let mut next = current;
        for row in 0..3 {
            for column in 0..3 {
                next[row][column] = 0.5 * (current[row][column] + inverse[column][row]);
                change = change.max((next[row][column] - current[row][column]).abs());
            }
        }
        current = next;
        if change < 1e-15 {
            break;
        }
    }
    current
}

/// The affine in mm: the sform where `sform_code` > 0, else the qform where `qform_code` > 0, else pixdim alone with
/// voxel (0, 0, 0) at the origin (the standard's methods 3, 2 and 1). `rank` is the number of spatial axes in use.
pub(super) fn affine(path: &Path, placement: &Placement, rank: usize) -> Result<Affine, VolumeError> {
    let spacing = spacing(path, placement, rank)?;
    let mut affine = if placement.sform_code > 0 {
        sform(path, placement)?
    } else if placement.qform_code > 0 {
        qform(path, placement, spacing)?
    } else {
        std::array::from_fn(|row| std::array::from_fn(|column| if row == column { spacing[row] } else { 0.0 }))
    };
    let unit = match placement.xyzt_units & 7 {
        1 => 1e3,
        3 => 1e-3,
        _ => 1.0,
    };
    affine.iter_mut().flatten().for_each(|value| *value *= unit);
    Ok(affine)
}

fn spacing(path: &Path, placement: &Placement, rank: usize) -> Result<[f64; 3], VolumeError> {
    let mut spacing = [1.0; 3];
    for (axis, step) in spacing.iter_mut().enumerate().take(rank) {
        let value = placement.pixdim[axis + 1];
        // Below 1e-9 and above 1e9 of any unit nothing is a voxel, and squares of such numbers leave f64's range.
        if !(1e-9..=1e9).contains(&value) {
            return Err(VolumeError::invalid(
                path,
                format!("pixdim[{}]", axis + 1),
                format!("a voxel spacing of {value}"),
                "write the true spacing in mm (above 0) into the header, or convert the volume from its source again",
            ));
        }
        *step = value;
    }
    Ok(spacing)
}

fn sform(path: &Path, placement: &Placement) -> Result<Affine, VolumeError> {
    const CURE: &str = "set the sform anew from the source, or set sform_code to 0 so that the qform counts";
    let affine = placement.srow;
    for (name, row) in ["srow_x", "srow_y", "srow_z"].into_iter().zip(&affine) {
        for (index, value) in row.iter().enumerate() {
            if !FARTHEST.contains(value) {
                let problem = format!("{value} is not a position in the patient");
                return Err(VolumeError::invalid(path, format!("{name}[{index}]"), problem, CURE));
            }
        }
    }
    let norms = column_norms(&affine);
    for (axis, norm) in ["x", "y", "z"].into_iter().zip(norms) {
        if norm < 1e-9 {
            let problem = format!("a voxel spacing of {norm} along {axis}");
            return Err(VolumeError::invalid(path, "srow_x, srow_y, srow_z", problem, CURE));
        }
    }
    let unit = std::array::from_fn(|row| std::array::from_fn(|column| affine[row][column] / norms[column]));
    if determinant(&unit).abs() < 1e-6 {
        let problem = "the affine is singular, two axes point the same way";
        return Err(VolumeError::invalid(path, "srow_x, srow_y, srow_z", problem, CURE));
    }
    Ok(affine)
}

/// The standard's method 2: a unit quaternion, pixdim and qfac (pixdim[0], where below 0 the third axis is mirrored).
fn qform(path: &Path, placement: &Placement, spacing: [f64; 3]) -> Result<Affine, VolumeError> {
    const CURE: &str = "set the qform anew from the source, or set qform_code to 0 so that pixdim alone counts";
    let [b, c, d] = placement.quatern;
    let squares = b * b + c * c + d * d;
    for (name, value) in ["quatern_b", "quatern_c", "quatern_d"].into_iter().zip(placement.quatern) {
        // Stored as f32, a unit quaternion exceeds 1 by rounding only.
        if !value.is_finite() || squares > 1.0 + 1e-5 {
            let problem = format!("{value} is not part of a unit quaternion (b^2 + c^2 + d^2 = {squares})");
            return Err(VolumeError::invalid(path, name, problem, CURE));
        }
    }
    for (name, value) in ["qoffset_x", "qoffset_y", "qoffset_z"].into_iter().zip(placement.qoffset) {
        if !FARTHEST.contains(&value) {
            let problem = format!("{value} is not a position in the patient");
            return Err(VolumeError::invalid(path, name, problem, CURE));
        }
    }
    let a = (1.0 - squares).max(0.0).sqrt();
    let s = 2.0 / (a * a + squares);
    let rotation = [
        [1.0 - s * (c * c + d * d), s * (b * c - a * d), s * (b * d + a * c)],
        [s * (b * c + a * d), 1.0 - s * (b * b + d * d), s * (c * d - a * b)],
        [s * (b * d - a * c), s * (c * d + a * b), 1.0 - s * (b * b + c * c)],
    ];
    let qfac = if placement.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let scale = [spacing[0], spacing[1], spacing[2] * qfac];
    Ok(std::array::from_fn(|row| {
        std::array::from_fn(
            |column| {
                if column < 3 { rotation[row][column] * scale[column] } else { placement.qoffset[row] }
            },
        )
    }))
}
