//! A run folder as it is read, which is never written to.
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::ReproduceError;
use crate::train::checkpoint::{self, Checkpoint};
use crate::train::{Manifest, checkpoint_path};

/// What a run says of itself.
#[derive(Debug)]
pub struct Record {
    /// The run folder.
    pub folder: PathBuf,
    /// `manifest.json`.
    pub manifest: Manifest,
    /// The digest of the weights after each step that `metrics.jsonl` has one of.
    pub digests: BTreeMap<u64, String>,
    /// Steps that `metrics.jsonl` tells of.
    pub steps: u64,
}

impl Record {
    /// Reads manifest and metrics of a run folder.
    ///
    /// # Errors
    /// A folder that is no run folder, that holds the folds of a cross-validation, or whose files cannot be read.
    pub fn read(folder: &Path) -> Result<Self, ReproduceError> {
        let path = folder.join("manifest.json");
        if !path.is_file() {
            return Err(no_run(folder));
        }
        let unreadable = |path: &Path, problem: String| {
            ReproduceError::run(path, problem, "train again, or restore the file from a backup")
        };
        let text = fs::read(&path).map_err(|error| unreadable(&path, error.to_string()))?;
        let manifest = serde_json::from_slice(&text).map_err(|error| unreadable(&path, error.to_string()))?;
        let path = folder.join("metrics.jsonl");
        let (digests, steps) = match fs::File::open(&path) {
            Ok(file) => digests(BufReader::new(file)).map_err(|error| unreadable(&path, error.to_string()))?,
            // A run that was stopped before its first step has none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(unreadable(&path, error.to_string())),
        };
        Ok(Self { folder: folder.to_owned(), manifest, digests, steps })
    }

    /// [`Self::read`] of a run that is done.
    ///
    /// # Errors
    /// As [`Self::read`]; a run that is not done.
    pub fn read_finished(folder: &Path) -> Result<Self, ReproduceError> {
        let record = Self::read(folder)?;
        if !record.is_finished() {
            let problem = format!("the run is unfinished, after {} of {} steps", record.steps, record.manifest.steps);
            return Err(ReproduceError::run(folder, problem, "go on with it by `voxfit train ... --resume` first"));
        }
        Ok(record)
    }

    /// Whether the weights of the last step are there.
    pub fn is_finished(&self) -> bool {
        !self.manifest.weights_sha256.is_empty()
    }

    /// The weights of the last step, which must be those that the manifest speaks of.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, or of other weights.
    pub fn weights(&self) -> Result<Checkpoint, ReproduceError> {
        let path = checkpoint_path(&self.folder, "last");
        let checkpoint = checkpoint::load_weights(&path)?;
        if checkpoint.state.weights_sha256 != self.manifest.weights_sha256 {
            let problem = "the weights are not those that manifest.json speaks of (weights_sha256 differs)";
            return Err(ReproduceError::run(path, problem, "restore the run folder from a backup, or train again"));
        }
        Ok(checkpoint)
    }
}

fn no_run(folder: &Path) -> ReproduceError {
    let (problem, cure) = match () {
        () if !folder.exists() => ("no such folder", "give the run folder of a training"),
        () if folder.join("fold_0").is_dir() => {
            ("the folder holds the folds of a cross-validation", "give one of them, as in RUN/fold_0")
        }
        () => ("no run folder, since there is no manifest.json", "give the run folder of a training"),
    };
    ReproduceError::run(folder, problem, cure)
}

/// By step, and the last step there is a line of.
fn digests(metrics: impl BufRead) -> std::io::Result<(BTreeMap<u64, String>, u64)> {
    #[derive(serde::Deserialize)]
    struct Line {
        step: u64,
        loss: Option<serde_json::Value>,
        weights_digest: Option<String>,
    }
    let (mut digests, mut steps) = (BTreeMap::new(), 0);
    for line in metrics.lines() {
        // A line cut short by the death of a process is none, and of a step told twice the later line holds.
        let Ok(line) = serde_json::from_str::<Line>(&line?) else { continue };
        if line.loss.is_none() {
            continue;
        }
        steps = steps.max(line.step);
        if let Some(digest) = line.weights_digest {
            digests.insert(line.step, digest);
        }
    }
    Ok((digests, steps))
}
