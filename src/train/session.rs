//! A training from its options to its outcome.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) use super::data::Data;
use super::folder::{LoadedRun, RunFolder, Series};
use super::folds::{self, FoldsSummary};
use super::held_out::{SPLIT_FILE, SplitRecord};
use super::manifest::{Manifest, PlannedPart, config_sha256, way};
use super::optimizer::Optimizer;
use super::precision::LossScale;
use super::recovery::Watch;
use super::run_loop::Loop;
use super::seeds::{self, SeedsSummary};
use super::start::start_from;
use super::step::StepSettings;
use super::validation::ValidationResult;
use super::{Samples, TrainError};
use crate::config::{Activations, Auto, Config, ConfigError, Device, Fold, Resolved, SplitBy, resolve};
use crate::dataset::split::Split;
use crate::dataset::store::Store;
use crate::dataset::{DEFAULT_MEMORY, DatasetError};
use crate::memory::fit::Fit;
use crate::memory::planner::{self, Room};
use crate::network::UNet;
use crate::ops::cpu::pool;
use crate::ops::cpu::worker::on_worker;
use crate::patch::augment::source_size;
use crate::patch::sampler::Sampler;
use crate::predict::check_validation;
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

/// What a person is told while a training runs.
pub enum Event<'a> {
    /// One sentence.
    Notice(String),
    /// One sentence about what is not as it should be.
    Warning(String),
    /// Cases brought to the plan's grid.
    Preparing {
        /// Cases that are ready.
        done: usize,
        /// Cases in all.
        total: usize,
    },
    /// Everything is decided; the first step follows.
    Start {
        /// Every value of the run.
        resolved: &'a Resolved,
        /// Learnt numbers.
        parameters: usize,
        /// Which cases are held out.
        split: &'a Split,
        /// Complete steps: 0, or those of the checkpoint that is gone on from.
        step: u64,
        /// Of the whole run.
        steps: u64,
    },
    /// A step is complete.
    Step(&'a StepReport),
    /// Validation cases done.
    Validating {
        /// Cases that are done.
        done: usize,
        /// Cases in all.
        total: usize,
    },
    /// A validation is done; `last` at the end of the run.
    Validation {
        /// Dice by class, and their mean.
        result: &'a ValidationResult,
        /// There were fewer cases than folds: the figures are no measure of unseen cases.
        on_training_cases: bool,
        /// Over all held-out cases, at the end.
        last: bool,
    },
    /// All seeds are done.
    Seeds(&'a SeedsSummary),
    /// All folds are done.
    Folds(&'a FoldsSummary),
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StepReport {
    /// Complete steps.
    pub step: u64,
    /// Mean over the effective batch.
    pub loss: f64,
    /// Of this step.
    pub learning_rate: f64,
    /// From the first sample to the updated weights.
    pub seconds: f64,
    /// Samples of the effective batch over `seconds`.
    pub samples_per_second: f64,
    /// Peak resident memory of the step.
    pub peak_bytes: Option<u64>,
    /// Peak resident memory of the process so far.
    pub run_peak_bytes: Option<u64>,
    /// Of the weights after the step: a quick digest, by which two runs are held against each other step by step.
    pub weights_digest: String,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// f16 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// The gradient was not finite: no update was made, the loss scale was halved.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// Told of progress; called from one thread but for [`Event::Preparing`].
pub trait Observer: Sync {
    /// Something happened; what takes time here holds the training up.
    fn event(&self, event: Event<'_>);
}

/// How a training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps are done, and so is the final validation.
    Finished {
        /// Over the weights of the last step.
        weights_sha256: String,
        /// Of the final validation; none where nothing is defined or held out.
        mean_dice: Option<f64>,
    },
    /// In order, after `step` complete steps, which the checkpoint holds.
    Stopped {
        /// Complete steps.
        step: u64,
        /// Of the whole run.
        steps: u64,
        /// None where the stop came before the first step and there is no run folder yet.
        run: Option<PathBuf>,
        /// Ranks whose end was the reason, by number, process and machine, as far as it can be seen from here.
        gone: Vec<String>,
    },
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
    let optimizer = Optimizer::new(experiment.train.optimizer, experiment.train.weight_decay);
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

/// What a run will be, before any case is prepared.
pub(super) struct Decided {
    pub resolved: Resolved,
    /// On the processor.
    pub levers: Option<(Fit, Room)>,
    pub device: burn::tensor::Device,
    pub split: Split,
    pub split_record: SplitRecord,
    /// The file that it was read from: the run has a copy, so that it can be repeated wherever it lies.
    pub split_file: Option<Vec<u8>>,
}

/// Decides it, so that what cannot be is said at once. Writes nothing.
pub(super) fn decide(
    options: &Options,
    path: &Path,
    data: &Data,
    fold: Fold,
    observer: &dyn Observer,
) -> Result<Decided, TrainError> {
    let Data { dataset, shown, fingerprint, .. } = data;
    let mut resolved = resolve(&options.config.experiment, fingerprint, dataset)?;
    let levers = set_levers(&mut resolved, options)?;
    for swap in &resolved.norm.swaps {
        tracing::info!("{swap}");
    }
    let device = crate::device::open(options.device).map_err(|problem| wrong(path, problem))?;
    crate::device::check_type(&device, options.device, resolved.activations).map_err(|problem| wrong(path, problem))?;
    let number = match fold {
        Fold::One(number) => Some(number),
        Fold::All => None,
    };
    let (split, split_record) = data.held_out.split(data, &resolved.experiment, number, observer)?;
    let split_file = data.held_out.file(data);
    if split_file.is_some() {
        resolved.experiment.data.split = SplitBy::File(SPLIT_FILE.to_owned());
    }
    if let Some((_, room)) = &levers {
        let validated = split.validation.iter().map(|case| &shown.cases[*case]);
        let files = validated.map(|case| (case.id.as_str(), case.images.as_slice()));
        check_validation(room, &resolved, files)?;
    }
    Ok(Decided { resolved, levers, device, split, split_record, split_file })
}

/// Levers are set for the processor, whose memory is the process's.
fn set_levers(resolved: &mut Resolved, options: &Options) -> Result<Option<(Fit, Room)>, ConfigError> {
    if options.device != Device::Cpu {
        return Ok(None);
    }
    let written = &options.config.experiment;
    // What looking through the cases has left behind is none of the run's.
    pool::release();
    let room = Room::here(written);
    let room = room.of_rank(options.ranks.place(), resolved).beside(options.ranks.on_this_machine().count, written);
    Ok(Some((planner::set_levers(resolved, written, &room)?, room)))
}

/// What was chosen, and what it will hold.
fn tell_levers(fit: &Fit, observer: &dyn Observer) {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let (peak, place) = (gib(fit.peak()), &fit.step.place);
    let text = format!("memory: {}; at most {peak:.2} GiB during steps ({place})", planner::describe(fit.levers));
    observer.event(Event::Notice(text));
}

fn wrong(path: &Path, problem: String) -> TrainError {
    TrainError::run(path, "nothing was trained", problem)
}
