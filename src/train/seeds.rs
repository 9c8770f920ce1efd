//! One training with several seeds: how far its figures are apart by chance alone. A training repeats bit for bit, so that
//! one run shows none of that.
use std::path::PathBuf;

use serde::Serialize;

use super::TrainError;
use super::data::Data;
use super::folder::{RunFolder, Series, read_summary};
use super::session::{Options, fold};
use super::told::{Event, Observer, Outcome};
use crate::config::Auto;
use crate::evaluate::{LabelClass, Summary};
use crate::files::{sha256_hex, write_bytes_privately};
use std::sync::atomic::AtomicBool;

/// A figure over the seeds. `None` is what is not defined: of no value, or the deviation of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Over the seeds that have a value.
    pub mean: Option<f64>,
    /// Standard deviation of a sample: over one value less than there are.
    pub sd: Option<f64>,
    /// The smallest value.
    pub min: Option<f64>,
    /// The largest value.
    pub max: Option<f64>,
    /// One per seed.
    pub values: Vec<Option<f64>>,
}

impl Spread {
    /// Over what is defined; NaN is not.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<Option<f64>> = values.into_iter().map(|value| value.is_finite().then_some(value)).collect();
        let defined: Vec<f64> = values.iter().flatten().copied().collect();
        let count = defined.len() as f64;
        let mean = (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / count);
        let squares = |mean: f64| defined.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Self {
            mean,
            sd: mean.filter(|_| defined.len() > 1).map(|mean| (squares(mean) / (count - 1.0)).sqrt()),
            min: defined.iter().copied().reduce(f64::min),
            max: defined.iter().copied().reduce(f64::max),
            values,
        }
    }
}

/// One class over the held-out cases.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassSpread {
    /// Which class it is.
    #[serde(flatten)]
    pub class: LabelClass,
    /// Mean over held-out cases, seed by seed.
    pub dice: Spread,
}

/// One held-out case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseSpread {
    /// The case's id, or its number.
    pub case: String,
    /// By label value.
    pub classes: Vec<ClassSpread>,
}

/// `seeds.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedsSummary {
    /// As in the names of the run folders.
    pub seeds: Vec<u64>,
    /// The same for all seeds, and so are the cases that are held out.
    pub split_seed: u64,
    /// True where there were fewer cases than folds: figures are then on training cases.
    pub validation_on_training_cases: bool,
    /// Of each class, the mean over held-out cases.
    pub classes: Vec<ClassSpread>,
    /// Mean over the classes.
    pub mean_dice: Spread,
    /// By name.
    pub cases: Vec<CaseSpread>,
    /// One per seed.
    pub weights_sha256: Vec<String>,
}

/// Every seed in turn, into `seed_S`, and the spread of their figures.
pub(super) fn each_seed(
    options: &Options,
    data: &Data,
    seeds: &[u64],
    observer: &dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let split_seed = options.config.experiment.split_seed();
    let mut digests = Vec::new();
    let mut folders = Vec::new();
    for (index, &seed) in seeds.iter().enumerate() {
        let folder = Series::Seeds.member(&options.run, seed);
        let mut options = options.clone();
        options.config.experiment.train.seed = seed;
        // Else other cases would be held out, and what they are like be taken for chance.
        options.config.experiment.data.split_seed = Auto::Value(split_seed);
        options.resume &= folder.exists();
        let text = format!("seed {seed}, {} of {}: {}", index + 1, seeds.len(), folder.display());
        observer.event(Event::Notice(text));
        match fold(&options, &folder, data, options.config.experiment.data.fold, observer, stop)? {
            Outcome::Finished { weights_sha256, .. } => digests.push(weights_sha256),
            Outcome::Stopped { step, steps, run, gone } => {
                return Ok(Outcome::Stopped { step, steps, run: run.map(|_| options.run.clone()), gone });
            }
        }
        folders.push(folder);
    }
    let summary = summarise(seeds, split_seed, &folders, digests)?;
    let path = options.run.join("seeds.json");
    let text = serde_json::to_string_pretty(&summary).unwrap_or_default() + "\n";
    write_bytes_privately(&path, text.as_bytes()).map_err(TrainError::io(&path))?;
    observer.event(Event::Seeds(&summary));
    let weights_sha256 = sha256_hex(summary.weights_sha256.join("\n").as_bytes());
    Ok(Outcome::Finished { weights_sha256, mean_dice: summary.mean_dice.mean })
}

