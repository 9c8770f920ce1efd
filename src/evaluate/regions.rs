//! Regions, which overlap: each is a mask of its own.
use ndarray::{Array3, ArrayView3};

use super::{CaseFigures, ClassFigures, ClassOfCase, case_figures, dice};
use crate::dataset::Region;

/// 1 where a label is in the region, 0 elsewhere; the ignore label, which is above 1, stays.
fn mask(labels: ArrayView3<'_, u16>, region: &Region, ignore: Option<u16>) -> Array3<u16> {
    labels.map(|&label| if Some(label) == ignore { label } else { u16::from(region.holds(label)) })
}

/// Figures of every region between two label maps, `[z, y, x]`; in the place of a class stands the number of the region,
/// from 1. `spacing` in mm, z, y, x. Without `tolerance` (mm) Dice alone, the other figures NaN.
pub fn region_figures(
    case: &str,
    prediction: ArrayView3<'_, u16>,
    label: ArrayView3<'_, u16>,
    regions: &[Region],
    ignore: Option<u16>,
    spacing: [f64; 3],
    tolerance: Option<f64>,
) -> CaseFigures {
    let of_region = |region: &Region| {
        let [found, truth] = [prediction, label].map(|labels| mask(labels, region, ignore));
        let (found, truth) = (found.view(), truth.view());
        match tolerance {
            None => ClassFigures { dice: dice(found, truth, 1, ignore), ..ClassFigures::absent() },
            Some(tolerance) => {
                let of_case = case_figures(case, found, truth, &[1], ignore, spacing, tolerance);
                of_case.classes.into_iter().find(|class| class.class == 1).map_or(ClassFigures::absent(), |c| c.figures)
            }
        }
    };
    let classes = (1..=u16::MAX).zip(regions);
    let classes = classes.map(|(class, region)| ClassOfCase { class, figures: of_region(region) });
    CaseFigures { case: case.to_owned(), classes: classes.collect() }
}
