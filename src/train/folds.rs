//! Cross-validation: every fold in turn, and how far their figures are apart.
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::TrainError;
use super::data::Data;
use super::folder::{Series, read_summary};
use super::seeds::{ClassSpread, Spread};
use super::session::{Options, fold};
use super::told::{Event, Observer, Outcome};
use crate::config::Fold;
use crate::evaluate::{LabelClass, Summary};
use crate::files::{sha256_hex, write_bytes_privately};

/// `cross_validation.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FoldsSummary {
    /// How many there are.
    pub folds: usize,
    /// Mean over the folds of each one's mean foreground Dice.
    pub mean_dice: Option<f64>,
    /// In the order of folds; none where a fold has no value.
    pub mean_dice_per_fold: Vec<Option<f64>>,
    /// Of the foreground mean over folds.
    pub mean_dice_spread: Spread,
    /// Of each class, over folds.
    pub classes: Vec<ClassSpread>,
    /// Every case was held out once: the figures over all of them together.
    pub all_cases: AllCases,
    /// One per fold.
    pub weights_sha256: Vec<String>,
}

/// Over the held-out cases of all folds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AllCases {
    /// How many there are.
    pub cases: usize,
    /// Mean over classes.
    pub mean_dice: Option<f64>,
    /// By label value.
    pub classes: Vec<ClassDiceOverCases>,
}

/// One class over all held-out cases that have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassDiceOverCases {
    /// Which class it is.
    #[serde(flatten)]
    pub class: LabelClass,
    /// Mean over the cases that have it; none where no case has.
    pub dice: Option<f64>,
}

/// Every fold in turn, into `fold_K`, and a summary of all.
pub(super) fn cross_validate(
    options: &Options,
    data: &Data,
    folds: usize,
    observer: &dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let (mut digests, mut means, mut folders) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..folds {
        let folder = Series::Folds.member(&options.run, number as u64);
        let mut options = options.clone();
        options.config.experiment.data.fold = Fold::One(number);
        options.resume &= folder.exists();
        observer.event(Event::Notice(format!("fold {number} of {folds}: {}", folder.display())));
        match fold(&options, &folder, data, Fold::One(number), observer, stop)? {
            Outcome::Finished { weights_sha256, mean_dice } => {
                digests.push(weights_sha256);
                means.push(mean_dice);
            }
            Outcome::Stopped { step, steps, run, gone } => {
                return Ok(Outcome::Stopped { step, steps, run: run.map(|_| options.run.clone()), gone });
            }
        }
        folders.push(folder);
    }
    let summary = summarise(&folders, means, digests)?;
    let path = options.run.join("cross_validation.json");
    let text = serde_json::to_string_pretty(&summary).unwrap_or_default() + "\n";
    write_bytes_privately(&path, text.as_bytes()).map_err(TrainError::io(&path))?;
    observer.event(Event::Folds(&summary));
    let weights_sha256 = sha256_hex(summary.weights_sha256.join("\n").as_bytes());
    Ok(Outcome::Finished { weights_sha256, mean_dice: summary.mean_dice })
}

/// From the files of the runs, whichever process wrote them.
fn summarise(
    folders: &[PathBuf],
    means: Vec<Option<f64>>,
    weights_sha256: Vec<String>,
) -> Result<FoldsSummary, TrainError> {
    let cure = "remove the folder of this fold and start again with --resume";
    let summaries = folders.iter().map(|folder| read_summary(folder, cure)).collect::<Result<Vec<_>, _>>()?;
    let summaries: Vec<Summary> = summaries.into_iter().flatten().collect();
    let named: Vec<LabelClass> =
        summaries.first().map_or(Vec::new(), |first| first.classes.iter().map(|class| class.class.clone()).collect());
    let classes = named.iter().enumerate().map(|(at, class)| {
        let dice = |summary: &Summary| summary.classes.get(at).map_or(f64::NAN, |class| class.mean.dice);
        ClassSpread { class: class.clone(), dice: Spread::new(summaries.iter().map(dice)) }
    });
    let classes = classes.collect();
    let tolerance = summaries.first().map_or(0.0, |first| first.tolerance_mm);
    let cases: Vec<_> = summaries.iter().flat_map(|summary| summary.cases.iter().cloned()).collect();
    let all = Summary::new(cases, &named, tolerance);
    let defined = |dice: f64| dice.is_finite().then_some(dice);
    let over_cases = all
        .classes
        .iter()
        .map(|class| ClassDiceOverCases { class: class.class.clone(), dice: defined(class.mean.dice) });
    let spread = Spread::new(means.iter().map(|mean| mean.unwrap_or(f64::NAN)));
    Ok(FoldsSummary {
        folds: folders.len(),
        mean_dice: spread.mean,
        mean_dice_per_fold: means,
        mean_dice_spread: spread,
        classes,
        all_cases: AllCases {
            cases: all.cases.len(),
            mean_dice: defined(all.foreground_mean.dice),
            classes: over_cases.collect(),
        },
        weights_sha256,
    })
}
