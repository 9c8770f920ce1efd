//! `dataset.json` in MSD and nnU-Net v2 form.
mod groups;
mod labels;
mod msd;
mod nnunet;
mod regions;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use self::labels::Classes;
use super::{Case, Channel, Dataset, DatasetError, Fault, Region, Remap};
use crate::files::read_at_most;
use crate::shown::short;

/// The file that describes a dataset, in the dataset's folder.
pub(super) const DESCRIPTION: &str = "dataset.json";

/// A description is text that a person could read; a larger file is something else. A hundred thousand cases take this
/// much, and a JSON tree takes some twenty times its text.
const MAX_DESCRIPTION: u64 = 16 << 20;

/// Cases and files of a description at most, so that lists of nothing do not fill the memory with faults.
const MAX_CASES: usize = 100_000;
const MAX_FILES: usize = 1_000_000;

/// Characters in the name of a class or a channel, and bytes in a path.
const MAX_NAME: usize = 200;
const MAX_PATH: usize = 1000;

/// Missing files of one case that are named one by one.
const MAX_MISSING: usize = 8;

/// nnU-Net numbers channels with four digits.
const MAX_CHANNELS: usize = 10_000;

/// A dataset's folder as it is read: every fault is kept, so that the doctor can name all of them.
struct Folder<'a> {
    root: &'a Path,
    json: PathBuf,
    faults: Vec<Fault>,
}

impl Folder<'_> {
    /// A fault of `dataset.json`.
    fn fault(&mut self, field: impl Into<String>, problem: impl Into<String>, cure: impl Into<String>) {
        // They may repeat what the description holds, and that may be long.
        let [field, problem, cure] =
            [(field.into(), 100), (problem.into(), 400), (cure.into(), 800)].map(|(text, most)| short(&text, most));
        let error = DatasetError::invalid(&self.json, field, problem, cure);
        self.faults.push((String::new(), error));
    }

    fn case_fault(&mut self, case: &str, error: DatasetError) {
        self.faults.push((case.to_string(), error));
    }
}

/// Reads the description in `root` and looks for the files it names. The dataset holds the cases whose files are all
/// there; it is `None` where its channels, its classes or its cases cannot be made out. Without a fault it is complete.
pub(super) fn read(root: &Path, remap: &Remap) -> (Option<Dataset>, Vec<Fault>) {
    let mut folder = Folder { root, json: root.join(DESCRIPTION), faults: Vec::new() };
    let dataset = match description(&folder.json) {
        Ok((description, labels)) => describe(&mut folder, &description, &labels, remap),
        Err(error) => {
            folder.case_fault("", error);
            None
        }
    };
    (dataset, folder.faults)
}

/// The regions that a description (its text) names, with values as they are after `remap`, and the ignore label; `None` where
/// it names none, or none that can be used.
pub(super) fn regions_of(text: &[u8], remap: &Remap) -> Option<(Vec<Region>, Option<u16>)> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let description: Map<String, Value> = serde_json::from_slice(text).ok()?;
    let mut folder = Folder { root: Path::new(""), json: PathBuf::new(), faults: Vec::new() };
    let found = labels::read(&mut folder, &description, &regions::names_in_order(text), remap)?;
    (!found.regions.is_empty()).then_some((found.regions, found.ignore))
}

/// The description, and the names under `labels` in the order in which they were written: that of regions counts.
fn description(json: &Path) -> Result<(Map<String, Value>, Vec<String>), DatasetError> {
    let metadata = fs::metadata(json).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => DatasetError::invalid(
            json,
            "file",
            "is not there",
            "name the folder that holds dataset.json in the Medical Segmentation Decathlon or the nnU-Net v2 layout",
        ),
        _ => DatasetError::Io { path: json.to_path_buf(), source },
    })?;
    if !metadata.is_file() {
        return Err(DatasetError::invalid(json, "file", "is no file", "name the folder of a dataset"));
    }
    if metadata.len() > MAX_DESCRIPTION {
        let problem = format!("has {} bytes, too large for a description", metadata.len());
        return Err(DatasetError::invalid(json, "file", problem, "name the folder of a dataset"));
    }
    let bytes = read_at_most(json, MAX_DESCRIPTION).map_err(DatasetError::io(json))?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let description = serde_json::from_slice(text).map_err(|error| {
        DatasetError::invalid(json, "JSON", short(&error.to_string(), 400), "correct it at this place")
    })?;
    Ok((description, regions::names_in_order(text)))
}

fn describe(
    folder: &mut Folder<'_>,
    description: &Map<String, Value>,
    order: &[String],
    remap: &Remap,
) -> Option<Dataset> {
    let has = |key: &str| description.contains_key(key);
    let classes = labels::read(folder, description, order, remap);
    let by_value = description.get("labels").is_some_and(labels::is_by_value);
    // Keys of both kinds occur together in converted datasets: the labels' direction and the list of cases decide.
    let is_msd = has("training") && (by_value || !has("channel_names"));
    if !is_msd && !has("channel_names") && !has("file_ending") {
        folder.fault(
            "training",
            "neither a list of cases (Medical Segmentation Decathlon) nor channel_names and file_ending (nnU-Net v2)",
            "complete the description in one of the two forms",
        );
        return None;
    }
    let channels = channels(folder, description, is_msd);
    let (classes, channels) = (classes?, channels?);
    let mut cases = if is_msd {
        msd::cases(folder, description, channels.len())
    } else {
        nnunet::cases(folder, description, channels.len())
    }?;
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    refuse_equal_ids(folder, &mut cases);
    let Classes { names: classes, ignore, regions } = classes;
    let groups = groups::read(folder, description);
    Some(Dataset {
        root: folder.root.to_path_buf(),
        name: name(folder.root, description),
        channels,
        classes,
        ignore,
        regions,
        cases,
        groups,
        remap: remap.clone(),
    })
}

