//! Back from the plan's grid to the input's.
use ndarray::{Array3, ArrayView4, CowArray, Ix3, Zip, s};

use super::{Origin, Preparation};
use crate::volume::resample;

/// Brings class scores `[class, z, y, x]` on the prepared grid back to a label map on the RAS grid before the crop:
/// scores resampled linearly class by class (never all classes at full size at once), largest wins and the lower class
/// where two are equal, zeros outside the crop.
///
/// Holds two arrays of the crop's size besides the label map.
pub fn restore_labels(scores: ArrayView4<'_, f32>, origin: &Origin, _preparation: &Preparation) -> Array3<u16> {
    let [z, y, x] = origin.size;
    let mut labels = Array3::zeros((z, y, x));
    let [z, y, x] = origin.crop_start;
    let [depth, height, width] = origin.crop_size;
    let mut inside = labels.slice_mut(s![z..z + depth, y..y + height, x..x + width]);
    let mut best: Option<Array3<f32>> = None;
    for (class, scores) in (0..=u16::MAX).zip(scores.outer_iter()) {
        let (depth, height, width) = scores.dim();
        let full: CowArray<'_, f32, Ix3> = if [depth, height, width] == origin.crop_size {
            scores.into()
        } else {
            resample::linear(scores, origin.crop_size).into()
        };
        match &mut best {
            None => best = Some(full.into_owned()),
            Some(best) => Zip::from(&mut inside).and(best).and(&full).for_each(|label, best, &score| {
                if score > *best {
                    *best = score;
                    *label = class;
                }
            }),
        }
    }
    labels
}