/// The seeds of a training, from `first` on.
///
/// # Errors
/// A folder that holds something else; a seed that cannot be written.
pub(super) fn seeds(options: &Options, count: u64) -> Result<Vec<u64>, TrainError> {
    RunFolder::refuse_existing_series(&options.run, options.resume, Series::Seeds)?;
    let first = options.config.experiment.train.seed;
    match first.checked_add(count).filter(|end| i64::try_from(*end).is_ok()) {
        Some(end) => Ok((first..end).collect()),
        None => {
            let problem = format!("{count} seeds from {first} on are more than there are");
            Err(TrainError::run("--seeds", problem, "set a smaller train.seed"))
        }
    }
}

/// From the files of the runs, whichever process wrote them.
fn summarise(
    seeds: &[u64],
    split_seed: u64,
    folders: &[PathBuf],
    weights_sha256: Vec<String>,
) -> Result<SeedsSummary, TrainError> {
    let cure = "remove the folder of this seed and start again with --resume";
    let summaries = folders.iter().map(|folder| read_summary(folder, cure)).collect::<Result<Vec<_>, _>>()?;
    let summaries: Vec<Summary> = summaries.into_iter().flatten().collect();
    let validation_on_training_cases =
        folders.first().is_some_and(|folder| super::load_run(folder).is_ok_and(|run| run.validates_on_training_cases));
    let (mut classes, mut cases) = (Vec::new(), Vec::new());
    if let Some(first) = summaries.first() {
        for (at, class) in first.classes.iter().enumerate() {
            let dice = |summary: &Summary| summary.classes.get(at).map_or(f64::NAN, |class| class.mean.dice);
            classes.push(ClassSpread { class: class.class.clone(), dice: Spread::new(summaries.iter().map(dice)) });
        }
        for (row, case) in first.cases.iter().enumerate() {
            let of_class = |(at, class): (usize, &ClassSpread)| {
                let dice = |summary: &Summary| {
                    let class = summary.cases.get(row).and_then(|case| case.classes.get(at));
                    class.map_or(f64::NAN, |class| class.figures.dice)
                };
                ClassSpread { class: class.class.clone(), dice: Spread::new(summaries.iter().map(dice)) }
            };
            cases.push(CaseSpread {
                case: case.case.clone(),
                classes: classes.iter().enumerate().map(of_class).collect(),
            });
        }
    }
    let mean_dice = Spread::new(summaries.iter().map(|summary| summary.foreground_mean.dice));
    let seeds = seeds.to_vec();
    Ok(SeedsSummary { seeds, split_seed, validation_on_training_cases, classes, mean_dice, cases, weights_sha256 })
}

#[cfg(test)]
mod tests {
    use super::Spread;

    /// Mean and deviation as `statistics.mean` and `statistics.stdev` of Python give them.
    #[test]
    fn spread_is_that_of_a_sample() {
        let spread = Spread::new([0.5, 0.75, f64::NAN, 1.0, 0.25]);
        assert_eq!((spread.mean, spread.min, spread.max), (Some(0.625), Some(0.25), Some(1.0)));
        assert!((spread.sd.unwrap() - 0.322_748_612_183_951_4).abs() < 1e-15, "{spread:?}");
        assert_eq!(spread.values, [Some(0.5), Some(0.75), None, Some(1.0), Some(0.25)]);
        let one = Spread::new([0.5]);
        assert_eq!((one.mean, one.sd, one.min), (Some(0.5), None, Some(0.5)));
        assert_eq!(Spread::new([f64::NAN]).mean, None);
    }
}
