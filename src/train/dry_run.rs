//! Everything of a training up to its first step: what would be done, and nothing done.
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::data::Data;
use super::decided::{Decided, decide};
use super::folder::Series;
use super::manifest::config_sha256;
use super::session::{Options, check_folders};
use super::told::Observer;
use super::{TrainError, checkpoint, checkpoint_path};
use crate::config::{Auto, Fold, Resolved};
use crate::dataset::split::Split;
use crate::memory::fit::Fit;
use crate::memory::speed::{Speed, speed};
use crate::network::UNet;

/// A run that a training would make.
#[derive(Clone, Debug)]
pub struct Intended {
    /// Its folder.
    pub run: PathBuf,
    /// The dataset's name.
    pub dataset: String,
    /// Every value as it would be.
    pub resolved: Resolved,
    /// Learnt numbers.
    pub parameters: usize,
    /// Which cases are held out.
    pub split: Split,
    /// What steps will hold, and the budget in bytes; on the processor.
    pub memory: Option<(Fit, Option<u64>)>,
    /// Of a step; on the processor.
    pub speed: Option<Speed>,
    /// The step of the checkpoint that it would go on from.
    pub from_step: Option<u64>,
}

/// Looks at configuration, dataset, plan, memory, weights and run folder as [`super::run`] does before it prepares cases.
/// Nothing is written but what the cache remembers of the dataset's files.
///
/// # Errors
/// What would stop the training before its first step.
pub fn dry_run(options: &Options, observer: &dyn Observer, stop: &AtomicBool) -> Result<Vec<Intended>, TrainError> {
    let seeds = check_folders(options)?;
    let data = Data::open(options, observer, stop)?;
    let experiment = &options.config.experiment;
    let count = data.held_out.folds(experiment);
    let mut runs: Vec<(PathBuf, Options)> = Vec::new();
    let mut add = |run: PathBuf, change: &dyn Fn(&mut Options)| {
        let mut options = options.clone();
        change(&mut options);
        runs.push((run, options));
    };
    match &seeds {
        Some(seeds) => seeds.iter().for_each(|seed| {
            add(Series::Seeds.member(&options.run, *seed), &|options| {
                options.config.experiment.data.split_seed = Auto::Value(experiment.split_seed());
                options.config.experiment.train.seed = *seed;
            });
        }),
        None if options.each_fold && (data.dataset.cases.len() >= count || data.held_out.by_file()) => (0..count)
            .for_each(|fold| {
                add(Series::Folds.member(&options.run, fold as u64), &|options| {
                    options.config.experiment.data.fold = Fold::One(fold);
                });
            }),
        None => add(options.run.clone(), &|_| {}),
    }
    // All plans before the first network: what this process holds by then is part of a plan.
    let hide = |error| data.names.hide_in(error);
    let decide = |(run, options): &(PathBuf, Options)| {
        decide(options, run, &data, options.config.experiment.data.fold, observer)
    };
    let decided = runs.iter().map(decide).collect::<Result<Vec<_>, _>>().map_err(hide)?;
    let all = runs.into_iter().zip(decided).map(|((run, options), decided)| intended(&options, run, &data, decided));
    all.collect::<Result<Vec<_>, _>>().map_err(hide)
}

fn intended(options: &Options, run: PathBuf, data: &Data, decided: Decided) -> Result<Intended, TrainError> {
    let Decided { resolved, levers, device, split, .. } = decided;
    let mut network = UNet::new(&resolved.plan, resolved.experiment.train.seed, &device);
    if let Some(weights) = &options.weights {
        checkpoint::load(weights)?.restore_weights(&mut network, weights)?;
    }
    let last = checkpoint_path(&run, "last");
    let mut from_step = None;
    if options.resume && last.exists() {
        let saved = checkpoint::load_weights(&last)?;
        if saved.state.config_sha256 != config_sha256(&resolved)? {
            let cure = "resume with the run's own config.toml, or start another run with --run";
            return Err(TrainError::run(&last, "the configuration is not the one of this run", cure));
        }
        from_step = Some(saved.state.step);
    }
    let batch_dice = resolved.experiment.train.batch_dice;
    let speed = levers.as_ref().map(|(_, room)| speed(&room.step(&resolved), batch_dice));
    Ok(Intended {
        run,
        dataset: data.shown.name.clone(),
        parameters: network.parameter_count(),
        resolved,
        split,
        memory: levers.map(|(fit, room)| (fit, room.budget)),
        speed,
        from_step,
    })
}
