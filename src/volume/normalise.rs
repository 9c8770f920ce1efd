//! Intensity normalisation, and the region of an image that holds anything.
use std::convert::Infallible;

use ndarray::{ArrayView3, ArrayViewMut3};
use serde::{Deserialize, Serialize};

use super::mask::Mask;

/// The least deviation that is divided by.
const DEVIATION_FLOOR: f64 = 1e-8;

/// How one channel is normalised; part of the plan, so that prediction does the same as training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Normalisation {
    /// CT: clip to the dataset's foreground percentiles 0.5 and 99.5 (HU), subtract its mean, divide by its deviation.
    Ct {
        /// Values below become this, HU.
        low: f64,
        /// Values above become this, HU.
        high: f64,
        /// Of the dataset's foreground, HU.
        mean: f64,
        /// Of the dataset's foreground, HU.
        deviation: f64,
    },
    /// Mean 0 and deviation 1 per image; on voxels inside `mask` alone where `nonzero`, the rest stays 0.
    ZScore {
        /// Whether voxels outside the region that is not 0 neither count nor change.
        nonzero: bool,
    },
}

impl Normalisation {
    /// Normalises in place. `mask` marks the nonzero region (after filling holes) and counts for
    /// `ZScore { nonzero: true }` alone; without one, voxels other than 0 are taken.
    ///
    /// # Panics
    /// Where `mask` is smaller than `data`.
    pub fn apply(&self, mut data: ArrayViewMut3<'_, f32>, mask: Option<&Mask>) {
        if !self.is_masked() {
            let Ok(intensity) = self.of_image(|take| {
                data.iter().for_each(|value| take(*value));
                Ok::<_, Infallible>(())
            });
            // Each voxel alone, so that threads change nothing.
            data.par_map_inplace(|value| *value = intensity.of(*value));
            return;
        }
        let inside = |(z, y, x): (usize, usize, usize), value: f32| match mask {
            Some(mask) => mask.contains(z, y, x),
            None => value != 0.0,
        };
        let Ok(intensity) = self.of_image(|take| {
            data.indexed_iter().filter(|(place, value)| inside(*place, **value)).for_each(|(_, value)| take(*value));
            Ok::<_, Infallible>(())
        });
        data.indexed_iter_mut().for_each(|(place, value)| {
            *value = if inside(place, *value) { intensity.of(*value) } else { 0.0 };
        });
    }

    /// Whether voxels outside the nonzero region neither count nor change.
    pub fn is_masked(&self) -> bool {
        matches!(self, Self::ZScore { nonzero: true })
    }

    /// What is done to every voxel of an image. `visit` hands over all values that count, in the order of voxels (z, y, x,
    /// the last fastest); it is asked twice where the image's own mean and deviation are needed.
    ///
    /// Sums run in f64 in the order of voxels, so that the result does not depend on threads. The deviation is that of
    /// the population (divided by n), at least 1e-8.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn of_image<E>(&self, visit: impl FnMut(&mut dyn FnMut(f32)) -> Result<(), E>) -> Result<Intensity, E> {
        match *self {
            Self::Ct { low, high, mean, deviation } => {
                Ok(Intensity::Clipped { low, high, mean, scale: deviation.max(DEVIATION_FLOOR) })
            }
            Self::ZScore { .. } => {
                let (mean, deviation) = moments(visit)?;
                Ok(Intensity::Scaled { mean, deviation })
            }
        }
    }
}

/// What is done to every voxel of a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Intensity {
    /// Nothing.
    Kept,
    /// CT: `(clip(x) - mean) / scale`.
    Clipped {
        /// Values below become this.
        low: f64,
        /// Values above become this.
        high: f64,
        /// Taken away.
        mean: f64,
        /// Divided by; never 0.
        scale: f64,
    },
    /// Any other: `(x - mean) / deviation`.
    Scaled {
        /// Of the image; taken away.
        mean: f64,
        /// Of the image; divided by; never 0.
        deviation: f64,
    },
}

impl Intensity {
    /// The normalised value of `value`.
    pub fn of(self, value: f32) -> f32 {
        match self {
            Self::Kept => value,
            // max then min, not clamp: it must not panic where low is above high.
            Self::Clipped { low, high, mean, scale } => ((f64::from(value).max(low).min(high) - mean) / scale) as f32,
            Self::Scaled { mean, deviation } => ((f64::from(value) - mean) / deviation) as f32,
        }
    }
}

/// Mean and deviation (at least [`DEVIATION_FLOOR`]); mean 0 where there is nothing.
fn moments<E>(mut visit: impl FnMut(&mut dyn FnMut(f32)) -> Result<(), E>) -> Result<(f64, f64), E> {
    let (mut sum, mut count) = (0.0, 0u64);
    visit(&mut |value| {
        sum += f64::from(value);
        count += 1;
    })?;
    let count = count.max(1) as f64;
    let mean = sum / count;
    let mut squares = 0.0;
    visit(&mut |value| squares += (f64::from(value) - mean).powi(2))?;
    let deviation = (squares / count).sqrt();
    // Written so that NaN stays NaN.
    Ok((mean, if deviation < DEVIATION_FLOOR { DEVIATION_FLOOR } else { deviation }))
}

