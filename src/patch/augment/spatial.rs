//! Rotation and scaling about the centre: what is drawn; [`apply`] does both in one resampling.
use rand_chacha::ChaCha8Rng;

use super::config::SpatialConfig;
pub use super::resample::apply;
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
