//! Back from the plan's grid to the input's.
use std::io;

use ndarray::{Array2, Axis, Zip};

use crate::volume::planes::{Planes, Storage};
use crate::volume::{PIECE_BYTES, VolumeError, resample};

/// Brings class scores `[class, z, y, x]` on the prepared grid back to a label map `[1, z, y, x]` on the grid of the crop,
/// `size` voxels z, y, x: scores resampled linearly class by class (never all classes at full size at once), largest wins
/// and the lower class where two are equal. With it comes the largest label.
///
/// `each` is shown every class's scores on that grid: the class, and the volume and channel that they are in.
///
/// # Errors
/// Those of the storage and of `each`.
pub fn restore(
    scores: &Planes<f32>,
    size: [usize; 3],
    storage: &Storage,
    each: impl Fn(usize, &Planes<f32>, usize) -> Result<(), VolumeError>,
) -> Result<(Planes<u16>, u16), VolumeError> {
    let failed = |error| VolumeError::Io { path: storage.folder().to_owned(), source: error };
    let [z, y, x] = size;
    let mut labels = storage.zeros::<u16>("label map", [1, z, y, x], 0).map_err(failed)?;
    let mut best = storage.zeros::<f32>("highest scores", [1, z, y, x], 0).map_err(failed)?;
    let mut largest = 0;
    for (class, number) in (0..=u16::MAX).zip(0..scores.shape()[0]) {
        let restored = resample::stored::linear(scores, number, size, storage).map_err(failed)?;
        let (full, channel) = restored.as_ref().map_or((scores, number), |restored| (restored, 0));
        each(number, full, channel)?;
        if raise(class, full, channel, &mut best, &mut labels).map_err(failed)? {
            largest = class;
        }
    }
    Ok((labels, largest))
}

/// Where a class's scores are above the highest of the classes before it, it takes their place; the first class's are the
/// first highest. Whether that was anywhere.
fn raise(
    class: u16,
    scores: &Planes<f32>,
    channel: usize,
    best: &mut Planes<f32>,
    labels: &mut Planes<u16>,
) -> io::Result<bool> {
    let [depth, height, width] = scores.size();
    let at_once = (PIECE_BYTES / (4 * width).max(1)).clamp(1, height.max(1));
    let mut anywhere = false;
    for z in 0..depth {
        for first in (0..height).step_by(at_once) {
            let rows = first..(first + at_once).min(height);
            let scores = scores.read_box(channel, [z, first, 0], [1, rows.len(), width])?;
            if class == 0 {
                best.write_box(0, [z, first, 0], scores.view())?;
                continue;
            }
            let scores = scores.index_axis(Axis(0), 0);
            let mut raised = Array2::from_elem((rows.len(), width), false);
            best.update_rows(0, z, rows.clone(), |mut best| {
                Zip::from(&mut raised).and(&mut best).and(&scores).for_each(|raised, best, &score| {
                    *raised = score > *best;
                    if *raised {
                        *best = score;
                    }
                });
            })?;
            if raised.iter().any(|raised| *raised) {
                anywhere = true;
                labels.update_rows(0, z, rows, |mut labels| {
                    labels.zip_mut_with(&raised, |label, &raised| {
                        if raised {
                            *label = class;
                        }
                    });
                })?;
            }
        }
    }
    Ok(anywhere)
}
