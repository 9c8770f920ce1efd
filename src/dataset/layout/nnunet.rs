//! nnU-Net v2's layout: `imagesTr/CASE_0000.nii.gz` per channel, `labelsTr/CASE.nii.gz`.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{Case, Folder, MAX_MISSING, more_missing, plural};
use crate::dataset::DatasetError;

/// What files may end in; of a pair either file stands for both.
const ENDINGS: [&str; 6] = [".nii.gz", ".nii", ".hdr", ".img", ".hdr.gz", ".img.gz"];

/// The cases whose files are there; `None` where the folders or the file ending cannot be made out.
pub(super) fn cases(folder: &mut Folder<'_>, description: &Map<String, Value>, channels: usize) -> Option<Vec<Case>> {
    let ending = match description.get("file_ending") {
        Some(Value::String(ending)) if ENDINGS.contains(&ending.as_str()) => ending,
        Some(other) => {
            folder.fault(
                "file_ending",
                format!("{other} is not read"),
                "convert the volumes to \".nii.gz\" or \".nii\"",
            );
            return None;
        }
        None => {
            folder.fault("file_ending", "is missing", "add \"file_ending\": \".nii.gz\"");
            return None;
        }
    };
    let images = list(folder, "imagesTr", ending)?;
    let labels: BTreeSet<String> = list(folder, "labelsTr", ending)?.into_iter().collect();

    let mut by_case: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for stem in images {
        match numbered(&stem) {
            Some((case, channel)) if channel < channels => {
                by_case.entry(case.to_string()).or_default().insert(channel);
            }
            numbered => {
                let file = folder.root.join("imagesTr").join(format!("{stem}{ending}"));
                let (case, problem, cure) = match numbered {
                    Some((case, channel)) => (
                        case,
                        format!("is channel {channel} but dataset.json names {}", plural(channels, "channel")),
                        format!("name the channel under \"{channel}\" in channel_names, or remove the file"),
                    ),
                    None => (
                        stem.as_str(),
                        "has no channel number".to_string(),
                        format!("call it {stem}_0000{ending} (one file per channel)"),
                    ),
                };
                folder.case_fault(case, DatasetError::invalid(file, "channel_names", problem, cure));
            }
        }
    }
    for orphan in labels.iter().filter(|label| !by_case.contains_key(*label)) {
        let file = folder.root.join("imagesTr").join(format!("{orphan}_0000{ending}"));
        missing(folder, orphan, file, "image");
    }
    let count = by_case.len();
    if count == 0 && folder.faults.is_empty() {
        folder.fault("imagesTr", "holds no case", format!("put the images there as CASE_0000{ending}"));
    }
    let mut cases = Vec::with_capacity(count);
    let root = folder.root;
    for (id, present) in by_case {
        let before = folder.faults.len();
        let image = |channel: usize| root.join("imagesTr").join(format!("{id}_{channel:04}{ending}"));
        let first_missing: Vec<usize> =
            (0..channels).filter(|channel| !present.contains(channel)).take(MAX_MISSING).collect();
        let files: Vec<PathBuf> = first_missing.into_iter().map(&image).collect();
        more_missing(folder, &id, files.first(), "image", channels - present.len());
        files.into_iter().for_each(|file| missing(folder, &id, file, "image"));
        let label = folder.root.join("labelsTr").join(format!("{id}{ending}"));
        if !labels.contains(&id) {
            missing(folder, &id, label.clone(), "label");
        }
        if folder.faults.len() == before {
            let images = (0..channels).map(image).collect();
            cases.push(Case { id, images, label });
        }
    }
    if let Some(named) = description.get("numTraining")
        && named.as_u64() != Some(count as u64)
    {
        folder.fault(
            "numTraining",
            format!("is {named} but imagesTr holds {}", plural(count, "case")),
            format!("add the cases that are missing, or set it to {count}"),
        );
    }
    Some(cases)
}

fn missing(folder: &mut Folder<'_>, case: &str, file: PathBuf, what: &str) {
    let error = DatasetError::invalid(file, what, "is not there", "add the file, or remove the case's other files");
    folder.case_fault(case, error);
}

/// Names of the files in `name` that end in `ending`, without it, in order; hidden files (macOS writes `._a.nii.gz`
/// beside `a.nii.gz`) are left out.
fn list(folder: &mut Folder<'_>, name: &str, ending: &str) -> Option<Vec<String>> {
    let path = folder.root.join(name);
    let entries = fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let cure = "put images into imagesTr and label maps into labelsTr beside dataset.json";
            folder.case_fault("", DatasetError::invalid(path, "folder", "is not there", cure));
            return None;
        }
        Err(source) => {
            folder.case_fault("", DatasetError::Io { path, source });
            return None;
        }
    };
    let mut stems = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            let cure = "rename the file with plain letters";
            folder.case_fault("", DatasetError::invalid(entry.path(), "file name", "is not UTF-8", cure));
            continue;
        };
        if let Some(stem) = name.strip_suffix(ending).filter(|stem| !stem.is_empty() && !name.starts_with('.'))
            && entry.path().is_file()
        {
            stems.push(stem.to_string());
        }
    }
    stems.sort_unstable();
    Some(stems)
}

/// `CASE_0003` as (`CASE`, 3).
fn numbered(stem: &str) -> Option<(&str, usize)> {
    let (case, digits) = stem.rsplit_once('_')?;
    let all_digits = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits && !case.is_empty()).then_some(())?;
    Some((case, digits.parse().ok()?))
}
