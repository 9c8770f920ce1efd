//! A run made once more in a scratch folder, every step's weights held against the record.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use super::{Record, ReproduceError, inputs};
use crate::config::{Auto, Config, Device, Memory, NormName};
use crate::dataset::store::default_root;
use crate::ranks::Ranks;
use crate::train::checkpoint::load_weights;
use crate::train::{self, Event, Manifest, Observer, Options, Outcome, StepReport, checkpoint_path};

/// The arguments of a repetition.
#[derive(Clone, Debug, PartialEq)]
pub struct AgainOptions {
    /// The run folder.
    pub run: PathBuf,
    /// The dataset's folder, where the run's records do not lead to it.
    pub data: Option<PathBuf>,
    /// The last step to make; the schedule stays that of the whole run.
    pub stop_after: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every step up to `step` gave the recorded weights.
    Same {
        /// The last step that was made.
        step: u64,
        /// Of the whole run.
        steps: u64,
        /// Of the last step, where the run is done and was made to its end.
        weights_sha256: Option<String>,
    },
    /// The weights after this step are not the recorded ones; those after every step before are.
    Parted {
        /// The first that differs.
        step: u64,
        /// Digest of the weights in the run's `metrics.jsonl`.
        recorded: String,
        /// Digest of the weights now.
        found: String,
    },
    /// Asked to stop; the steps up to this one gave the recorded weights.
    Stopped {
        /// Steps made.
        step: u64,
        /// Of the whole run.
        steps: u64,
    },
}

/// Repeats the run. `stop` asks for an end in order, and is raised here when enough is known. `scratch` is told the folder
/// that the repetition is written to, which is removed before this returns.
///
/// # Errors
/// A folder that is no run or has nothing to compare with, data that is not what the run was trained on (by name), and
/// those of training.
pub fn again(
    options: &AgainOptions,
    observer: &dyn Observer,
    stop: &AtomicBool,
    scratch: &dyn Fn(&Path),
) -> Result<Verdict, ReproduceError> {
    let record = Record::read(&options.run)?;
    let last = last_step(&record, options.stop_after)?;
    repeatable(&record)?;
    tell_version(&record.manifest, observer);
    let mut config = Config::load(&options.run.join("config.toml"), &[])?;
    let folder = inputs::find(&record, &config, options.data.as_deref())?;
    let (dataset, shown) = train::as_recorded(&folder, &config.experiment.data.remap, &record.manifest)?;
    inputs::verify(&record, &shown, dataset.contents_memoised(&default_root())?)?;

    let experiment = &mut config.experiment;
    // Nobody looks at the repetition's figures, and it is not gone on with.
    (experiment.train.validate_every, experiment.train.checkpoint_every) = (u64::MAX, u64::MAX);
    if record.manifest.norm.used != NormName::Batch {
        // As this machine has room: no bit depends on it.
        experiment.batch.micro = Auto::Auto;
        experiment.memory = Memory { recompute: Auto::Auto, ..experiment.memory.clone() };
    }
    let scratch_folder = scratch_beside(&options.run)?;
    scratch(scratch_folder.path());
    let run = scratch_folder.path().join("run");
    let training = Options {
        config,
        dataset: folder,
        run: run.clone(),
        each_fold: false,
        seeds: None,
        anonymous_cases: record.manifest.anonymous_cases,
        resume: false,
        weights: None,
        device: Device::Cpu,
        max_time: None,
        images: false,
        tensorboard: false,
        ranks: Ranks::alone(),
    };
    let check = Check { observer, record: &record, run: &run, last, stop, found: Mutex::default() };
    let outcome = train::run(&training, &check, stop);
    let Found { step, parted, refused } = check.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(problem) = refused {
        return Err(ReproduceError::run(&options.run, problem, "restore the run folder from a backup, or train again"));
    }
    if let Some((step, found)) = parted {
        let recorded = record.digests.get(&step).cloned().unwrap_or_default();
        return Ok(Verdict::Parted { step, recorded, found });
    }
    let outcome = outcome?;
    let steps = record.manifest.steps;
    if step < last {
        return Ok(Verdict::Stopped { step, steps });
    }
    let weights_sha256 = match outcome {
        _ if step < steps || !record.is_finished() => None,
        Outcome::Finished { weights_sha256, .. } => Some(weights_sha256),
        Outcome::Stopped { .. } => Some(load_weights(&checkpoint_path(&run, "last"))?.state.weights_sha256),
    };
    match weights_sha256 {
        // A quick digest can be the same by chance, this one not.
        Some(found) if found != record.manifest.weights_sha256 => {
            Ok(Verdict::Parted { step, recorded: record.manifest.weights_sha256, found })
        }
        weights_sha256 => Ok(Verdict::Same { step, steps, weights_sha256 }),
    }
}

