//! Figures of a prediction against its label: Dice, HD95, NSD, volume.
use ndarray::ArrayView3;
use serde::{Deserialize, Serialize};

/// One class of one case. NaN (null in JSON) where undefined: both empty, all three; one empty, Dice 0, HD95 NaN, NSD 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    pub dice: f64,
    /// mm.
    pub hd95: f64,
    pub nsd: f64,
    /// mL, of prediction and label.
    pub volume_prediction: f64,
    pub volume_label: f64,
}

/// Figures of one class; `spacing` in mm, z, y, x; `tolerance` in mm; voxels where `ignore` is true are left out.
pub fn class_figures(
    _prediction: ArrayView3<'_, u16>,
    _label: ArrayView3<'_, u16>,
    _class: u16,
    _ignore: Option<u16>,
    _spacing: [f64; 3],
    _tolerance: f64,
) -> ClassFigures {
    unimplemented!()
}

/// Dice alone: 2 |A and B| / (|A| + |B|), NaN where both are empty.
pub fn dice(_prediction: ArrayView3<'_, u16>, _label: ArrayView3<'_, u16>, _class: u16, _ignore: Option<u16>) -> f64 {
    unimplemented!()
}
