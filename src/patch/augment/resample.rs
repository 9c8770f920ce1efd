//! Resampling of a rotated and scaled patch: images linearly, labels by their shares.
use half::f16;
use ndarray::{Array3, Array4};

use super::spatial::Params;
use crate::patch::Sample;

/// Resamples `sample` into `patch` voxels (z, y, x) round its centre.
///
/// As batchgeneratorsv2 0.3.6 does: images linearly, zeros outside; labels by the largest interpolated share of a
/// label, where the nearest voxel's label settles a tie if it is among the tied, else the smallest; background outside.
pub fn apply(params: &Params, sample: &Sample, patch: [usize; 3]) -> Sample {
    let channels = sample.image.dim().0;
    let size: [usize; 3] = sample.label.dim().into();
    let (source_image, source_label) = (sample.image.as_standard_layout(), sample.label.as_standard_layout());
    let voxels = source_image.as_slice().unwrap_or_else(|| unreachable!("a standard layout is one slice"));
    let labels = source_label.as_slice().unwrap_or_else(|| unreachable!("a standard layout is one slice"));
    let volume = labels.len();
    let count = patch.iter().product();
    let mut image = vec![0.0_f32; channels * count];
    let mut label = vec![0_u16; count];
    let centre = |size: usize| (size as f64 - 1.0) / 2.0;
    let (source_centre, patch_centre, matrix) = (size.map(centre), patch.map(centre), &params.matrix);
    for (row, targets) in label.chunks_exact_mut(patch[2].max(1)).enumerate() {
        let z = (row / patch[1]) as f64 - patch_centre[0];
        let y = (row % patch[1]) as f64 - patch_centre[1];
        let start: [f64; 3] =
            std::array::from_fn(|axis| source_centre[axis] + matrix[axis][0] * z + matrix[axis][1] * y);
        for (index, target) in targets.iter_mut().enumerate() {
            let x = index as f64 - patch_centre[2];
            let cell = Cell::at(std::array::from_fn(|axis| start[axis] + matrix[axis][2] * x));
            let out = row * patch[2] + index;
            if let Some(corners) = cell.inside(size) {
                for channel in 0..channels {
                    let source = &voxels[channel * volume..(channel + 1) * volume];
                    image[channel * count + out] = (0..8).map(|k| source[corners[k]] * cell.weights[k]).sum();
                }
                *target = cell.label(corners.map(|corner| labels[corner]));
            } else if let Some(corners) = cell.partly_inside(size) {
                for channel in 0..channels {
                    let source = &voxels[channel * volume..(channel + 1) * volume];
                    let term = |k: usize| corners[k].map_or(0.0, |corner| source[corner] * cell.weights[k]);
                    image[channel * count + out] = (0..8).map(term).sum();
                }
                *target = cell.label(corners.map(|corner| corner.map_or(0, |corner| labels[corner])));
            }
        }
    }
    let filled = "as many values as voxels";
    Sample {
        image: Array4::from_shape_vec((channels, patch[0], patch[1], patch[2]), image)
            .unwrap_or_else(|_| unreachable!("{filled}")),
        label: Array3::from_shape_vec(patch, label).unwrap_or_else(|_| unreachable!("{filled}")),
    }
}

/// Eight neighbouring voxels and a place among them. Corner k is the next z if bit 2 of k is set, the next y for bit 1,
/// the next x for bit 0.
struct Cell {
    /// The corner before the place, z, y, x.
    corner: [i64; 3],
    weights: [f32; 8],
    /// The corner nearest to the place (halves to the even voxel).
    nearest: usize,
}

impl Cell {
    fn at(place: [f64; 3]) -> Self {
        let corner = place.map(floor);
        let [fz, fy, fx]: [f32; 3] = std::array::from_fn(|axis| (place[axis] - corner[axis] as f64) as f32);
        let (gz, gy, gx) = (1.0 - fz, 1.0 - fy, 1.0 - fx);
        let plane = [gx * gy, fx * gy, gx * fy, fx * fy];
        let weights = std::array::from_fn(|k| plane[k & 3] * if k < 4 { gz } else { fz });
        let up = |axis: usize, share: f32| usize::from(share > 0.5 || (share == 0.5 && corner[axis] & 1 == 1));
        Self { corner, weights, nearest: up(0, fz) << 2 | up(1, fy) << 1 | up(2, fx) }
    }

    /// The corners as indices into a volume of `size`, if all are in it.
    fn inside(&self, size: [usize; 3]) -> Option<[usize; 8]> {
        let all = (0..3).all(|axis| self.corner[axis] >= 0 && self.corner[axis] + 1 < size[axis] as i64);
        all.then(|| {
            let (row, plane) = (size[2], size[1] * size[2]);
            let [z, y, x] = self.corner.map(|first| first as usize);
            let first = z * plane + y * row + x;
            std::array::from_fn(|k| first + (k >> 2) * plane + (k >> 1 & 1) * row + (k & 1))
        })
    }

    /// The corners that are in a volume of `size` as indices into it, if any is.
    fn partly_inside(&self, size: [usize; 3]) -> Option<[Option<usize>; 8]> {
        let some = (0..3).all(|axis| self.corner[axis] >= -1 && self.corner[axis] < size[axis] as i64);
        some.then(|| {
            std::array::from_fn(|k| {
                let up = [k >> 2, k >> 1 & 1, k & 1];
                let at: [i64; 3] = std::array::from_fn(|axis| self.corner[axis] + up[axis] as i64);
                let within = (0..3).all(|axis| at[axis] >= 0 && at[axis] < size[axis] as i64);
                within.then(|| (at[0] as usize * size[1] + at[1] as usize) * size[2] + at[2] as usize)
            })
        })
    }

    /// The label of the largest share, of the labels at the corners.
    fn label(&self, corners: [u16; 8]) -> u16 {
        if corners.iter().all(|&label| label == corners[0]) {
            return corners[0];
        }
        // shares in thousandths as f16: batchgeneratorsv2 compares them so, which makes near ties ties
        let share = |label: u16| {
            let parts = (0..8).filter(|&k| corners[k] == label).map(|k| 1000.0 * self.weights[k]);
            f16::from_f32(parts.sum())
        };
        let nearest = corners[self.nearest];
        let (mut best, mut most) = (nearest, share(nearest));
        for label in corners {
            let share = share(label);
            if share > most || (share == most && best != nearest && label < best) {
                (best, most) = (label, share);
            }
        }
        best
    }
}

/// `floor` without a call into the platform's mathematics; places are far below 2^63.
fn floor(value: f64) -> i64 {
    let cut = value as i64;
    cut - i64::from((cut as f64) > value)
}
