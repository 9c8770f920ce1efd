//! The run folder: what lies where in it, and who may write to it.
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::config::{Activations, Resolved};
use crate::dataset::fingerprint::{Fingerprint, Intensities};
use crate::dataset::prepare::Preparation;
use crate::dataset::{Dataset, Region, Remap};
use crate::evaluate::Summary;
use crate::files::{is_leftover, make_private, private_options, read_at_most, write_bytes_privately, write_privately};
use crate::network::plan::NetworkPlan;
use crate::stack::with_room;

/// Bytes of `plan.toml`; a thousand classes take less.
const MAX_PLAN: u64 = 256 << 10;

/// A run folder held by this process. It and all in it are their owner's alone: weights and figures come from patients.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Locked as long as it lives; the system lets go when the process dies. `None`: another rank of the job has the
    /// folder, and nothing is written here.
    lock: Option<File>,
}

/// `plan.toml`: what prediction needs to know beside the weights. Triples are z, y, x but for `spacing_range`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedRun {
    /// The network to build.
    pub network: NetworkPlan,
    /// Spacing and normalisation that a case is brought to.
    pub preparation: Preparation,
    /// Voxels, z, y, x.
    pub patch: [usize; 3],
    /// Type of what passes between layers.
    pub activations: Activations,
    /// Names, in the order of a case's files.
    pub channels: Vec<String>,
    /// By label value.
    pub classes: Vec<String>,
    /// Voxels of this label value counted for nothing in training.
    pub ignore: Option<u16>,
    /// What the network has an answer for in place of the classes; empty where it is these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// What values of label maps became: `evaluate --remap` does the same.
    #[serde(default, skip_serializing_if = "Remap::is_empty")]
    pub remap: Remap,
    /// Axes (z, y, x) that training mirrored: those that averaging over mirrorings may use.
    pub mirror_axes: [bool; 3],
    /// Whether scores are averaged over these mirrorings where nobody says otherwise: as the run's validation was.
    #[serde(default)]
    pub mirror: bool,
    /// Smallest and largest spacing trained on, mm, x, y, z.
    pub spacing_range: [[f64; 3]; 2],
    /// Foreground intensities of each channel.
    pub intensities: Vec<Intensities>,
    /// The final validation was on cases that were trained on.
    pub validates_on_training_cases: bool,
}

impl LoadedRun {
    /// As a run that was resolved from `dataset` writes it.
    pub fn new(resolved: &Resolved, dataset: &Dataset, fingerprint: &Fingerprint, on_training_cases: bool) -> Self {
        let extreme = |pick: fn(f64, f64) -> f64| {
            std::array::from_fn(|axis| {
                fingerprint.spacings.iter().map(|spacing| spacing[axis]).reduce(pick).unwrap_or(f64::NAN)
            })
        };
        Self {
            network: resolved.plan.clone(),
            preparation: resolved.preparation.clone(),
            patch: resolved.patch,
            activations: resolved.activations,
            channels: dataset.channels.iter().map(|channel| channel.name.clone()).collect(),
            classes: dataset.classes.clone(),
            ignore: dataset.ignore,
            regions: dataset.regions.clone(),
            remap: dataset.remap.clone(),
            mirror_axes: resolved.experiment.augment.mirrors(),
            mirror: resolved.experiment.predict.mirror,
            spacing_range: [extreme(f64::min), extreme(f64::max)],
            intensities: fingerprint.intensities.clone(),
            validates_on_training_cases: on_training_cases,
        }
    }
}

impl LoadedRun {
    /// Names of what the network has an answer for, in its order.
    pub fn outputs(&self) -> Vec<&str> {
        match self.regions[..] {
            [] => self.classes.iter().map(String::as_str).collect(),
            _ => self.regions.iter().map(|region| region.name.as_str()).collect(),
        }
    }

