//! `predict.json`: what made the label maps of a folder, and by it which of them need not be made again.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::postprocess::Postprocessing;
use super::{CheckpointName, InputCase, PredictError};
use crate::files::{hex, read_at_most, write_bytes};

/// Bytes of a `predict.json`; a hundred thousand cases take less.
const MAX_FILE: u64 = 256 << 20;

/// `predict.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub voxfit: String,
    pub git_revision: String,
    pub run: PathBuf,
    pub checkpoint: CheckpointName,
    /// One per network that was averaged.
    pub weights_sha256: Vec<String>,
    /// Of the `plan.toml` of each.
    pub plan_sha256: Vec<String>,
    pub steps: Vec<u64>,
    pub device: String,
    pub tta: bool,
    pub overlap: f64,
    pub probabilities: bool,
    pub postprocessing: Postprocessing,
    /// By label value.
    pub classes: Vec<String>,
    /// In order of their label maps' names.
    pub cases: Vec<CaseRecord>,
    /// Of the last time that something was predicted into this folder.
    pub failed: Vec<Failure>,
}

/// One case of `predict.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseRecord {
    pub case: String,
    pub files: Vec<PathBuf>,
    /// Of each of `files`; empty where one is no regular file.
    pub files_sha256: Vec<String>,
    pub output: PathBuf,
    /// By name, of the label map and of probabilities.
    pub outputs_sha256: BTreeMap<String, String>,
    pub warnings: Vec<String>,
    pub seconds: f64,
}

/// A case that has no label map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub case: String,
    pub files: Vec<PathBuf>,
    /// What was wrong, and what to do.
    pub error: String,
}

impl Record {
    /// Whether the same input would give the same bytes under both.
    fn is_alike(&self, other: &Self) -> bool {
        let program = |record: &Self| (record.voxfit.clone(), record.git_revision.clone(), record.device.clone());
        let networks = |record: &Self| (record.weights_sha256.clone(), record.plan_sha256.clone());
        let options = |record: &Self| (record.tta, record.probabilities);
        program(self) == program(other)
            && networks(self) == networks(other)
            && options(self) == options(other)
            // A number may come back from JSON with another last bit.
            && (self.overlap - other.overlap).abs() < 1e-12
            && self.postprocessing.rule == other.postprocessing.rule
            && self.classes == other.classes
    }
}

/// The record of a folder while it grows: it is written after every case, so that whatever ends the process, what was
/// done by then is known.
pub struct Book {
    path: PathBuf,
    record: Record,
    /// By the file name of the label map.
    cases: BTreeMap<String, CaseRecord>,
}

impl Book {
    /// Goes on with the record at `path` where it was made alike; `record` says how this time.
    pub fn open(path: PathBuf, record: Record) -> Self {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let old = read_at_most(&path, MAX_FILE).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        let cases = old.filter(|old| old.is_alike(&record)).map(|old| old.cases).unwrap_or_default();
        let named = cases.into_iter().map(|case| (name_of(&case.output), case));
        let cases = named.filter(|(name, _)| folder.join(name).is_file()).collect();
        Self { path, record, cases }
    }

    /// Whether what lies at `output` is, to the byte, what predicting the case would put there: its input files and what
    /// was made of them are the recorded ones.
    pub fn has(&self, case: &InputCase, output: &Path) -> bool {
        let folder = output.parent().unwrap_or(Path::new(""));
        let Some(old) = self.cases.get(&name_of(output)) else { return false };
        let same = |path: &Path, sha256: &String| digest(path).is_ok_and(|digest| digest == *sha256);
        old.case == case.id
            && old.files_sha256.len() == case.files.len()
            && !old.outputs_sha256.is_empty()
            && old
                .outputs_sha256
                .iter()
                .all(|(name, sha256)| name_of(Path::new(name)) == *name && same(&folder.join(name), sha256))
            && case.files.iter().zip(&old.files_sha256).all(|(file, sha256)| same(file, sha256))
    }

    /// Takes down a case that is done, and writes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn done(&mut self, case: CaseRecord) -> Result<(), PredictError> {
        self.cases.insert(name_of(&case.output), case);
        self.write()
    }

    /// Takes down a case that could not be predicted, and writes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn failed(&mut self, failure: Failure) -> Result<(), PredictError> {
        self.record.failed.push(failure);
        self.write()
    }

    /// Writes what is known.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&mut self) -> Result<(), PredictError> {
        self.record.cases = self.cases.values().cloned().collect();
        let text = serde_json::to_string_pretty(&self.record).unwrap_or_default() + "\n";
        write_bytes(&self.path, text.as_bytes()).map_err(|source| PredictError::Io { path: self.path.clone(), source })
    }

    /// All that is known.
    pub fn close(self) -> Record {
        self.record
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// SHA-256 of a regular file's bytes.
///
/// # Errors
/// Another kind of file; those of the file system.
pub fn digest(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for its writer, and reading it take what is meant for the prediction.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut bytes = vec![0; 1 << 18];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&bytes[..count]),
        }
    }
}

/// Digests of several files; none where one has none.
pub fn digests(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|file| digest(file)).collect::<io::Result<_>>().unwrap_or_default()
}
