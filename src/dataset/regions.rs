//! Regions: classes that overlap, each made of several label values (nnU-Net's `regions_class_order`).
//!
//! The network answers for every region on its own whether a voxel is in it, with a sigmoid instead of a softmax. A label
//! map is painted from the answers in the regions' order: later ones go over earlier ones.
use serde::{Deserialize, Serialize};

/// Voxels of any of some label values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// As `dataset.json` calls it.
    pub name: String,
    /// Label values, ascending; never the background.
    pub values: Vec<u16>,
    /// The value that a label map gets where the region is found; one of its own.
    pub paint: u16,
}

impl Region {
    /// Whether a voxel of this label value is in the region.
    pub fn holds(&self, value: u16) -> bool {
        self.values.binary_search(&value).is_ok()
    }

    /// Whether `regions` could be those of a dataset with so many label values: each of its own values, painted with one
    /// of them.
    pub(crate) fn are_sound(regions: &[Self], values: usize) -> bool {
        let sound = |region: &Self| {
            region.values.is_sorted_by(|a, b| a < b)
                && region.values.iter().all(|&value| value > 0 && usize::from(value) < values)
                && region.holds(region.paint)
        };
        regions.iter().all(sound)
    }
}
