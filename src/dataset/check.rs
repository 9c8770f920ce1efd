//! The dataset doctor: every fault at once.
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::prepare::{self, Preparation};
use super::{Case, DEFAULT_MEMORY, Dataset, DatasetError, Fault, layout, parallel, read};
use crate::shown::line as shown;
use crate::volume::{self, VolumeError};

/// One fault and its cure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Empty where the fault is the dataset's.
    pub case: String,
    /// Relative to the dataset's folder.
    pub file: String,
    pub field: String,
    pub problem: String,
    pub cure: String,
}

/// Looks at `root` as [`Dataset::open`] does, but goes on after a fault: names every fault of the description and every
/// missing file, then those of every case whose files are there.
pub fn check_folder(root: &Path) -> Vec<Finding> {
    let (dataset, faults) = layout::read(root);
    let complete = faults.is_empty();
    let mut findings = findings(root, &faults);
    if let Some(dataset) = dataset {
        findings.extend(look(&dataset, complete));
    }
    findings
}

/// Faults as findings, with files relative to `root`.
pub fn findings(root: &Path, faults: &[Fault]) -> Vec<Finding> {
    faults.iter().map(|(case, fault)| finding(root, case, fault)).collect()
}

/// Every fault of the cases that training or preparing would end at, in the order of cases. A constant image, say, is none.
///
/// # Errors
/// [`DatasetError::Stopped`], once `stop` is raised.
pub fn unusable(dataset: &Dataset, stop: &AtomicBool) -> Result<Vec<Fault>, DatasetError> {
    let costs: Vec<u64> = dataset.cases.iter().map(cost).collect();
    let looked = parallel::run(&costs, DEFAULT_MEMORY, |index| {
        if stop.load(Ordering::Relaxed) {
            return Err(DatasetError::Stopped);
        }
        let case = &dataset.cases[index];
        let read = read::channels(&case.images, dataset.channels.len())
            .and_then(|raw| read::labels(case, &raw.geometry, dataset.classes.len(), dataset.ignore));
        Ok(match read {
            Ok(_) => Vec::new(),
            Err(error) => match look_at(dataset, case).faults {
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
    dataset.cases.iter().filter_map(fault).collect()
}

/// Looks at every case; an empty list is a clean dataset. Findings are in the order of cases.
pub fn check(dataset: &Dataset) -> Vec<Finding> {
    look(dataset, true)
}

/// `complete`: whether `dataset` has all its cases, so that a class without a voxel has none anywhere.
fn look(dataset: &Dataset, complete: bool) -> Vec<Finding> {
    let costs: Vec<u64> = dataset.cases.iter().map(cost).collect();
    let looked: Result<Vec<Looked>, Infallible> =
        parallel::run(&costs, DEFAULT_MEMORY, |index| Ok(look_at(dataset, &dataset.cases[index])));
    let Ok(looked) = looked;

    let mut findings = Vec::new();
    for (case, looked) in dataset.cases.iter().zip(&looked) {
        findings.extend(looked.faults.iter().map(|fault| finding(&dataset.root, &case.id, fault)));
    }
    let seen: Option<Vec<&Vec<bool>>> = looked.iter().map(|looked| looked.classes.as_ref()).collect();
    if let Some(seen) = seen.filter(|seen| complete && !seen.is_empty()) {
        for (class, name) in dataset.classes.iter().enumerate().skip(1) {
            if !seen.iter().any(|classes| classes[class]) {
                let fault = DatasetError::invalid(
                    dataset.root.join(layout::DESCRIPTION),
                    format!("labels.{class}"),
                    format!("class {class} ({name}) has no voxel in any case"),
                    "remove the class, or add cases that show it",
                );
                findings.push(finding(&dataset.root, "", &fault));
            }
        }
    }
    findings
}

struct Looked {
    faults: Vec<DatasetError>,
    /// Whether each class has a voxel; None where the label map could not be read.
    classes: Option<Vec<bool>>,
}

fn look_at(dataset: &Dataset, case: &Case) -> Looked {
    let mut faults = Vec::new();
    let mut first = None;
    let channels = dataset.channels.len();
    faults.extend(case.images.first().and_then(|file| read::wrong_file_count(file, case.images.len(), channels)));
    for file in &case.images {
        let header = match volume::read_header(file) {
            Ok(header) => header,
            Err(error) => {
                faults.push(error.into());
                continue;
            }
        };
        let wrong = read::wrong_volumes(file, &header, case.images.len(), channels);
        let sound = wrong.is_none();
        faults.extend(wrong);
        match &first {
            None => first = Some((file, header.geometry)),
            Some((other, geometry)) => faults.extend(read::grids_differ(file, &header.geometry, geometry, other)),
        }
        if sound {
            look_at_voxels(file, header.volumes, &mut faults);
        }
    }
    let classes = match volume::read_header(&case.label) {
        Ok(header) => {
            let wrong = read::wrong_volumes(&case.label, &header, 1, 1);
            let sound = wrong.is_none();
            faults.extend(wrong);
            if let Some((other, geometry)) = &first {
                faults.extend(read::grids_differ(&case.label, &header.geometry, geometry, other));
            }
            sound.then(|| look_at_labels(dataset, case, &mut faults)).flatten()
        }
        Err(error) => {
            faults.push(error.into());
            None
        }
    };
    Looked { faults, classes }
}

fn look_at_voxels(file: &Path, volumes: usize, faults: &mut Vec<DatasetError>) {
    let channels = if volumes == 1 {
        volume::read_image(file).map(|image| image.data.insert_axis(ndarray::Axis(0)))
    } else {
        volume::read_channels(file).map(|(data, ..)| data)
    };
    match channels {
        Ok(channels) => {
            for channel in channels.outer_iter() {
                faults.extend(read::not_finite(file, channel).or_else(|| read::constant(file, channel)));
            }
        }
        Err(error) => faults.push(error.into()),
    }
}

fn look_at_labels(dataset: &Dataset, case: &Case, faults: &mut Vec<DatasetError>) -> Option<Vec<bool>> {
    match volume::read_labels(&case.label) {
        Ok(labels) => {
            let counts = read::histogram(labels.data.view());
            faults.extend(read::unexpected_values(&case.label, &counts, dataset.classes.len(), dataset.ignore));
            Some(counts[..dataset.classes.len()].iter().map(|&count| count > 0).collect())
        }
        Err(error) => {
            faults.push(error.into());
            None
        }
    }
}

/// Bytes that looking at one file of `case` takes: the largest of them, and reading it.
fn cost(case: &Case) -> u64 {
    let files = case.images.iter().chain([&case.label]);
    let largest = files
        .filter_map(|file| volume::read_header(file).ok())
        .map(|header| read::voxels(header.geometry.size).saturating_mul(header.volumes as u64));
    largest.max().unwrap_or(0).saturating_mul(12)
}

fn finding(root: &Path, case: &str, fault: &DatasetError) -> Finding {
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
    Finding { case: case.to_string(), file, field, problem, cure }
}

/// The findings as lines for a person: case and file once, then what is wrong and what to do, one fault a line.
pub fn text(findings: &[Finding]) -> String {
    let head = |finding: &Finding| [shown(&finding.case), shown(&finding.file)];
    let width = |column: usize| findings.iter().map(|finding| head(finding)[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1)];
    let mut lines = String::new();
    let mut before = None;
    for finding in findings {
        let names = head(finding);
        let repeated = before.as_ref() == Some(&names);
        for (name, width) in names.iter().zip(widths).filter(|(_, width)| *width > 0) {
            let name = if repeated { "" } else { name };
            lines.push_str(&format!("{name:width$}  "));
        }
        lines.push_str(&format!("{}: {}; {}\n", shown(&finding.field), shown(&finding.problem), shown(&finding.cure)));
        before = Some(names);
    }
    lines
}