fn name(root: &Path, description: &Map<String, Value>) -> String {
    let named = description.get("name").and_then(Value::as_str).map(str::trim).filter(|name| !name.is_empty());
    let folder = || root.canonicalize().ok()?.file_name()?.to_str().map(str::to_string);
    short(&named.map(str::to_string).or_else(folder).unwrap_or_else(|| "dataset".to_string()), MAX_NAME)
}

/// `{"0": "T1", "1": "FLAIR"}` under `modality` (MSD) or `channel_names` (nnU-Net).
fn channels(folder: &mut Folder<'_>, description: &Map<String, Value>, is_msd: bool) -> Option<Vec<Channel>> {
    let keys = if is_msd { ["modality", "channel_names"] } else { ["channel_names", "modality"] };
    let field = keys.into_iter().find(|key| description.contains_key(*key)).unwrap_or(keys[0]);
    const CURE: &str = "write it as {\"0\": \"T1\", \"1\": \"FLAIR\"}, numbered from 0 without a gap";
    let Some(Value::Object(entries)) = description.get(field) else {
        let problem = if description.contains_key(field) { "is no table" } else { "is missing" };
        folder.fault(field, problem, CURE);
        return None;
    };
    if entries.is_empty() || entries.len() > MAX_CHANNELS {
        folder.fault(field, format!("names {} channels", entries.len()), CURE);
        return None;
    }
    let mut channels = Vec::with_capacity(entries.len());
    for index in 0..entries.len() {
        match entries.get(&index.to_string()) {
            Some(Value::String(name)) => {
                if too_long(folder, &format!("{field}.{index}"), name) {
                    return None;
                }
                channels.push(Channel { name: name.clone(), is_ct: name.eq_ignore_ascii_case("CT") });
            }
            Some(_) => {
                folder.fault(format!("{field}.{index}"), "is no text", CURE);
                return None;
            }
            None => {
                let problem = format!("has {} entries but none for channel {index}", entries.len());
                folder.fault(field, problem, CURE);
                return None;
            }
        }
    }
    Some(channels)
}

/// Whether the name of a class or channel is none; says so in `folder`.
fn too_long(folder: &mut Folder<'_>, field: &str, name: &str) -> bool {
    let too_long = name.len() > MAX_NAME && name.chars().nth(MAX_NAME).is_some();
    if too_long {
        folder.fault(field, format!("is a name of more than {MAX_NAME} characters"), "give it a short name");
    }
    too_long
}

fn refuse_equal_ids(folder: &mut Folder<'_>, cases: &mut Vec<Case>) {
    let mut kept: Vec<Case> = Vec::with_capacity(cases.len());
    for case in cases.drain(..) {
        if kept.last().is_some_and(|last| last.id == case.id) {
            let file = case.images.first().unwrap_or(&case.label);
            let problem = format!("two cases are called {}", case.id);
            let error = DatasetError::invalid(
                file,
                "training",
                problem,
                "list every case once and give each file its own name",
            );
            folder.case_fault(&case.id, error);
        } else {
            kept.push(case);
        }
    }
    *cases = kept;
}

/// Looks whether all of `files` are there; names those of them that are not, the first [`MAX_MISSING`] one by one.
fn are_there(folder: &mut Folder<'_>, case: &str, files: &[PathBuf], what: &str) -> bool {
    let mut missing = 0;
    for file in files {
        // Further ones are counted alone.
        missing += usize::from(match missing < MAX_MISSING {
            true => !is_there(folder, case, file, what),
            false => !file.is_file(),
        });
    }
    more_missing(folder, case, files.first(), what, missing);
    missing == 0
}

/// Says how many of a case's files are missing beyond those named one by one.
fn more_missing(folder: &mut Folder<'_>, case: &str, first: Option<&PathBuf>, what: &str, missing: usize) {
    if let Some(file) = first.filter(|_| missing > MAX_MISSING) {
        let problem = format!("{} more files of the case are not there", missing - MAX_MISSING);
        folder.case_fault(case, DatasetError::invalid(file, what, problem, "add them, or leave the case out"));
    }
}

/// Looks whether `path` is a file; says so in `folder` where it is not.
fn is_there(folder: &mut Folder<'_>, case: &str, path: &Path, what: &str) -> bool {
    let error = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => return true,
        Ok(_) => DatasetError::invalid(path, what, "is no file", "name a NIfTI file"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            DatasetError::invalid(path, what, "is not there", "add the file, or leave the case out of the dataset")
        }
        Err(source) => DatasetError::Io { path: path.to_path_buf(), source },
    };
    folder.case_fault(case, error);
    false
}

fn plural(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}
