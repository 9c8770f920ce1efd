//! Rotation and scaling about the centre, in one resampling: images linearly, labels by their shares.
use ndarray::{Array3, Array4};
use rand_chacha::ChaCha8Rng;

use super::config::SpatialConfig;
use crate::patch::Sample;
use crate::patch::uniform::{chance, uniform};

/// What one application needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Takes a voxel's offset (z, y, x) from the patch's centre to the offset from the source's centre that it shows.
    pub matrix: [[f64; 3]; 3],
}

/// A patch more than this many times as long as thin is turned and scaled in its plane only (nnU-Net's
/// `ANISO_THRESHOLD` and "dummy 2D").
const FLAT: f64 = 3.0;

/// The thin axis (the first shortest) of a patch that is more than three times as long as thin.
pub fn thin_axis(patch: [usize; 3]) -> Option<usize> {
    let thin = (0..3).min_by_key(|&axis| patch[axis])?;
    let longest = patch.into_iter().max()?;
    (longest as f64 > FLAT * patch[thin] as f64).then_some(thin)
}

/// Parameters for a sample, where one is to be rotated or scaled.
pub fn draw(config: &SpatialConfig, patch: [usize; 3], rng: &mut ChaCha8Rng) -> Option<Params> {
    let rotate = chance(rng, config.rotation.probability);
    let scale = chance(rng, config.scale.probability);
    if !rotate && !scale {
        return None;
    }
    let thin = thin_axis(patch);
    let degrees = if thin.is_some() { config.rotation.in_plane_degrees } else { config.rotation.degrees };
    let angles = [(); 3].map(|()| if rotate { uniform(rng, degrees).to_radians() } else { 0.0 });
    let factor = if scale { uniform(rng, config.scale.factor) } else { 1.0 };
    Some(match thin {
        Some(thin) => Params::in_plane(thin, angles[2], factor),
        None => Params::turned(angles, factor),
    })
}

impl Params {
    /// Scaled by `factor`, then turned by `angles` (radians) about axis 0, then 1, then 2 (z, y, x).
    pub fn turned(angles: [f64; 3], factor: f64) -> Self {
        let [(s0, c0), (s1, c1), (s2, c2)] = angles.map(libm::sincos);
        let about_0 = [[1.0, 0.0, 0.0], [0.0, c0, -s0], [0.0, s0, c0]];
        let about_1 = [[c1, 0.0, s1], [0.0, 1.0, 0.0], [-s1, 0.0, c1]];
        let about_2 = [[c2, -s2, 0.0], [s2, c2, 0.0], [0.0, 0.0, 1.0]];
        let matrix = product(product(about_2, about_1), about_0).map(|row| row.map(|value| value * factor));
        Self { matrix }
    }

    /// Scaled by `factor` and turned by `angle` (radians, the first towards the second) in the plane of the two axes
    /// other than `thin`.
    pub fn in_plane(thin: usize, angle: f64, factor: f64) -> Self {
        let (sine, cosine) = libm::sincos(angle);
        let (first, second) = [(1, 2), (0, 2), (0, 1)][thin];
        let mut matrix = [[0.0; 3]; 3];
        matrix[thin][thin] = 1.0;
        matrix[first][first] = cosine * factor;
        matrix[first][second] = -sine * factor;
        matrix[second][first] = sine * factor;
        matrix[second][second] = cosine * factor;
        Self { matrix }
    }
}

fn product(left: [[f64; 3]; 3], right: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let term = |row: usize, column: usize| (0..3).map(|k| left[row][k] * right[k][column]).sum();
    std::array::from_fn(|row| std::array::from_fn(|column| term(row, column)))
}

