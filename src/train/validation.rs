//! How good the network is on whole cases: predicted, restored to the file's grid and compared, exactly as `predict` and
//! `evaluate` do it.
use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::dataset::{Case, Dataset, label_map};
use crate::evaluate::{self, CaseFigures, ClassFigures, ClassOfCase, DEFAULT_TOLERANCE_MM, LabelClass, Summary};
use crate::predict::Predictor;
use crate::predict::postprocess::{self, CaseDice};
use crate::volume::planes::Storage;

/// Mean Dice of one foreground class over the validation cases that have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassDice {
    /// Label value; of regions their number.
    pub class: u16,
    /// As the dataset calls it.
    pub name: String,
    /// `None` where no case has the class.
    pub dice: Option<f64>,
}

/// One validation during training.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidationResult {
    /// Complete steps.
    pub step: u64,
    /// By label value.
    pub classes: Vec<ClassDice>,
    /// Mean over classes; `None` where nothing is defined.
    pub mean_dice: Option<f64>,
    /// Cases looked at.
    pub cases: usize,
    /// From the first case to the last.
    pub seconds: f64,
}

fn defined(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Foreground classes, or regions by their number from 1, with their names.
pub fn label_classes(dataset: &Dataset) -> Vec<LabelClass> {
    let named = |(class, name): (u16, &String)| LabelClass { class, name: name.clone() };
    if !dataset.regions.is_empty() {
        return (1..=u16::MAX).zip(dataset.regions.iter().map(|region| &region.name)).map(named).collect();
    }
    (0..=u16::MAX).zip(&dataset.classes).skip(1).map(named).collect()
}

/// Means of Dice over cases.
pub fn summarise(dataset: &Dataset, cases: &[CaseFigures], step: u64, seconds: f64) -> ValidationResult {
    let summary = Summary::new(cases.to_vec(), &label_classes(dataset), DEFAULT_TOLERANCE_MM);
    let classes = summary.classes.iter().map(|means| ClassDice {
        class: means.class.class,
        name: means.class.name.clone(),
        dice: defined(means.mean.dice),
    });
    ValidationResult {
        step,
        classes: classes.collect(),
        mean_dice: defined(summary.foreground_mean.dice),
        cases: cases.len(),
        seconds,
    }
}

/// One held-out case.
#[derive(Serialize, Deserialize)]
pub struct Looked {
    pub figures: CaseFigures,
    /// What keeping the largest parts alone would make of it; `None` without surfaces.
    pub kept: Option<CaseDice>,
}

/// Predicts one case and compares it with its label, on the grid of the label's file; `with_surfaces` takes the slower
/// figures too, else they are NaN.
///
/// # Errors
/// Files that cannot be read.
pub fn case(predictor: &Predictor, dataset: &Dataset, case: &Case, with_surfaces: bool) -> Result<Looked, TrainError> {
    let mut prediction = predictor.labels(&case.images)?;
    let label = label_map(&case.label, &dataset.remap)?;
    let classes: Vec<u16> = (1..dataset.classes.len() as u16).collect();
    let spacing = crate::zyx(label.geometry.spacing());
    let (found, truth) = (prediction.labels.view(), label.data.view());
    if !dataset.regions.is_empty() {
        let (regions, tolerance) = (&dataset.regions, with_surfaces.then_some(DEFAULT_TOLERANCE_MM));
        let figures = evaluate::region_figures(&case.id, found, truth, regions, dataset.ignore, spacing, tolerance);
        let kept = with_surfaces.then(|| {
            // In the room that surfaces took.
            let room = evaluate::peak_bytes(label.data.dim().into());
            let storage = Storage::new(predictor.memory.budget.map(|_| room), &predictor.memory.scratch);
            let found = &mut prediction.labels;
            let kept = postprocess::region_case_dice(&case.id, found, truth, regions, dataset.ignore, &storage);
            kept.map_err(TrainError::io(storage.folder()))
        });
        return Ok(Looked { figures, kept: kept.transpose()? });
    }
    if with_surfaces {
        let tolerance = DEFAULT_TOLERANCE_MM;
        let figures = evaluate::case_figures(&case.id, found, truth, &classes, dataset.ignore, spacing, tolerance);
        // In the room that surfaces took.
        let room = evaluate::peak_bytes(label.data.dim().into());
        let storage = Storage::new(predictor.memory.budget.map(|_| room), &predictor.memory.scratch);
        let (found, count) = (&mut prediction.labels, dataset.classes.len());
        let kept = postprocess::case_dice(&case.id, found, truth, count, dataset.ignore, &storage);
        return Ok(Looked { figures, kept: Some(kept.map_err(TrainError::io(storage.folder()))?) });
    }
    let dice = |class: u16| ClassOfCase {
        class,
        figures: ClassFigures { dice: evaluate::dice(found, truth, class, dataset.ignore), ..ClassFigures::absent() },
    };
    let figures = CaseFigures { case: case.id.clone(), classes: classes.into_iter().map(dice).collect() };
    Ok(Looked { figures, kept: None })
}
