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
    /// [`crate::RESEARCH_USE`]: the file goes with label maps wherever they go.
    #[serde(default)]
    pub notice: String,
    /// Version of the program.
    pub voxfit: String,
    /// Commit that it was built from, `unknown` without one.
    pub git_revision: String,
    /// Run folder or model file, as given.
    pub run: PathBuf,
    /// Which weights of the run.
    pub checkpoint: CheckpointName,
    /// One per network that was averaged.
    pub weights_sha256: Vec<String>,
    /// Of the `plan.toml` of each.
    pub plan_sha256: Vec<String>,
    /// Steps that each network was trained for.
    pub steps: Vec<u64>,
    /// What computed.
    pub device: String,
    /// Whether scores were averaged over mirrorings.
    pub tta: bool,
    /// Share of a tile that neighbours have in common.
    pub overlap: f64,
    /// Whether they were written.
    pub probabilities: bool,
    /// What was done to label maps, and why.
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
    /// The case's id.
    pub case: String,
    /// As given, one per channel or one for all.
    pub files: Vec<PathBuf>,
    /// Of each of `files`; empty where one is no regular file.
    pub files_sha256: Vec<String>,
    /// The label map.
    pub output: PathBuf,
    /// By name, of the label map and of probabilities.
    pub outputs_sha256: BTreeMap<String, String>,
    /// What is not as in training, a sentence each: spacing, intensities.
    pub warnings: Vec<String>,
    /// From reading the case to its label map.
    pub seconds: f64,
}

/// A case that has no label map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The case's id.
    pub case: String,
    /// As given.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            notice: crate::RESEARCH_USE.into(),
            voxfit: "1".into(),
            git_revision: "a".into(),
            run: "run".into(),
            checkpoint: CheckpointName::Last,
            weights_sha256: vec!["b".into()],
            plan_sha256: vec!["c".into()],
            steps: vec![1],
            device: "cpu".into(),
            tta: false,
            overlap: 0.3,
            probabilities: false,
            postprocessing: Postprocessing::none("test"),
            classes: vec!["background".into(), "liver".into()],
            cases: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// A folder with one case that is done.
    fn folder() -> (tempfile::TempDir, InputCase, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in.nii"), folder.path().join("a.nii.gz"));
        std::fs::write(&input, b"image").unwrap();
        std::fs::write(&output, b"labels").unwrap();
        let case = InputCase { id: "a".into(), files: vec![input] };
        let mut book = Book::open(folder.path().join("predict.json"), record());
        assert!(!book.has(&case, &output));
        let outputs_sha256 = BTreeMap::from([("a.nii.gz".to_owned(), digest(&output).unwrap())]);
        let files_sha256 = digests(&case.files);
        let (id, files) = (case.id.clone(), case.files.clone());
        let done = CaseRecord {
            case: id,
            files,
            files_sha256,
            output: output.clone(),
            outputs_sha256,
            warnings: Vec::new(),
            seconds: 1.0,
        };
        book.done(done).unwrap();
        (folder, case, output)
    }

    #[test]
    fn only_what_was_made_alike_counts() {
        let (folder, case, output) = folder();
        let path = folder.path().join("predict.json");
        let has = |change: fn(&mut Record)| {
            let mut record = record();
            change(&mut record);
            Book::open(path.clone(), record).has(&case, &output)
        };
        assert!(has(|_| ()));
        // Where the run lies and what its checkpoint is called make no label map another.
        assert!(has(|record| record.run = "moved".into()) && has(|record| record.checkpoint = CheckpointName::Best));
        let changes: [fn(&mut Record); 10] = [
            |record| record.voxfit = "2".into(),
            |record| record.git_revision = "b".into(),
            |record| record.weights_sha256.push("b".into()),
            |record| record.plan_sha256[0] = "d".into(),
            |record| record.device = "vulkan".into(),
            |record| record.tta = true,
            |record| record.overlap = 0.31,
            |record| record.probabilities = true,
            |record| record.postprocessing.rule.classes.push(1),
            |record| record.classes[1] = "spleen".into(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(!has(change), "change {number}");
        }
    }

    /// A record that was cut off or damaged makes nobody believe in a label map that is another.
    #[test]
    fn a_damaged_record_is_no_reason_to_skip() {
        let (folder, case, output) = folder();
        let path = folder.path().join("predict.json");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&output, b"lapels").unwrap();
        let believes = || Book::open(path.clone(), record()).has(&case, &output);
        for at in 0..whole.len() {
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(!believes(), "cut off at {at}");
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, &damaged).unwrap();
            assert!(!believes(), "damaged at {at}");
        }
        // A name that leads out of the folder is none of its files'.
        let elsewhere = String::from_utf8(whole).unwrap().replace("\"a.nii.gz\"", "\"../a.nii.gz\"");
        std::fs::write(&path, elsewhere).unwrap();
        std::fs::write(&output, b"labels").unwrap();
        assert!(!believes());
    }
}
