//! The runs under a folder, a row each; folds and seeds of one training together.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::record::is_member;
use super::{ReportError, RunRecord, State};
use crate::network::plan::Kind;
use crate::train::Spread;

/// Folders in each other that are looked into.
const DEPTH: usize = 4;
/// Folders that are looked into at most.
const FOLDERS: usize = 100_000;

/// One training: a run, or its folds or seeds.
#[derive(Clone, Debug, Serialize)]
pub struct ListedRun {
    /// From the folder that was given.
    pub name: String,
    /// Of several the least finished.
    pub state: String,
    /// Runs it is made of: 1, or the folds or seeds.
    pub runs: usize,
    /// Steps done, over all runs of the row.
    pub step: u64,
    /// Steps to do, over all runs of the row.
    pub steps: u64,
    /// `plain` or `resenc`.
    pub kind: String,
    /// Voxels x, y, z.
    pub patch: [usize; 3],
    /// Samples of a step.
    pub effective_batch: usize,
    /// Samples in memory at once.
    pub micro_batch: usize,
    /// The norm that is used.
    pub norm: String,
    /// Type of what passes between layers.
    pub activations: String,
    /// The most that any of them was measured to hold during steps.
    pub peak_bytes: Option<u64>,
    /// Mean over all steps that are done.
    pub seconds_per_step: Option<f64>,
    /// Of the final validation, or of the last one.
    pub mean_dice: Numbers,
    /// The step that the Dice is of, where the run goes on or stopped.
    pub dice_step: Option<u64>,
    /// The seed, or the weights of a file by the first digits of their digest.
    pub started_from: String,
    /// Seconds since 1970 of the last change.
    pub changed: u64,
}

/// Mean and standard deviation over folds or seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Numbers {
    /// None where no run has a value.
    pub mean: Option<f64>,
    /// Of a sample; none of fewer than two runs.
    pub sd: Option<f64>,
}

/// The order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// Best first.
    Dice,
    /// Newest first.
    Time,
    /// Ascending.
    Name,
}

/// All runs in `folder` and below, and what cannot be read of them, a sentence each.
///
/// # Errors
/// A folder that is not there.
pub fn list(folder: &Path, sort: SortBy) -> Result<(Vec<ListedRun>, Vec<String>), ReportError> {
    if !folder.is_dir() {
        return Err(ReportError::run(folder, "no such folder", "give a folder of runs, as in runs"));
    }
    let (mut rows, mut faults, mut left) = (Vec::new(), Vec::new(), FOLDERS);
    look(folder, String::new(), DEPTH, &mut left, &mut rows, &mut faults);
    rows.sort_by(|a: &ListedRun, b| a.name.cmp(&b.name));
    match sort {
        SortBy::Name => {}
        SortBy::Time => rows.sort_by_key(|row| std::cmp::Reverse(row.changed)),
        SortBy::Dice => {
            let dice = |row: &ListedRun| row.mean_dice.mean.unwrap_or(f64::NEG_INFINITY);
            rows.sort_by(|a, b| dice(b).total_cmp(&dice(a)));
        }
    }
    Ok((rows, faults))
}

fn look(
    folder: &Path,
    name: String,
    depth: usize,
    left: &mut usize,
    rows: &mut Vec<ListedRun>,
    faults: &mut Vec<String>,
) {
    if is_run(folder) {
        let own = || folder.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = if name.is_empty() { own().unwrap_or_default() } else { name };
        return add(name, &[folder.to_owned()], rows, faults);
    }
    let (mut members, mut others) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let own = entry.file_name().to_string_lossy().into_owned();
        // Links are not followed: they may lead back.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || own.starts_with('.') {
            continue;
        }
        *left = left.saturating_sub(1);
        if *left == 0 {
            return;
        }
        match is_member(&own) && is_run(&entry.path()) {
            true => members.push(entry.path()),
            false => others.push((own, entry.path())),
        }
    }
    members.sort();
    others.sort();
    if !members.is_empty() {
        let own = || folder.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = if name.is_empty() { own().unwrap_or_default() } else { name.clone() };
        add(name, &members, rows, faults);
    }
    for (own, path) in others {
        if depth > 0 {
            let name = if name.is_empty() { own } else { format!("{name}/{own}") };
            look(&path, name, depth - 1, left, rows, faults);
        }
    }
}

/// Other programs have a `manifest.json` as well. A run that has lost its configuration is one still, and a fault.
fn is_run(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("manifest.json") && (has("config.toml") || has("plan.toml"))
}

fn add(name: String, folders: &[PathBuf], rows: &mut Vec<ListedRun>, faults: &mut Vec<String>) {
    let mut runs = Vec::new();
    for folder in folders {
        match RunRecord::read(folder) {
            Ok(run) => runs.push(run),
            Err(error) => faults.push(error.to_string()),
        }
    }
    rows.extend(row(name, &runs));
}

fn row(name: String, runs: &[RunRecord]) -> Option<ListedRun> {
    let first = runs.first()?;
    let manifest = &first.manifest;
    let states: Vec<State> = runs.iter().map(RunRecord::state).collect();
    let state = [State::Running, State::Stopped].into_iter().find(|state| states.contains(state));
    let dice = Spread::new(runs.iter().map(|run| run.mean_dice().map_or(f64::NAN, |(dice, _)| dice)));
    let unfinished = runs.iter().find(|run| !run.is_finished());
    let seconds = runs.iter().map(|run| run.metrics.seconds).sum::<f64>();
    let lines = runs.iter().map(|run| run.metrics.lines).fold(0, u64::saturating_add);
    let started_from = match (&manifest.start_weights_sha256, runs.len()) {
        (Some(digest), _) => format!("weights {}", digest.chars().take(8).collect::<String>()),
        (None, 1) => format!("seed {}", manifest.seed),
        (None, count) => {
            let seeds: std::collections::BTreeSet<u64> = runs.iter().map(|run| run.manifest.seed).collect();
            if seeds.len() > 1 {
                format!("{} seeds", seeds.len())
            } else {
                format!("seed {}, {count} folds", manifest.seed)
            }
        }
    };
    Some(ListedRun {
        name,
        state: state.unwrap_or(State::Finished).name().to_owned(),
        runs: runs.len(),
        step: runs.iter().map(|run| run.metrics.step).fold(0, u64::saturating_add),
        steps: runs.iter().map(|run| run.manifest.steps).fold(0, u64::saturating_add),
        kind: match first.plan.network.kind {
            Kind::Plain => "plain".to_owned(),
            Kind::ResEnc => "resenc".to_owned(),
        },
        patch: crate::xyz(first.plan.patch),
        effective_batch: manifest.effective_batch,
        micro_batch: manifest.micro_batch,
        norm: manifest.norm.used.to_string(),
        activations: manifest.activations.clone(),
        peak_bytes: runs.iter().filter_map(|run| run.metrics.peak_bytes).max(),
        seconds_per_step: (lines > 0).then(|| seconds / lines as f64),
        mean_dice: Numbers { mean: dice.mean, sd: dice.sd },
        dice_step: unfinished.and_then(RunRecord::mean_dice).map(|(_, step)| step),
        started_from,
        changed: runs.iter().map(changed).max().unwrap_or(0),
    })
}

fn changed(run: &RunRecord) -> u64 {
    let of = |name: &str| fs::metadata(run.folder.join(name)).and_then(|metadata| metadata.modified()).ok();
    let latest = of("metrics.jsonl").max(of("manifest.json"));
    latest.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
}
