//! How many voxels a class has in two label maps, and the box around them.
use std::collections::BTreeMap;

use ndarray::{ArrayView3, Zip};

/// One class in a pair of label maps.
#[derive(Clone, Debug, PartialEq)]
pub struct Extent {
    /// Voxels of the class in the prediction, in the label, in both.
    pub prediction: u64,
    pub label: u64,
    pub both: u64,
    /// First and last voxel (z, y, x) of the class in either; meaningless where both are empty.
    pub low: [usize; 3],
    pub high: [usize; 3],
}

impl Extent {
    const EMPTY: Self = Self { prediction: 0, label: 0, both: 0, low: [usize::MAX; 3], high: [0; 3] };

    /// The extent of `class`, leaving out voxels where `label` is `ignore`.
    pub fn of(prediction: ArrayView3<'_, u16>, label: ArrayView3<'_, u16>, class: u16, ignore: Option<u16>) -> Self {
        let mut extent = Self::EMPTY;
        visit(prediction, label, ignore, |at, a, b| {
            if a == class || b == class {
                extent.add(at, a == class, b == class);
            }
        });
        extent
    }

    /// The extents of every class that occurs in either map, background included, in one pass.
    pub fn of_all(
        prediction: ArrayView3<'_, u16>,
        label: ArrayView3<'_, u16>,
        ignore: Option<u16>,
    ) -> BTreeMap<u16, Self> {
        let mut extents = BTreeMap::new();
        visit(prediction, label, ignore, |at, a, b| {
            // background in both is nearly every voxel, and no figure is made of it
            if a == 0 && b == 0 {
                return;
            }
            extents.entry(a).or_insert(Self::EMPTY).add(at, true, a == b);
            if a != b {
                extents.entry(b).or_insert(Self::EMPTY).add(at, false, true);
            }
        });
        extents.remove(&0);
        extents
    }

    /// 2 |A and B| / (|A| + |B|), NaN where both are empty.
    pub fn dice(&self) -> f64 {
        let total = self.prediction + self.label;
        if total == 0 { f64::NAN } else { 2.0 * self.both as f64 / total as f64 }
    }

    fn add(&mut self, at: [usize; 3], in_prediction: bool, in_label: bool) {
        self.prediction += u64::from(in_prediction);
        self.label += u64::from(in_label);
        self.both += u64::from(in_prediction && in_label);
        for (axis, at) in at.into_iter().enumerate() {
            self.low[axis] = self.low[axis].min(at);
            self.high[axis] = self.high[axis].max(at);
        }
    }
}

/// Every voxel whose label is not `ignore`: index z, y, x, value in the prediction, value in the label.
fn visit(
    prediction: ArrayView3<'_, u16>,
    label: ArrayView3<'_, u16>,
    ignore: Option<u16>,
    mut each: impl FnMut([usize; 3], u16, u16),
) {
    assert_eq!(prediction.dim(), label.dim(), "prediction and label differ in size");
    Zip::indexed(prediction).and(label).for_each(|(z, y, x), &a, &b| {
        if Some(b) != ignore {
            each([z, y, x], a, b);
        }
    });
}
