//! A training from its options to its outcome.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::data::Data;
use super::decided::{Decided, decide, set_levers, tell_levers};
use super::folder::{LoadedRun, RunFolder, Series};
use super::folds;
use super::held_out::SPLIT_FILE;
use super::manifest::{Manifest, PlannedPart, config_sha256, way};
use super::optimizer::Optimizer;
use super::precision::LossScale;
use super::recovery::Watch;
use super::run_loop::Loop;
use super::seeds;
use super::start::start_from;
use super::step::StepSettings;
use super::told::{Event, Observer, Outcome};
use super::{Samples, TrainError};
use crate::config::{Activations, Auto, Config, Device, Fold};
use crate::dataset::store::Store;
use crate::dataset::{DEFAULT_MEMORY, DatasetError};
use crate::network::UNet;
use crate::ops::cpu::pool;
use crate::ops::cpu::worker::on_worker;
use crate::patch::augment::source_size;
use crate::patch::sampler::Sampler;
use crate::ranks::{Peer, Ranks};

/// The arguments of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The file with every argument that replaces one of its keys set over it.
    pub config: Config,
    /// The dataset's folder.
    pub dataset: PathBuf,
    /// The run folder.
    pub run: PathBuf,
    /// Cross-validation: every fold into `run/fold_K`.
    pub each_fold: bool,
    /// So many seeds from `train.seed` on, each into `run/seed_S`, on the same split.
    pub seeds: Option<u64>,
    /// Cases go by numbers wherever they are written.
    pub anonymous_cases: bool,
    /// Go on from `checkpoints/last` of a run folder that is there.
    pub resume: bool,
    /// A checkpoint to start the weights from.
    pub weights: Option<PathBuf>,
    /// What computes.
    pub device: Device,
    /// After this time the run stops in order, and can be resumed.
    pub max_time: Option<Duration>,
    /// Pictures of held-out cases in `report.html`; never with `anonymous_cases`.
    pub images: bool,
    /// Scalars in `tensorboard/`.
    pub tensorboard: bool,
    /// Those that share the samples of a step.
    pub ranks: Ranks,
}

/// Trains as `options` say. `stop` asks for an end in order: after the step, or after 30 s of it.
///
/// # Errors
/// The first fault. Nothing is written before the configuration, the dataset and the plan are found right.
pub fn run(options: &Options, observer: &dyn Observer, stop: &AtomicBool) -> Result<Outcome, TrainError> {
    match prepare_and_train(options, observer, stop) {
        Err(TrainError::Dataset(DatasetError::Stopped) | TrainError::Stopped) => {
            let gone = options.ranks.gone().iter().map(Peer::name).collect();
            Ok(Outcome::Stopped { step: 0, steps: options.config.experiment.train.steps, run: None, gone })
        }
        other => other,
    }
}

/// Refuses run folders that cannot be written into; the seeds, where there are to be several.
pub(super) fn check_folders(options: &Options) -> Result<Option<Vec<u64>>, TrainError> {
    let refuse_existing = options.ranks.is_first();
    let seeds = options.seeds.map(|count| seeds::seeds(options, count)).transpose()?;
    if options.ranks.are_several() && (options.seeds.is_some() || options.each_fold) {
        let cure = "start one job for each with --fold K, or --set train.seed=S, and a --run of its own";
        return Err(TrainError::run(&options.run, "several ranks train one fold with one seed at a time", cure));
    }
    match (&seeds, options.each_fold) {
        (Some(_), true) => {
            let cure = "give one of them; each fold by itself with --fold K --seeds N and a --run of its own";
            return Err(TrainError::run("--seeds", "several seeds of every fold are more than one series", cure));
        }
        (Some(_), false) => {}
        // Rank 0 alone takes the folder, and may have done so by now.
        (None, _) if !refuse_existing => {}
        (None, true) => RunFolder::refuse_existing_series(&options.run, options.resume, Series::Folds)?,
        (None, false) => RunFolder::refuse_existing(&options.run, options.resume)?,
    }
    Ok(seeds)
}

fn prepare_and_train(options: &Options, observer: &dyn Observer, stop: &AtomicBool) -> Result<Outcome, TrainError> {
    let seeds = check_folders(options)?;
    let data = in_turn(&options.ranks, stop, || Data::open(options, observer, stop))?;
    let trained = match seeds {
        Some(seeds) => seeds::each_seed(options, &data, &seeds, observer, stop),
        None => one_or_each_fold(options, &data, observer, stop),
    };
    let several = options.seeds.is_some() || (options.each_fold && !options.run.join("manifest.json").exists());
    if let (true, Ok(Outcome::Finished { .. })) = (several && options.ranks.is_first(), &trained)
        && let Err(error) = crate::report::write_in_series(&options.run)
    {
        observer.event(Event::Warning(format!("report.html was not written: {error}")));
    }
    trained.map_err(|error| data.names.hide_in(error))
}

fn one_or_each_fold(
    options: &Options,
    data: &Data,
    observer: &dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let experiment = &options.config.experiment;
    let count = data.held_out.folds(experiment);
    if !options.each_fold || (data.dataset.cases.len() < count && !data.held_out.by_file()) {
        if options.ranks.is_first() {
            RunFolder::refuse_existing(&options.run, options.resume)?;
        }
        return fold(options, &options.run, data, experiment.data.fold, observer, stop);
    }
    folds::cross_validate(options, data, count, observer, stop)
}