/// Where any channel, `[z, y, x]`, is not 0, holes filled: what the border cannot reach through zeros by steps across faces
/// counts as inside (`scipy.ndimage.binary_fill_holes`). All have the size of the first.
pub fn nonzero_mask(channels: &[ArrayView3<'_, f32>]) -> Mask {
    let mut mask = Mask::new(channels.first().map_or([0; 3], |channel| channel.dim().into()));
    for channel in channels {
        for ((z, y, x), _) in channel.indexed_iter().filter(|(_, value)| **value != 0.0) {
            mask.insert(z, y, x);
        }
    }
    mask.fill_holes();
    mask
}

/// The smallest box that holds every true voxel: start and size in the order z, y, x; None where there is none.
pub fn bounding_box(mask: ArrayView3<'_, bool>) -> Option<([usize; 3], [usize; 3])> {
    let mut low = [usize::MAX; 3];
    let mut high = [0; 3];
    for (z, plane) in mask.outer_iter().enumerate() {
        for (y, row) in plane.outer_iter().enumerate() {
            let Some(first) = row.iter().position(|&inside| inside) else { continue };
            let last = row.iter().rposition(|&inside| inside).unwrap_or(first);
            for (axis, (start, end)) in [(z, z), (y, y), (first, last)].into_iter().enumerate() {
                low[axis] = low[axis].min(start);
                high[axis] = high[axis].max(end);
            }
        }
    }
    (low[0] != usize::MAX).then(|| (low, std::array::from_fn(|axis| high[axis] - low[axis] + 1)))
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    /// `(x*7919 + y*104729 + z*1299709) % 1000` on 3 x 4 x 5 (z, y, x), as in the recipes below.
    fn data() -> Array3<f32> {
        Array3::from_shape_fn((3, 4, 5), |(z, y, x)| ((x * 7919 + y * 104_729 + z * 1_299_709) % 1000) as f32)
    }

    fn assert_close(found: &Array3<f32>, expected: &[f64]) {
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{index}: {found} is not {expected}");
        }
    }

    #[test]
    fn z_score_is_numpys() {
        let mut data = data();
        Normalisation::ZScore { nonzero: false }.apply(data.view_mut(), None);
        // a = a.astype(float); (a - a.mean()) / a.std()
        assert_close(&data, &[-1.714_009_365, 1.497_355_786, 1.214_308_368, 0.931_260_95]);
    }

    #[test]
    fn z_score_inside_a_mask_leaves_the_rest_zero() {
        let mut masked = data();
        let mask = masked.map(|value| value % 3.0 != 0.0);
        Normalisation::ZScore { nonzero: true }.apply(masked.view_mut(), Some(&Mask::from_array(mask.view())));
        // m = a % 3 != 0; b = a[m]; (a - b.mean()) / b.std() where m, else 0
        assert_close(&masked, &[0.0, 1.475_304_244, 1.195_691_155, 0.916_078_067, 0.636_464_978, 0.0]);
    }

    #[test]
    fn ct_clips_then_scales() {
        let mut data = data();
        Normalisation::Ct { low: 200.0, high: 800.0, mean: 400.0, deviation: 150.0 }.apply(data.view_mut(), None);
        // (np.clip(a, 200, 800) - 400) / 150
        assert_close(&data, &[-1.333_333_333, 2.666_666_667, 2.666_666_667, 2.38, 1.84, 2.193_333_333]);
    }

    #[test]
    fn constant_and_empty_images_stay_finite() {
        let mut constant = Array3::from_elem((2, 2, 2), 5.0f32);
        Normalisation::ZScore { nonzero: false }.apply(constant.view_mut(), None);
        assert!(constant.iter().all(|value| *value == 0.0));
        let mut zeros = Array3::<f32>::zeros((2, 2, 2));
        Normalisation::ZScore { nonzero: true }.apply(zeros.view_mut(), None);
        assert!(zeros.iter().all(|value| *value == 0.0));
    }

    #[test]
    fn holes_are_filled_as_scipy_does() {
        let pattern = |(z, y, x): (usize, usize, usize)| (z * 5 + y * 11 + x * 7 + z * y * 3 + y * x * 2) % 9 < 6;
        let image = Array3::from_shape_fn((12, 13, 14), |voxel| if pattern(voxel) { 1.0f32 } else { 0.0 });
        let mask = nonzero_mask(&[image.view()]).to_array();
        // s = (z*5 + y*11 + x*7 + z*y*3 + y*x*2) % 9 < 6; f = scipy.ndimage.binary_fill_holes(s)
        // s.sum(), f.sum(), (np.flatnonzero(f) % 1009).sum()
        assert_eq!(image.iter().filter(|value| **value != 0.0).count(), 1482);
        assert_eq!(mask.iter().filter(|inside| **inside).count(), 1567);
        assert_eq!(
            mask.iter().enumerate().filter(|(_, inside)| **inside).map(|(i, _)| i % 1009).sum::<usize>(),
            726_221
        );
    }

    #[test]
    fn mask_takes_every_channel_and_thin_volumes() {
        let mut channels = [Array3::<f32>::zeros((1, 3, 5)), Array3::zeros((1, 3, 5))];
        channels[0][[0, 1, 1]] = 2.0;
        channels[1][[0, 1, 3]] = -1.0;
        let mask = nonzero_mask(&channels.each_ref().map(|channel| channel.view())).to_array();
        assert_eq!(mask.iter().filter(|inside| **inside).count(), 2);
        assert_eq!(bounding_box(mask.view()), Some(([0, 1, 1], [1, 1, 3])));
        assert_eq!(bounding_box(Array3::from_elem((2, 2, 2), false).view()), None);
    }
}