/// The last step to make, up to which there is a digest of every one.
fn last_step(record: &Record, stop_after: Option<u64>) -> Result<u64, ReproduceError> {
    let (steps, made) = (record.manifest.steps, record.steps);
    let last = stop_after.unwrap_or(made);
    let refused = |problem: String, cure: &str| Err(ReproduceError::run(&record.folder, problem, cure));
    if last > steps {
        return refused(format!("the run has {steps} steps, and --stop-after asks for {last}"), "ask for fewer");
    }
    if made == 0 || last > made {
        return refused(
            format!("the run is unfinished, after {made} of {steps} steps"),
            "ask for no more than that by --stop-after",
        );
    }
    if (1..=last).any(|step| !record.digests.contains_key(&step)) {
        let problem = "metrics.jsonl has no digest of every step's weights, as an older version wrote it";
        return refused(problem.to_owned(), "train again with this version");
    }
    Ok(last)
}

/// What can be repeated at all.
fn repeatable(record: &Record) -> Result<(), ReproduceError> {
    let manifest = &record.manifest;
    if manifest.determinism != "bitwise" {
        let problem = format!("it was trained on {}, where the same bits are not promised", manifest.device);
        return Err(ReproduceError::run(
            &record.folder,
            problem,
            "train on --device cpu for a run that can be repeated",
        ));
    }
    if manifest.start_weights_sha256.is_some() {
        let cure =
            "repeat it by `voxfit train RUN/config.toml --weights FILE --data DIR --run OTHER` and compare the two";
        return Err(ReproduceError::run(
            &record.folder,
            "it started from the weights of a file, which is not kept",
            cure,
        ));
    }
    if manifest.volumes_sha256.is_empty() {
        let problem = "manifest.json has no digests of the volumes, as an older version wrote it";
        return Err(ReproduceError::run(&record.folder, problem, "train again with this version"));
    }
    Ok(())
}

/// Bits are promised for one version; another may give the same.
fn tell_version(manifest: &Manifest, observer: &dyn Observer) {
    let revision = env!("VOXFIT_GIT_REVISION");
    if manifest.voxfit != crate::VERSION || manifest.git_revision != revision {
        let theirs = format!("{} (revision {})", manifest.voxfit, manifest.git_revision);
        let text = format!("the run was made by voxfit {theirs}, this is {} (revision {revision})", crate::VERSION);
        observer.event(Event::Notice(text));
    }
}

/// On the disk that holds such a run already, or where temporary files go.
fn scratch_beside(run: &Path) -> Result<TempDir, ReproduceError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".voxfit-reproduce-");
    let beside = run.canonicalize().ok().and_then(|run| builder.tempdir_in(run.parent()?).ok());
    match beside {
        Some(folder) => Ok(folder),
        None => builder.tempdir().map_err(|source| ReproduceError::Scratch { path: std::env::temp_dir(), source }),
    }
}

/// Passes on what happens, and ends the repetition when enough is known.
struct Check<'a> {
    observer: &'a dyn Observer,
    record: &'a Record,
    /// The repetition's folder.
    run: &'a Path,
    last: u64,
    stop: &'a AtomicBool,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// The last step that gave the recorded weights.
    step: u64,
    /// The first step that did not, and its digest.
    parted: Option<(u64, String)>,
    /// Why the record does not belong to its configuration.
    refused: Option<String>,
}

impl Check<'_> {
    fn note(&self, note: impl FnOnce(&mut Found)) {
        note(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The repetition's manifest is written by now: what it was told must be what the record says.
    fn start(&self) {
        let text = std::fs::read(self.run.join("manifest.json")).unwrap_or_default();
        let Ok(ours) = serde_json::from_slice::<Manifest>(&text) else { return };
        let theirs = &self.record.manifest;
        let what = match () {
            () if ours.config_sha256 != theirs.config_sha256 => "config.toml",
            () if ours.split_sha256 != theirs.split_sha256 => "the split into cases to train on and held out",
            () => return,
        };
        let version = match ours.voxfit == theirs.voxfit {
            true => String::new(),
            false => format!(" (it was made by voxfit {}, this is {})", theirs.voxfit, ours.voxfit),
        };
        self.note(|found| found.refused = Some(format!("{what} is not what manifest.json has a digest of{version}")));
        self.end();
    }

    fn step(&self, report: &StepReport) {
        if self.record.digests.get(&report.step) != Some(&report.weights_digest) {
            self.note(|found| found.parted = Some((report.step, report.weights_digest.clone())));
            return self.end();
        }
        self.note(|found| found.step = report.step);
        if report.step == self.last {
            self.end();
        }
    }
}

impl Observer for Check<'_> {
    fn event(&self, event: Event<'_>) {
        match &event {
            Event::Start { .. } => self.start(),
            Event::Step(report) => self.step(report),
            _ => {}
        }
        self.observer.event(event);
    }
}
