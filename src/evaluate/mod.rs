//! Figures of a prediction against its label: Dice, HD95, NSD, volume, connected parts.
//!
//! One class of one pair of label maps: [`class_figures`]; all classes of a case: [`case_figures`]; all cases:
//! [`Summary`]; two folders of files: [`evaluate_folders`]. The definitions are MONAI's (checked against it in
//! `tests/evaluation.rs`): HD95 is the larger of the two directed 95th percentiles of the distances between edge
//! voxels, NSD the share of surface within a tolerance, surface being measured between voxels (`use_subvoxels`).
mod distance;
mod error;
mod extent;
mod folders;
mod interval;
mod mask;
mod null;
mod parts;
mod regions;
mod summary;
mod surface;
mod table;

use ndarray::ArrayView3;
use serde::{Deserialize, Serialize};

pub use error::EvaluateError;
pub use folders::{FolderOptions, GRID_TOLERANCE_VOXELS, evaluate_folders};
pub use interval::{FEW, Interval, Intervals, LEVEL, RESAMPLES};
pub use regions::region_figures;
pub use summary::{CaseFigures, ClassMeans, ClassOfCase, LabelClass, Means, Summary, case_figures};

use extent::Extent;

/// NSD's default tolerance in mm.
pub const DEFAULT_TOLERANCE_MM: f64 = 1.0;

/// One class of one case. NaN (null in JSON) where undefined: both empty, all three; one empty, Dice 0, HD95 NaN, NSD 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// Twice the voxels in common over the voxels of both, 0 to 1.
    #[serde(with = "null")]
    pub dice: f64,
    /// mm.
    #[serde(with = "null")]
    pub hd95: f64,
    /// Share of both surfaces that lies within the tolerance of the other, 0 to 1.
    #[serde(with = "null")]
    pub nsd: f64,
    /// mL, of prediction and label.
    pub volume_prediction: f64,
    /// mL, of the label.
    pub volume_label: f64,
    /// Connected parts (26 neighbours), of prediction and label.
    #[serde(default)]
    pub components_prediction: u64,
    /// Of the label.
    #[serde(default)]
    pub components_label: u64,
}

/// Figures of one class; `spacing` in mm, z, y, x; `tolerance` in mm; voxels where `label` is `ignore` are left out
/// of both.
///
/// # Panics
/// Where the two maps differ in size; compare the grids first.
pub fn class_figures(
    prediction: ArrayView3<'_, u16>,
    label: ArrayView3<'_, u16>,
    class: u16,
    ignore: Option<u16>,
    spacing: [f64; 3],
    tolerance: f64,
) -> ClassFigures {
    let extent = Extent::of(prediction, label, class, ignore);
    figures_within(prediction, label, class, ignore, &extent, spacing, tolerance)
}

/// The most bytes that [`class_figures`] and [`case_figures`] hold beside two label maps of `size` voxels, z, y, x: a class
/// that is everywhere and all of it surface.
pub fn peak_bytes(size: [usize; 3]) -> u64 {
    let size = size.map(|edge| edge.saturating_add(2));
    let voxels = size.iter().fold(1u64, |all, edge| all.saturating_mul(*edge as u64));
    // Two masks, their edges or neighbourhood codes, and a distance for each edge voxel.
    voxels.saturating_mul(4 + size_of::<f64>() as u64).saturating_add(distance::peak_bytes(size))
}

/// Dice alone: 2 |A and B| / (|A| + |B|), NaN where both are empty.
///
/// # Panics
/// Where the two maps differ in size; compare the grids first.
pub fn dice(prediction: ArrayView3<'_, u16>, label: ArrayView3<'_, u16>, class: u16, ignore: Option<u16>) -> f64 {
    Extent::of(prediction, label, class, ignore).dice()
}

/// The figures of one class whose counts and bounding box are already known.
fn figures_within(
    prediction: ArrayView3<'_, u16>,
    label: ArrayView3<'_, u16>,
    class: u16,
    ignore: Option<u16>,
    extent: &Extent,
    spacing: [f64; 3],
    tolerance: f64,
) -> ClassFigures {
    let millilitres = |voxels: u64| voxels as f64 * spacing[0] * spacing[1] * spacing[2] / 1000.0;
    let [components_prediction, components_label] = parts::counts(prediction, label, class, ignore, extent);
    let (hd95, nsd) = match (extent.prediction, extent.label) {
        (0, 0) => (f64::NAN, f64::NAN),
        (0, _) | (_, 0) => (f64::NAN, 0.0),
        _ => {
            let (a, b) = mask::pair(prediction, label, class, ignore, extent);
            (surface::hd95(&a, &b, spacing), surface::nsd(&a, &b, spacing, tolerance))
        }
    };
    ClassFigures {
        dice: extent.dice(),
        hd95,
        nsd,
        volume_prediction: millilitres(extent.prediction),
        volume_label: millilitres(extent.label),
        components_prediction,
        components_label,
    }
}
