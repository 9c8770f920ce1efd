//! One case: image, scores and label map, each where there is room for it.
use std::io;
use std::path::PathBuf;

use ndarray::{Array2, Array4, Axis, Zip};

use super::memory::Needs;
use super::postprocess::Rule;
use super::{PredictError, Predictor, PredictorSettings, warnings, window};
use crate::dataset::prepare::{self, Origin, Paint, StoredImage};
use crate::volume::planes::{Planes, Storage};
use crate::volume::{self, Framed};

/// The label map of a case and what was noticed on the way.
pub struct Found {
    /// On the crop's grid.
    labels: Planes<u16>,
    /// The largest label.
    pub largest: u16,
    pub origin: Origin,
    /// What of the image is unusual; see [`warnings::of_image`].
    pub warnings: Vec<String>,
    storage: Storage,
}

impl Found {
    /// Takes away what `rule` does not keep.
    ///
    /// # Errors
    /// Those of scratch files.
    pub fn keep(&mut self, rule: &Rule) -> io::Result<()> {
        rule.apply(&mut self.labels, &self.storage)
    }

    /// On the RAS grid of the input: background outside the crop.
    pub fn labels(&self) -> Framed<'_, u16> {
        framed(&self.labels, 0, &self.origin, 0)
    }
}

fn framed<'a, T>(planes: &'a Planes<T>, channel: usize, origin: &Origin, outside: T) -> Framed<'a, T> {
    Framed { planes, channel, start: origin.crop_start, size: origin.size, outside }
}

/// Predicts a case; `probabilities` are the files for those of each class, in their order.
pub fn predict(
    predictor: &Predictor<'_>,
    files: &[PathBuf],
    probabilities: Option<&[PathBuf]>,
) -> Result<Found, PredictError> {
    let expected = prepare::expected(files, predictor.preparation)?;
    let PredictorSettings { patch, classes, .. } = predictor.settings;
    let needs = Needs::of(predictor.preparation, patch, classes, &expected, probabilities.is_some());
    let storage = predictor.memory.storage(predictor, &needs);
    let image = prepare::stored(files, predictor.preparation, &expected, &storage, needs.later(&storage))?;
    let failed = || predictor.memory.failed();
    let warnings = warnings::of_image(&predictor.preparation.normalisation, &image).map_err(failed())?;
    let resampled = image.size != image.origin.crop_size;
    let sums = window::sums_shape(classes, patch, image.size);
    let sums = storage.zeros::<f32>("sums of scores", sums, 0).map_err(failed())?;
    if !resampled && probabilities.is_none() {
        return labels(predictor, image, sums, &storage, warnings);
    }
    let scores = scores(predictor, &image, sums, &storage, probabilities.is_some())?;
    let origin = image.origin;
    let written =
        |class: usize, scores: &Planes<f32>, channel: usize| match probabilities.and_then(|all| all.get(class)) {
            Some(path) => {
                let outside = if class == 0 && predictor.settings.paint.is_none() { 1.0 } else { 0.0 };
                volume::write_image_boxes(path, &framed(scores, channel, &origin, outside), &origin.native)
            }
            None => Ok(()),
        };
    // Probabilities of half and scores of 0 are the same.
    let found_above = if probabilities.is_some() { 0.5 } else { 0.0 };
    let paint = predictor.settings.paint.as_deref().map(|values| Paint { values, found_above });
    let (labels, largest) = prepare::restore(&scores, origin.crop_size, paint, &storage, written)?;
    drop(scores);
    Ok(Found { labels, largest, origin, warnings, storage })
}

/// Labels straight from the scores of each plane.
fn labels(
    predictor: &Predictor<'_>,
    image: StoredImage,
    sums: Planes<f32>,
    storage: &Storage,
    warnings: Vec<String>,
) -> Result<Found, PredictError> {
    let failed = || predictor.memory.failed();
    let [z, y, x] = image.size;
    let mut labels = storage.zeros::<u16>("label map", [1, z, y, x], 0).map_err(failed())?;
    let mut largest = 0;
    window::slide(predictor, &image, sums, |[z, y], scores| {
        let (_, _, rows, width) = scores.dim();
        let mut found = Array2::<u16>::zeros((rows, width));
        if let Some(values) = &predictor.settings.paint {
            for (&value, scores) in values.iter().zip(scores.outer_iter()) {
                Zip::from(&mut found).and(scores.index_axis(Axis(0), 0)).for_each(|label, &score| {
                    if score > 0.0 {
                        *label = value;
                    }
                });
            }
            largest = found.iter().copied().fold(largest, u16::max);
            return labels.write_box(0, [z, y, 0], found.view().insert_axis(Axis(0))).map_err(failed());
        }
        let mut best = scores.index_axis(Axis(0), 0).index_axis_move(Axis(0), 0).to_owned();
        for (class, scores) in (0..=u16::MAX).zip(scores.outer_iter()).skip(1) {
            Zip::from(&mut found).and(&mut best).and(scores.index_axis(Axis(0), 0)).for_each(|label, best, &score| {
                if score > *best {
                    *best = score;
                    *label = class;
                }
            });
        }
        largest = found.iter().copied().fold(largest, u16::max);
        labels.write_box(0, [z, y, 0], found.view().insert_axis(Axis(0))).map_err(failed())
    })?;
    Ok(Found { labels, largest, origin: image.origin, warnings, storage: storage.clone() })
}

/// Scores `[class, z, y, x]` on the prepared grid; probabilities where `softmaxed`.
fn scores(
    predictor: &Predictor<'_>,
    image: &StoredImage,
    sums: Planes<f32>,
    storage: &Storage,
    softmaxed: bool,
) -> Result<Planes<f32>, PredictError> {
    let [z, y, x] = image.size;
    let failed = || predictor.memory.failed();
    let mut all = storage.zeros("scores", [predictor.settings.classes, z, y, x], 0).map_err(failed())?;
    window::slide(predictor, image, sums, |[z, y], mut scores| {
        match &predictor.settings.paint {
            _ if !softmaxed => {}
            None => softmax(&mut scores),
            Some(_) => scores.mapv_inplace(|score| 1.0 / (1.0 + libm::expf(-score))),
        }
        for (class, scores) in scores.outer_iter().enumerate() {
            all.write_box(class, [z, y, 0], scores).map_err(failed())?;
        }
        Ok(())
    })?;
    Ok(all)
}

fn softmax(scores: &mut Array4<f32>) {
    for mut voxel in scores.lanes_mut(Axis(0)) {
        let largest = voxel.fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        voxel.mapv_inplace(|score| libm::expf(score - largest));
        let sum = voxel.iter().fold(0.0f32, |sum, score| sum + score);
        voxel.mapv_inplace(|score| score / sum);
    }
}
