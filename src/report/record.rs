//! A run folder as a page sees it: whatever of it is there yet.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Metrics, ReportError};
use crate::config::Experiment;
use crate::evaluate::Summary;
use crate::files::read_at_most;
use crate::predict::postprocess::{self, Findings};
use crate::stack::with_room;
use crate::train::{LoadedRun, Manifest, TrainError, is_running, load_run};

/// Bytes of `manifest.json` and of each file in `validation`; a dataset of 100 000 cases has less.
const MAX_JSON: u64 = 64 << 20;
/// Bytes of a configuration.
const MAX_CONFIG: u64 = 64 << 10;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All steps are done.
    Finished,
    /// A process works in its folder.
    Running,
    /// Neither: stopped in order, or ended by a fault.
    Stopped,
}

impl State {
    /// As shown: `finished`, `running` or `stopped`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// What lies in a run folder.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The run folder.
    pub folder: PathBuf,
    /// The folder's name; for a fold or a seed with that of the folder around it.
    pub name: String,
    /// `manifest.json`.
    pub manifest: Manifest,
    /// `plan.toml`.
    pub plan: LoadedRun,
    /// `config.toml`, as values.
    pub experiment: Experiment,
    /// `config.toml` as it is.
    pub config: String,
    /// `metrics.jsonl`; empty before the first step.
    pub metrics: Metrics,
    /// Figures of the final validation.
    pub summary: Option<Summary>,
    /// Whether keeping the largest parts alone raises Dice; none before the final validation, and of older versions.
    pub postprocessing: Option<Findings>,
}

impl RunRecord {
    /// # Errors
    /// A folder that is no run, or whose files cannot be read.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join("manifest.json");
        if !path.is_file() {
            let problem =
                if folder.exists() { "no run folder, since there is no manifest.json" } else { "no such folder" };
            return Err(ReportError::run(folder, problem, "give the run folder of a training"));
        }
        let manifest: Manifest = json(&path, None)?;
        // Where the run is of another version, a backup would not help.
        let version = Some(manifest.voxfit.as_str());
        let plan = load_run(folder).map_err(|error| match error {
            TrainError::Run { path, problem, .. } if of_another_version(version) => damaged(&path, problem, version),
            other => other.into(),
        })?;
        let path = folder.join("config.toml");
        let damaged = |problem: String| damaged(&path, problem, version);
        let bytes = read_at_most(&path, MAX_CONFIG).map_err(|error| damaged(error.to_string()))?;
        let config = String::from_utf8(bytes).map_err(|_| damaged("not UTF-8 text".into()))?;
        let experiment = with_room(config.len(), || toml::from_str::<Experiment>(&config))
            .map_err(|error| damaged(error.to_string()))?
            .map_err(|error| damaged(error.message().to_owned()))?;
        let path = folder.join("metrics.jsonl");
        let metrics = Metrics::read(&path).map_err(|source| ReportError::Io { path, source })?;
        let summary = json_if_there(&folder.join("validation/summary.json"), version)?;
        let postprocessing = json_if_there(&folder.join(postprocess::FILE), version)?;
        let (folder, name) = (folder.to_owned(), name(folder));
        Ok(Self { folder, name, manifest, plan, experiment, config, metrics, summary, postprocessing })
    }

    /// Whether the weights of the last step are there.
    pub fn is_finished(&self) -> bool {
        !self.manifest.weights_sha256.is_empty()
    }

    /// As the folder is now: another process may hold it.
    pub fn state(&self) -> State {
        match () {
            () if self.is_finished() => State::Finished,
            () if is_running(&self.folder) => State::Running,
            () => State::Stopped,
        }
    }

    /// Mean Dice of the final validation, else of the last one, with its step.
    pub fn mean_dice(&self) -> Option<(f64, u64)> {
        let last = || self.metrics.validations.last().and_then(|last| Some((last.mean_dice?, last.step)));
        self.manifest.mean_dice.map(|dice| (dice, self.manifest.steps)).or_else(last)
    }

    /// The most that was measured, in bytes.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.metrics.peak_bytes.max(self.metrics.run_peak_bytes).max(self.manifest.run_peak_bytes)
    }

    /// Cases by numbers, as `train --anonymous-cases` would have written them: in the order of all ids that the run knows.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        if self.manifest.anonymous_cases {
            return self;
        }
        let manifest = &mut self.manifest;
        let left_out = manifest.left_out_cases.iter().map(|left| &left.case);
        let ids = manifest.train_cases.iter().chain(&manifest.validation_cases).chain(left_out);
        let ids: std::collections::BTreeSet<String> = ids.cloned().collect();
        let digits = ids.len().to_string().len().max(3);
        let number = |(at, id): (usize, String)| (id, format!("case_{:0digits$}", at + 1));
        let shown: BTreeMap<String, String> = ids.into_iter().enumerate().map(number).collect();
        let hide = |id: &mut String| *id = shown.get(id).cloned().unwrap_or_else(|| "case".to_owned());
        manifest.train_cases.iter_mut().chain(&mut manifest.validation_cases).for_each(hide);
        for left in &mut manifest.left_out_cases {
            hide(&mut left.case);
            // A reason may name files.
            left.reason = "see manifest.json".to_owned();
        }
        manifest.volumes_sha256.clear();
        if let Some(summary) = &mut self.summary {
            summary.cases.iter_mut().for_each(|case| hide(&mut case.case));
            summary.worst_case.iter_mut().for_each(hide);
        }
        if let Some(findings) = &mut self.postprocessing {
            findings.cases.iter_mut().for_each(|case| hide(&mut case.case));
        }
        manifest.anonymous_cases = true;
        self
    }
}

