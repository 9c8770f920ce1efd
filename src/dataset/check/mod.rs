//! The dataset doctor: every fault at once, and what is worth a look.
mod across;
mod case;
mod patients;
mod room;
mod text;

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::prepare::{self, Preparation};
use super::split::SplitFile;
use super::{Case, DEFAULT_MEMORY, Dataset, DatasetError, Fault, Remap, layout, parallel, read};
use crate::volume::{self, VolumeError};

use case::Looked;
pub use room::Room;
pub use text::text;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be mended before a training: it would be refused, or learn what is wrong.
    Fault,
    /// Worth a look; a training works.
    Warning,
}

/// One fault or warning and its cure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether a training has to wait for it.
    pub severity: Severity,
    /// Empty where the fault is the dataset's.
    pub case: String,
    /// Relative to the dataset's folder.
    pub file: String,
    /// What of the file is at fault, as in `pixdim` or `labels`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub cure: String,
}

/// What the doctor is told beside the folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// As `data.remap`.
    pub remap: Remap,
    /// As `data.group`.
    pub group: String,
    /// The file of `data.split`, where it is one.
    pub split: Option<SplitFile>,
    /// As `data.spacing`, mm, x, y, z; none for the rule's.
    pub spacing: Option<[f64; 3]>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Cases that were looked at: those of which every file is there.
    pub cases: usize,
    /// Faults of the description, then those of cases in their order, then what all cases together show.
    pub findings: Vec<Finding>,
    /// What preparing takes; none where no case can be prepared.
    pub room: Option<Room>,
}