/// Resamples `sample` into `patch` voxels (z, y, x) round its centre.
///
/// As batchgeneratorsv2 0.3.6 does: images linearly, zeros outside; labels by the largest interpolated share of a
/// label, where the nearest voxel's label settles a tie if it is among the tied, else the smallest; background outside.
pub fn apply(params: &Params, sample: &Sample, patch: [usize; 3]) -> Sample {
    let channels = sample.image.dim().0;
    let size: [usize; 3] = sample.label.dim().into();
    let (source_image, source_label) = (sample.image.as_standard_layout(), sample.label.as_standard_layout());
    let (Some(voxels), Some(labels)) = (source_image.as_slice(), source_label.as_slice()) else {
        unreachable!("a standard layout is one slice");
    };
    let (plane, row) = (size[1] * size[2], size[2]);
    let volume = size[0] * plane;
    let count = patch.iter().product::<usize>();
    let mut image = vec![0.0_f32; channels * count];
    let mut label = vec![0_u16; count];
    let centre: [f64; 3] = std::array::from_fn(|axis| (size[axis] as f64 - 1.0) / 2.0);
    let offset = |index: usize, axis: usize| index as f64 - (patch[axis] as f64 - 1.0) / 2.0;
    let m = &params.matrix;
    let mut voxel = 0;
    for z in 0..patch[0] {
        for y in 0..patch[1] {
            let (from_z, from_y) = (offset(z, 0), offset(y, 1));
            let start: [f64; 3] = std::array::from_fn(|axis| centre[axis] + m[axis][0] * from_z + m[axis][1] * from_y);
            for x in 0..patch[2] {
                let from_x = offset(x, 2);
                let place: [f64; 3] = std::array::from_fn(|axis| start[axis] + m[axis][2] * from_x);
                let corner = place.map(floor);
                let [fz, fy, fx]: [f32; 3] = std::array::from_fn(|axis| (place[axis] - corner[axis] as f64) as f32);
                let weights = weights(fz, fy, fx);
                if (0..3).all(|axis| corner[axis] >= 0 && corner[axis] + 1 < size[axis] as i64) {
                    let base = corner[0] as usize * plane + corner[1] as usize * row + corner[2] as usize;
                    let at = [
                        base,
                        base + 1,
                        base + row,
                        base + row + 1,
                        base + plane,
                        base + plane + 1,
                        base + plane + row,
                        base + plane + row + 1,
                    ];
                    for channel in 0..channels {
                        let source = &voxels[channel * volume..(channel + 1) * volume];
                        let mut sum = 0.0;
                        for k in 0..8 {
                            sum += source[at[k]] * weights[k];
                        }
                        image[channel * count + voxel] = sum;
                    }
                    label[voxel] = winner(at.map(|index| labels[index]), &weights, place, corner);
                } else if (0..3).all(|axis| corner[axis] >= -1 && corner[axis] < size[axis] as i64) {
                    let at: [Option<usize>; 8] = std::array::from_fn(|k| inside(corner, k, size));
                    for channel in 0..channels {
                        let mut sum = 0.0;
                        for k in 0..8 {
                            sum += at[k].map_or(0.0, |index| voxels[channel * volume + index] * weights[k]);
                        }
                        image[channel * count + voxel] = sum;
                    }
                    let around = at.map(|index| index.map_or(0, |index| labels[index]));
                    label[voxel] = winner(around, &weights, place, corner);
                }
                voxel += 1;
            }
        }
    }
    let shape = (channels, patch[0], patch[1], patch[2]);
    Sample {
        image: Array4::from_shape_vec(shape, image).unwrap_or_else(|_| unreachable!("as many values as the shape has")),
        label: Array3::from_shape_vec(patch, label).unwrap_or_else(|_| unreachable!("as many values as the shape has")),
    }
}

/// `floor` without a call into the platform's mathematics; places are far below 2^63.
fn floor(value: f64) -> i64 {
    let cut = value as i64;
    cut - i64::from((cut as f64) > value)
}

/// Corner `k` of the cell (bit 2: the next z, bit 1: the next y, bit 0: the next x) as an index, if it is in the volume.
fn inside(corner: [i64; 3], k: usize, size: [usize; 3]) -> Option<usize> {
    let at = [corner[0] + (k >> 2) as i64, corner[1] + (k >> 1 & 1) as i64, corner[2] + (k & 1) as i64];
    let within = (0..3).all(|axis| at[axis] >= 0 && at[axis] < size[axis] as i64);
    within.then(|| (at[0] as usize * size[1] + at[1] as usize) * size[2] + at[2] as usize)
}

fn weights(fz: f32, fy: f32, fx: f32) -> [f32; 8] {
    let (gz, gy, gx) = (1.0 - fz, 1.0 - fy, 1.0 - fx);
    [gx * gy * gz, fx * gy * gz, gx * fy * gz, fx * fy * gz, gx * gy * fz, fx * gy * fz, gx * fy * fz, fx * fy * fz]
}

/// The label of the largest share among the corners of a cell.
fn winner(around: [u16; 8], weights: &[f32; 8], place: [f64; 3], corner: [i64; 3]) -> u16 {
    if around.iter().all(|&label| label == around[0]) {
        return around[0];
    }
    // shares in thousandths as f16: batchgeneratorsv2 compares them so, which makes near ties ties
    let share = |label: u16| {
        let sum: f32 = (0..8).filter(|&k| around[k] == label).map(|k| 1000.0 * weights[k]).sum();
        half::f16::from_f32(sum)
    };
    let nearest = (0..3).fold(0, |k, axis| {
        let up = (place[axis] as f32).round_ties_even() > corner[axis] as f32;
        k << 1 | usize::from(up)
    });
    let (mut best, mut most) = (around[nearest], share(around[nearest]));
    let mut nearest_holds = true;
    for label in around {
        let share = share(label);
        if share > most || (share == most && !nearest_holds && label < best) {
            (best, most, nearest_holds) = (label, share, false);
        }
    }
    best
}