    /// Reads and checks the text of a `plan.toml`, which came from `path`.
    ///
    /// # Errors
    /// Text that is too long or no plan that a training leaves.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, TrainError> {
        let damaged = |problem: &str| TrainError::run(path, problem, CURE);
        if text.len() as u64 > MAX_PLAN {
            return Err(damaged("its plan is longer than one can be"));
        }
        let plan =
            with_room(text.len(), || toml::from_str::<Self>(text)).map_err(|error| damaged(&error.to_string()))?;
        let plan = plan.map_err(|error| damaged(error.message()))?;
        plan.check().map_err(|problem| damaged(&problem))?;
        Ok(plan)
    }

    /// Axes (z, y, x) to average mirrorings along, where that is done; `asked` has the word before the run's own setting.
    pub fn mirrored(&self, asked: Option<bool>) -> [bool; 3] {
        let wanted = asked.unwrap_or(self.mirror);
        self.mirror_axes.map(|trained| trained && wanted)
    }

    /// Label values to paint, in that order; `None` where the output of the highest score is the label.
    pub fn paint(&self) -> Option<Vec<u16>> {
        (!self.regions.is_empty()).then(|| self.regions.iter().map(|region| region.paint).collect())
    }
}

/// Reads `plan.toml` of a run folder. (TOML, because its floats come back bit for bit.)
///
/// # Errors
/// A folder that is no run folder, a file that cannot be read.
pub fn load_run(folder: &Path) -> Result<LoadedRun, TrainError> {
    let path = folder.join("plan.toml");
    let bytes = read_at_most(&path, MAX_PLAN).map_err(|error| {
        TrainError::run(&path, error.to_string(), "give the run folder of a training (`voxfit train` makes one)")
    })?;
    let text = String::from_utf8(bytes).map_err(|_| TrainError::run(&path, "not UTF-8 text", CURE))?;
    LoadedRun::parse(&path, &text)
}

const CURE: &str = "train again, or restore the file from a backup";

/// The final figures of a run; none where no case was held out. `cure` is what to do where they cannot be read.
pub(super) fn read_summary(folder: &Path, cure: &str) -> Result<Option<Summary>, TrainError> {
    let path = folder.join("validation/summary.json");
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(&path).map_err(TrainError::io(&path))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| TrainError::run(&path, error.to_string(), cure))
}

impl RunFolder {
    /// Takes `path` for this process: a new folder, or with `resume` one that is there.
    ///
    /// # Errors
    /// A folder that is there without `resume`, that another process works in, or that cannot be made.
    pub fn take(path: &Path, resume: bool) -> Result<Self, TrainError> {
        Self::refuse_existing(path, resume)?;
        make_private(path).map_err(TrainError::io(path))?;
        let lock_path = path.join(".lock");
        let lock = private_options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(TrainError::io(&lock_path))?;
        lock.try_lock().map_err(|_| {
            TrainError::run(
                path,
                "another voxfit works in this run folder",
                "wait for it, stop it, or give another --run",
            )
        })?;
        let folder = Self { path: path.to_owned(), lock: Some(lock) };
        folder.remove_leftovers();
        Ok(folder)
    }

    /// The folder that another rank of the job has taken: read here, and not written.
    pub fn of_another_rank(path: &Path) -> Self {
        Self { path: path.to_owned(), lock: None }
    }

    /// Whether this process writes here.
    pub fn is_taken(&self) -> bool {
        self.lock.is_some()
    }

