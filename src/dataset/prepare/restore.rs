//! Back from the plan's grid to the input's.
use std::io;

use ndarray::{Array2, Axis, Zip};

use crate::volume::planes::{Planes, Storage};
use crate::volume::{PIECE_BYTES, VolumeError, resample};

/// How a label map is made from the scores of regions, which overlap.
#[derive(Clone, Copy, Debug)]
pub struct Paint<'a> {
    /// The label value of each region, in the order of painting: later ones go over earlier ones.
    pub values: &'a [u16],
    /// A voxel is in a region where its score is above this.
    pub found_above: f32,
}

/// Brings class scores `[class, z, y, x]` on the prepared grid back to a label map `[1, z, y, x]` on the grid of the crop,
/// `size` voxels z, y, x: scores resampled linearly class by class (never all classes at full size at once), largest wins
/// and the lower class where two are equal; or with `paint` every region goes where its score is high enough. With it
/// comes the largest label.
///
/// `each` is shown every class's scores on that grid: the class, and the volume and channel that they are in.
///
/// # Errors
/// Those of the storage and of `each`.
pub fn restore(
    scores: &Planes<f32>,
    size: [usize; 3],
    paint: Option<Paint<'_>>,
    storage: &Storage,
    each: impl Fn(usize, &Planes<f32>, usize) -> Result<(), VolumeError>,
) -> Result<(Planes<u16>, u16), VolumeError> {
    let failed = |error| VolumeError::Io { path: storage.folder().to_owned(), source: error };
    let [z, y, x] = size;
    let mut labels = storage.zeros::<u16>("label map", [1, z, y, x], 0).map_err(failed)?;
    // Regions are compared with a number, not with each other.
    let mut best = match paint {
        None => Some(storage.zeros::<f32>("highest scores", [1, z, y, x], 0).map_err(failed)?),
        Some(_) => None,
    };
    let mut largest = 0;
    for (class, number) in (0..=u16::MAX).zip(0..scores.shape()[0]) {
        let restored = resample::stored::linear(scores, number, size, storage).map_err(failed)?;
        let (full, channel) = restored.as_ref().map_or((scores, number), |restored| (restored, 0));
        each(number, full, channel)?;
        let (label, found_above) = match paint {
            None => (class, 0.0),
            Some(Paint { values, found_above }) => (values.get(number).copied().unwrap_or(0), found_above),
        };
        if raise(label, found_above, full, channel, best.as_mut(), &mut labels).map_err(failed)? {
            largest = largest.max(label);
        }
    }
    Ok((labels, largest))
}

/// Where a class's scores are above the highest of the classes before it, it takes their place; the first class's are the
/// first highest. Without `best`, where they are above a number. Whether that was anywhere.
fn raise(
    label: u16,
    found_above: f32,
    scores: &Planes<f32>,
    channel: usize,
    mut best: Option<&mut Planes<f32>>,
    labels: &mut Planes<u16>,
) -> io::Result<bool> {
    let [depth, height, width] = scores.size();
    let at_once = (PIECE_BYTES / (4 * width).max(1)).clamp(1, height.max(1));
    let mut anywhere = false;
    for z in 0..depth {
        for first in (0..height).step_by(at_once) {
            let rows = first..(first + at_once).min(height);
            let scores = scores.read_box(channel, [z, first, 0], [1, rows.len(), width])?;
            let mut raised = Array2::from_elem((rows.len(), width), false);
            match &mut best {
                Some(best) if label == 0 => {
                    best.write_box(0, [z, first, 0], scores.view())?;
                    continue;
                }
                Some(best) => {
                    let scores = scores.index_axis(Axis(0), 0);
                    best.update_rows(0, z, rows.clone(), |mut best| {
                        Zip::from(&mut raised).and(&mut best).and(&scores).for_each(|raised, best, &score| {
                            *raised = score > *best;
                            if *raised {
                                *best = score;
                            }
                        });
                    })?;
                }
                None => {
                    let scores = scores.index_axis(Axis(0), 0);
                    raised.zip_mut_with(&scores, |raised, &score| *raised = score > found_above);
                }
            }
            if raised.iter().any(|raised| *raised) {
                anywhere = true;
                labels.update_rows(0, z, rows, |mut labels| {
                    labels.zip_mut_with(&raised, |found, &raised| {
                        if raised {
                            *found = label;
                        }
                    });
                })?;
            }
        }
    }
    Ok(anywhere)
}
