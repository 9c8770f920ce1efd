//! What each choice would make of a held-out case.
use std::io;

use ndarray::{Array3, ArrayView3};
use serde::{Deserialize, Serialize};

use super::foreground;
use crate::dataset::Region;
use crate::evaluate::region_figures;
use crate::volume::components::{self, Parts};
use crate::volume::planes::Storage;

/// Dice of one class of one held-out case, `None` where the class is neither in the prediction nor in the label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassDice {
    /// Label value; of regions their number.
    pub class: u16,
    /// As predicted.
    pub plain: Option<f64>,
    /// With the largest part of the class only.
    pub largest: Option<f64>,
    /// With the largest part of all foreground only.
    pub foreground: Option<f64>,
    /// With that, and of what it leaves the largest part of the class only.
    pub foreground_largest: Option<f64>,
}

/// One held-out case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseDice {
    /// The case's id.
    pub case: String,
    /// By label value.
    pub classes: Vec<ClassDice>,
}

/// Takes the Dice of every class `1..classes` of a case under every choice; voxels where `truth` is `ignore` are left out.
/// `prediction` is changed.
///
/// # Errors
/// Those of the storage.
///
/// # Panics
/// Where the two maps differ in size; compare the grids first.
pub fn case_dice(
    case: &str,
    prediction: &mut Array3<u16>,
    truth: ArrayView3<'_, u16>,
    classes: usize,
    ignore: Option<u16>,
    storage: &Storage,
) -> io::Result<CaseDice> {
    assert_eq!(prediction.dim(), truth.dim(), "prediction and label differ in size");
    let mut labelled = vec![0u64; classes];
    for &label in truth.iter().filter(|label| Some(**label) != ignore) {
        labelled.get_mut(usize::from(label)).into_iter().for_each(|count| *count += 1);
    }
    let [plain, largest] = counts(prediction, truth, classes, ignore, storage)?;
    components::keep_largest(prediction, foreground, storage)?;
    let [foreground, foreground_largest] = counts(prediction, truth, classes, ignore, storage)?;
    let dice = |found: &[Count], class: usize| {
        let total = found[class].predicted + labelled[class];
        (total > 0).then(|| 2.0 * found[class].both as f64 / total as f64)
    };
    let classes = (1..classes).map(|class| ClassDice {
        class: class as u16,
        plain: dice(&plain, class),
        largest: dice(&largest, class),
        foreground: dice(&foreground, class),
        foreground_largest: dice(&foreground_largest, class),
    });
    Ok(CaseDice { case: case.to_owned(), classes: classes.collect() })
}

/// The same of regions, by their number from 1. Of a single region no part is taken away, for others may be painted over
/// it: there is the choice about all foreground alone.
///
/// # Errors
/// Those of the storage.
pub fn region_case_dice(
    case: &str,
    prediction: &mut Array3<u16>,
    truth: ArrayView3<'_, u16>,
    regions: &[Region],
    ignore: Option<u16>,
    storage: &Storage,
) -> io::Result<CaseDice> {
    let dice = |prediction: &Array3<u16>| -> Vec<Option<f64>> {
        let figures = region_figures(case, prediction.view(), truth, regions, ignore, [1.0; 3], None);
        figures.classes.iter().map(|class| Some(class.figures.dice).filter(|dice| dice.is_finite())).collect()
    };
    let plain = dice(prediction);
    components::keep_largest(prediction, foreground, storage)?;
    let classes = (1..=u16::MAX).zip(plain.into_iter().zip(dice(prediction))).map(|(class, (plain, foreground))| {
        ClassDice { class, plain, largest: plain, foreground, foreground_largest: foreground }
    });
    Ok(CaseDice { case: case.to_owned(), classes: classes.collect() })
}

/// Voxels of a class in the prediction, and in label and prediction both.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    predicted: u64,
    both: u64,
}

/// By class: of all voxels, and of those of the largest part.
fn counts(
    prediction: &mut Array3<u16>,
    truth: ArrayView3<'_, u16>,
    classes: usize,
    ignore: Option<u16>,
    storage: &Storage,
) -> io::Result<[Vec<Count>; 2]> {
    let [mut all, mut largest] = [(); 2].map(|()| vec![Count::default(); classes]);
    let mut parts = Parts::find(prediction, |label| label, storage)?;
    parts.visit(
        prediction,
        |label| label,
        |_, z, y, runs| {
            for (run, is_largest) in runs {
                let class = usize::from(run.key);
                if class >= classes {
                    continue;
                }
                for x in run.x() {
                    let truth = truth[[z, y, x]];
                    if Some(truth) == ignore {
                        continue;
                    }
                    let one = |count: &mut Count| {
                        count.predicted += 1;
                        count.both += u64::from(truth == run.key);
                    };
                    one(&mut all[class]);
                    if *is_largest {
                        one(&mut largest[class]);
                    }
                }
            }
            Ok(())
        },
    )?;
    Ok([all, largest])
}