impl Report {
    /// How many findings are of `severity`.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Looks at `root` as [`Dataset::open`] does, but goes on after a fault: names every fault of the description and every
/// missing file, then those of every case whose files are there, then what only all cases together show. `progress` is
/// told how many cases are done, and of how many, from any thread.
pub fn examine(root: &Path, asked: &Asked, progress: &(dyn Fn(usize, usize) + Sync)) -> Report {
    let (dataset, faults) = layout::read(root, &asked.remap);
    let complete = faults.is_empty();
    let mut report = Report { findings: findings(root, &faults), ..Report::default() };
    if let Some(dataset) = dataset {
        let (of_cases, whole, room) = look(&dataset, complete, asked, progress);
        report.cases = dataset.cases.len();
        report.findings.extend(of_cases);
        // What belongs to no case by now is a fault of the description, and comes first.
        report.findings.sort_by(|a, b| a.case.cmp(&b.case));
        report.findings.extend(whole);
        report.room = room;
    }
    report
}

/// [`examine`] with nothing told: the findings alone.
pub fn check_folder(root: &Path) -> Vec<Finding> {
    examine(root, &Asked::default(), &|_, _| {}).findings
}

/// Faults as findings, with files relative to `root`.
pub fn findings(root: &Path, faults: &[Fault]) -> Vec<Finding> {
    faults.iter().map(|(case, fault)| finding(root, Severity::Fault, case, fault)).collect()
}

/// Every fault of the cases that training or preparing would end at, in the order of cases. A constant image, say, is none.
///
/// # Errors
/// [`DatasetError::Stopped`], once `stop` is raised.
pub fn unusable(dataset: &Dataset, stop: &AtomicBool) -> Result<Vec<Fault>, DatasetError> {
    let looked = parallel::run(&costs(dataset), DEFAULT_MEMORY, |index| {
        if stop.load(Ordering::Relaxed) {
            return Err(DatasetError::Stopped);
        }
        let case = &dataset.cases[index];
        let read = read::channels(&case.images, dataset.channels.len())
            .and_then(|raw| read::labels(case, &dataset.remap, &raw.geometry, dataset.classes.len(), dataset.ignore));
        Ok(match read {
            Ok(_) => Vec::new(),
            Err(error) => match case::look_at(dataset, case).faults {
                faults if faults.is_empty() => vec![error],
                faults => faults,
            },
        })
    })?;
    let cases = dataset.cases.iter().zip(looked);
    Ok(cases.flat_map(|(case, faults)| faults.into_iter().map(|fault| (case.id.clone(), fault))).collect())
}

/// Cases that cannot be brought to the grid of `preparation`, by their headers.
pub fn unpreparable(dataset: &Dataset, preparation: &Preparation) -> Vec<Fault> {
    let fault = |case: &Case| Some((case.id.clone(), prepare::expected(&case.images, preparation).err()?));
    dataset.cases.par_iter().filter_map(fault).collect()
}

/// Looks at every case; an empty list is a clean dataset. Findings are in the order of cases.
pub fn check(dataset: &Dataset) -> Vec<Finding> {
    let (of_cases, whole, _) = look(dataset, true, &Asked::default(), &|_, _| {});
    [of_cases, whole].concat()
}

/// Findings of the cases in order, then those of all together. `complete`: whether `dataset` has all its cases, so that a class without a voxel has none anywhere.
fn look(
    dataset: &Dataset,
    complete: bool,
    asked: &Asked,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> (Vec<Finding>, Vec<Finding>, Option<Room>) {
    let (done, total) = (AtomicUsize::new(0), dataset.cases.len());
    let looked: Result<Vec<Looked>, Infallible> = parallel::run(&costs(dataset), DEFAULT_MEMORY, |index| {
        let looked = case::look_at(dataset, &dataset.cases[index]);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        Ok(looked)
    });
    let Ok(mut looked) = looked;
    let mut whole = across::look(dataset, complete, &mut looked);
    whole.extend(patients::look(dataset, complete, asked));
    let room = room::look(dataset, &looked, asked.spacing);
    whole.extend(room.iter().flat_map(|room| room.lacking(dataset)).map(|lack| (Severity::Warning, lack)));

    let mut findings = Vec::new();
    let root = &dataset.root;
    for (case, looked) in dataset.cases.iter().zip(&looked) {
        let of = |severity| move |fault| finding(root, severity, &case.id, fault);
        let mut of_case: Vec<Finding> = looked.faults.iter().map(of(Severity::Fault)).collect();
        of_case.extend(looked.warnings.iter().map(of(Severity::Warning)));
        of_case.sort_by(|a, b| a.file.cmp(&b.file));
        findings.extend(of_case);
    }
    let whole = whole.iter().map(|(severity, fault)| finding(root, *severity, "", fault)).collect();
    (findings, whole, room)
}

/// Bytes that looking at one file of each case takes: the largest of them, and reading it.
fn costs(dataset: &Dataset) -> Vec<u64> {
    let cost = |case: &Case| {
        let files = case.images.iter().chain([&case.label]);
        let largest = files
            .filter_map(|file| volume::read_header(file).ok())
            .map(|header| read::voxels(header.geometry.size).saturating_mul(header.volumes as u64));
        largest.max().unwrap_or(0).saturating_mul(12)
    };
    dataset.cases.par_iter().map(cost).collect()
}

fn finding(root: &Path, severity: Severity, case: &str, fault: &DatasetError) -> Finding {
    let (path, field, problem, cure) = match fault {
        DatasetError::Invalid { path, field, problem, cure }
        | DatasetError::Volume(VolumeError::Invalid { path, field, problem, cure }) => {
            (path, field.clone(), problem.clone(), cure.clone())
        }
        DatasetError::Io { path, source }
        | DatasetError::Cache { path, source }
        | DatasetError::Volume(VolumeError::Io { path, source }) => {
            (path, "file".into(), source.to_string(), "check that it exists and can be read".into())
        }
        DatasetError::Stopped => (&root.to_path_buf(), "check".into(), "stopped".into(), "start it again".into()),
    };
    let file = path.strip_prefix(root).unwrap_or(path).display().to_string();
    Finding { severity, case: case.to_string(), file, field, problem, cure }
}