    /// Removes what a killed process left half-written, which can be as large as a checkpoint each time.
    fn remove_leftovers(&self) {
        for name in ["", "validation", "checkpoints/last", "checkpoints/best"] {
            for entry in fs::read_dir(self.file(name)).into_iter().flatten().flatten() {
                let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                if is_file && entry.file_name().to_str().is_some_and(is_leftover) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    /// The refusal alone, before any work is done.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn refuse_existing(path: &Path, resume: bool) -> Result<(), TrainError> {
        if !occupied(path, resume)? || holds_run(path) {
            return Ok(());
        }
        let (problem, cure) = if Series::Folds.is_in(path) {
            ("the folder holds the folds of a cross-validation", "add --fold each, or give another --run")
        } else if Series::Seeds.is_in(path) {
            ("the folder holds a run for each of several seeds", "add --seeds N, or give another --run")
        } else {
            ("the folder holds no run", "give the run folder of a training")
        };
        Err(TrainError::run(path, problem, cure))
    }

    /// The same for a folder that holds several run folders.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn refuse_existing_series(path: &Path, resume: bool, series: Series) -> Result<(), TrainError> {
        if !occupied(path, resume)? || series.is_in(path) {
            return Ok(());
        }
        let (problem, cure) = match series {
            Series::Folds => (
                "the folder holds no folds of a cross-validation",
                "give the folder of a cross-validation, or leave out --fold each",
            ),
            Series::Seeds => {
                ("the folder holds no runs of several seeds", "give the folder of such runs, or leave out --seeds")
            }
        };
        Err(TrainError::run(path, problem, cure))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the run, by its name in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// `checkpoints/NAME/checkpoint.safetensors`.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        checkpoint_path(&self.path, name)
    }

    /// Writes a small file whole or not at all.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        if !self.is_taken() {
            return Ok(());
        }
        let path = self.file(name);
        write_bytes_privately(&path, bytes).map_err(TrainError::io(path))
    }

    /// Writes a value as indented JSON.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), TrainError> {
        let path = self.file(name);
        let text = serde_json::to_string_pretty(value).map_err(|e| TrainError::io(&path)(e.into()))?;
        self.write(name, format!("{text}\n").as_bytes())
    }

    /// Drops the lines of `metrics.jsonl` that a run resumed after `step` of `steps` writes again (later steps, and the
    /// final validation), and opens it for more. Says, too, whether the validation after `step` is among those kept.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn metrics(&self, step: u64, steps: u64) -> Result<(Metrics, bool), TrainError> {
        let path = self.file("metrics.jsonl");
        if !self.is_taken() {
            return Ok((Metrics { path, file: None }, false));
        }
        let old = fs::read(&path).unwrap_or_default();
        let mut validated = false;
        write_privately(&path, |file| {
            for line in String::from_utf8_lossy(&old).lines() {
                // A line cut short by the death of the process is none.
                let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { continue };
                let is_validation = value.get("mean_dice").is_some();
                match value.get("step").and_then(serde_json::Value::as_u64) {
                    Some(at) if at < step || (at == step && !(is_validation && at == steps)) => {
                        validated |= is_validation && at == step;
                        writeln!(file, "{line}")?;
                    }
                    _ => {}
                }
            }
            Ok::<_, std::io::Error>(())
        })
        .map_err(TrainError::io(&path))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(TrainError::io(&path))?;
        Ok((Metrics { path, file: Some(file) }, validated))
    }
}

/// Several run folders in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// `fold_K`, from 0.
    Folds,
    /// `seed_S`, from any number.
    Seeds,
}

impl Series {
    /// The folder of one of them.
    pub fn member(self, folder: &Path, number: u64) -> PathBuf {
        folder.join(format!("{}{number}", self.prefix()))
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Folds => "fold_",
            Self::Seeds => "seed_",
        }
    }

    fn is_in(self, folder: &Path) -> bool {
        let named =
            |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(self.prefix()));
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| named(&entry.path()) && holds_run(&entry.path()))
    }
}

/// Whether there is anything at `path`, which is refused without `resume`.
fn occupied(path: &Path, resume: bool) -> Result<bool, TrainError> {
    let occupied = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) if path.exists() => {
            return Err(TrainError::run(path, "there is something that is no folder", "give another --run"));
        }
        Err(_) => false,
    };
    if occupied && !resume {
        let cure = "add --resume to go on with it, or give another --run";
        return Err(TrainError::run(path, "the run folder exists", cure));
    }
    Ok(occupied)
}

/// A run folder has its lock from its first moment on.
fn holds_run(path: &Path) -> bool {
    path.join(".lock").is_file() || path.join("config.toml").is_file()
}

/// Whether a process works in the run folder at `path`.
pub fn is_running(path: &Path) -> bool {
    let lock = File::open(path.join(".lock"));
    // Shared, and let go at once: of all processes only one that starts in this very moment could be refused by it.
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Where a run folder's checkpoint lies.
pub fn checkpoint_path(folder: &Path, name: &str) -> PathBuf {
    folder.join("checkpoints").join(name).join("checkpoint.safetensors")
}

/// `metrics.jsonl`: one object a line.
pub struct Metrics {
    path: PathBuf,
    /// `None` where another rank writes.
    file: Option<File>,
}

impl Metrics {
    /// Adds a line.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add(&mut self, value: &impl Serialize) -> Result<(), TrainError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let line = serde_json::to_string(value).map_err(|error| TrainError::io(&self.path)(error.into()))?;
        writeln!(file, "{line}").map_err(TrainError::io(&self.path))
    }
}