/// One fold with one seed: one complete run folder.
pub(super) fn fold(
    options: &Options,
    path: &Path,
    data: &Data,
    fold: Fold,
    observer: &dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let Data { dataset, shown, fingerprint, cache, .. } = data;
    let Decided { mut resolved, levers, device, split, split_record: record, split_file } =
        decide(options, path, data, fold, observer)?;

    let tell = |done, total| observer.event(Event::Preparing { done, total });
    let left = levers.as_ref().and_then(|(_, room)| Some(room.budget?.saturating_sub(room.program)));
    let memory = (DEFAULT_MEMORY, left);
    let store = in_turn(&options.ranks, stop, || {
        Ok(Store::open_or_prepare_until(cache, dataset, &resolved.preparation, memory, &tell, stop)?)
    })?;

    // Once more, with what the process holds by now, without what preparing has left behind.
    pool::release();
    let watch = match set_levers(&mut resolved, options)? {
        Some((fit, room)) => {
            tell_levers(&fit, observer);
            Some(Watch::new(fit, room, resolved.experiment.memory.budget)?)
        }
        None => None,
    };
    let experiment = &resolved.experiment;

    let mut network = UNet::new(&resolved.plan, experiment.train.seed, &device);
    let mut start_weights_sha256 = None;
    if let Some(weights) = &options.weights {
        for said in start_from(weights, &mut network)? {
            observer.event(Event::Notice(said));
        }
        start_weights_sha256 = Some(network.weights_sha256());
    }
    let optimizer =
        Optimizer::new(experiment.train.optimizer, experiment.train.weight_decay).averaging(experiment.train.ema_decay);
    let scale = match (resolved.activations, experiment.precision.loss_scale) {
        (Activations::F16, Auto::Auto) => LossScale::dynamic(),
        (Activations::F16, Auto::Value(scale)) => LossScale::fixed(scale),
        _ => LossScale::none(),
    };

    let folder = match options.ranks.is_first() {
        true => RunFolder::take(path, options.resume)?,
        false => RunFolder::of_another_rank(path),
    };
    let mut manifest = Manifest::new(options, &resolved, shown, store.contents(), &split, network.parameter_count())?;
    manifest.split = record;
    manifest.left_out_cases.clone_from(&data.left_out);
    manifest.dataset_from_run = way(path, &options.dataset, &experiment.data.dataset);
    manifest.start_weights_sha256 = start_weights_sha256;
    manifest.planned_parts = watch.as_ref().map(|watch| PlannedPart::all(&watch.fit)).unwrap_or_default();
    manifest.planned_peak_bytes = watch.as_ref().map(|watch| watch.fit.peak());
    let settings = StepSettings {
        effective: experiment.batch.effective,
        micro: resolved.micro,
        recompute: resolved.recompute(),
        patch: resolved.patch,
        activations: crate::device::float_type(resolved.activations),
        ignore: dataset.ignore,
        regions: resolved.regions.clone(),
        batch_dice: experiment.train.batch_dice,
        loss_scale: 1.0,
        device,
        ranks: options.ranks.clone(),
    };
    let stretches = settings.stretches(&network);
    manifest.samples_per_rank = stretches.iter().map(|stretch| stretch.samples.len()).collect();
    let end = stretches[options.ranks.place().index].samples.end;
    let sampler = Sampler {
        seed: experiment.train.seed,
        effective_batch: experiment.batch.effective,
        foreground: experiment.sampling.foreground,
        source: source_size(&experiment.augment, resolved.patch),
        patch: resolved.patch,
    };
    let samples = Samples::new(&store, &split.train, sampler, experiment.augment.clone())
        .watched(shown.cases.iter().map(|case| case.id.as_str()))?;
    let mut run = Loop {
        observer,
        stop,
        folder,
        dataset: shown,
        resolved: &resolved,
        split: &split,
        samples,
        settings,
        end,
        network,
        optimizer,
        scale,
        manifest,
        step: 0,
        best: None,
        averaged: false,
        config_sha256: config_sha256(&resolved)?,
        deadline: data.deadline,
        watch,
        keep: None,
        run_peak: None,
        images: options.images && !options.anonymous_cases,
        scalars: None,
    };
    run.agree(&run.identity(options))?;
    if options.resume
        && let Some(outcome) = run.resume()?
    {
        return Ok(outcome);
    }
    if let Some(file) = split_file {
        run.folder.write(SPLIT_FILE, &file)?;
    }
    if options.tensorboard {
        run.follow();
    }
    run.begin(&LoadedRun::new(&resolved, dataset, fingerprint, split.validates_on_training_cases))?;
    on_worker(|| run.steps())
}

/// Does what leaves something in the cache on one rank of each machine first: the others find it there.
fn in_turn<T>(
    ranks: &Ranks,
    stop: &AtomicBool,
    mut work: impl FnMut() -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    let go_on = || if stop.load(Ordering::Relaxed) { Err(TrainError::Stopped) } else { Ok(()) };
    let first = ranks.on_this_machine().index == 0;
    let done = if first { Some(work()?) } else { None };
    ranks.meet(go_on)?;
    match done {
        Some(done) => Ok(done),
        None => work(),
    }
}