/// `seeds/seed_3` for a member of a series, else the last name of the path.
fn name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or(folder.to_owned());
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let own = last(&folder);
    match folder.parent() {
        Some(parent) if is_member(&own) => format!("{}/{own}", last(parent)),
        _ => own,
    }
}

/// Whether a folder of this name is a fold or a seed.
pub(super) fn is_member(name: &str) -> bool {
    let number = name.strip_prefix("fold_").or_else(|| name.strip_prefix("seed_"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The run in `folder`, or its folds or seeds in the order of their numbers.
///
/// # Errors
/// A folder without a run, or one that cannot be read.
pub fn runs_in(folder: &Path) -> Result<Vec<RunRecord>, ReportError> {
    if folder.join("manifest.json").is_file() {
        return Ok(vec![RunRecord::read(folder)?]);
    }
    let mut members: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let own = entry.file_name().to_string_lossy().into_owned();
        if is_member(&own) && entry.path().join("manifest.json").is_file() {
            members.push((own[5..].parse().unwrap_or(u64::MAX), entry.path()));
        }
    }
    members.sort();
    match members.is_empty() {
        // Says what is wrong with it.
        true => RunRecord::read(folder).map(|run| vec![run]),
        false => members.iter().map(|(_, path)| RunRecord::read(path)).collect(),
    }
}

/// Of a run that `version` made, where that is known.
fn json<T: serde::de::DeserializeOwned>(path: &Path, version: Option<&str>) -> Result<T, ReportError> {
    let bytes = read_at_most(path, MAX_JSON).map_err(|error| damaged(path, error.to_string(), version))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        // A manifest that another version wrote may lack what this one wants, and still say who wrote it.
        let said = || serde_json::from_slice::<Writer>(&bytes).ok().and_then(|writer| writer.voxfit);
        damaged(path, error.to_string(), version.map(str::to_owned).or_else(said).as_deref())
    })
}

fn json_if_there<T: serde::de::DeserializeOwned>(path: &Path, version: Option<&str>) -> Result<Option<T>, ReportError> {
    if path.exists() { json(path, version).map(Some) } else { Ok(None) }
}

/// Who wrote a manifest.
#[derive(serde::Deserialize)]
struct Writer {
    voxfit: Option<String>,
}

fn of_another_version(version: Option<&str>) -> bool {
    version.is_some_and(|version| version != crate::VERSION)
}

fn damaged(path: &Path, problem: String, version: Option<&str>) -> ReportError {
    let cure = match version {
        Some(version) if of_another_version(Some(version)) => format!(
            "the run is of voxfit {} and this is {}: look at it with that version",
            crate::shown::short(version, 40),
            crate::VERSION
        ),
        _ => "restore the file from a backup, or train again".to_owned(),
    };
    ReportError::run(path, problem, cure)
}
