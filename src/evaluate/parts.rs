//! In how many connected parts a class is.
use std::io;

use ndarray::{ArrayView3, s};

use super::extent::Extent;
use crate::volume::components::{Parts, Rows};
use crate::volume::planes::Storage;

/// Parts of `class` in the prediction and in the label; what lies where `label` is `ignore` is not there. 26 neighbours,
/// as `scipy.ndimage.label` with a full structure has them and as postprocessing does.
pub fn counts(
    prediction: ArrayView3<'_, u16>,
    label: ArrayView3<'_, u16>,
    class: u16,
    ignore: Option<u16>,
    extent: &Extent,
) -> [u64; 2] {
    if extent.prediction == 0 && extent.label == 0 {
        return [0; 2];
    }
    let inside = s![extent.low[0]..=extent.high[0], extent.low[1]..=extent.high[1], extent.low[2]..=extent.high[2]];
    let (prediction, label) = (prediction.slice(inside), label.slice(inside));
    [(prediction, extent.prediction), (label, extent.label)].map(|(map, voxels)| {
        if voxels == 0 {
            return 0;
        }
        // At most one part in eight voxels: a fraction of what surfaces take, which come later.
        let mut seen = Seen { map, label, ignore };
        let parts = Parts::find(&mut seen, |value| u16::from(value == class), &Storage::unbounded());
        // In memory nothing fails; where memory went away since it was looked for, a file can.
        parts.map(|parts| parts.of(1).count).unwrap_or_else(|error| {
            tracing::warn!("parts of class {class} are not counted: {error}");
            0
        })
    })
}

/// A map without what is to be ignored.
struct Seen<'a> {
    map: ArrayView3<'a, u16>,
    label: ArrayView3<'a, u16>,
    ignore: Option<u16>,
}

impl Rows for Seen<'_> {
    fn size(&self) -> [usize; 3] {
        self.map.dim().into()
    }

    fn row(&self, z: usize, y: usize, row: &mut [u16]) -> io::Result<()> {
        self.map.row(z, y, row)?;
        if let Some(ignore) = self.ignore {
            let labels = self.label.slice_move(s![z, y, ..]);
            row.iter_mut().zip(labels).filter(|(_, label)| **label == ignore).for_each(|(value, _)| *value = 0);
        }
        Ok(())
    }
}
