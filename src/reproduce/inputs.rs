//! Where a run's data lies, and whether it is what the run was trained on.
use std::path::{Component, Path, PathBuf};

use super::{Record, ReproduceError};
use crate::config::{Config, expand};
use crate::dataset::{Contents, Dataset};
use crate::train::Manifest;

/// The dataset's folder: as given, else where the run's records lead. A wrong guess is found out by [`verify`].
///
/// # Errors
/// No folder where the records lead.
pub(super) fn find(record: &Record, config: &Config, given: Option<&Path>) -> Result<PathBuf, ReproduceError> {
    dataset_of(&record.folder, &record.manifest, &config.experiment.data.dataset, given)
}

/// The same of the run in `folder`, whose configuration has the dataset `written` so.
///
/// # Errors
/// No folder where the records lead.
pub fn dataset_of(
    folder: &Path,
    manifest: &Manifest,
    written: &str,
    given: Option<&Path>,
) -> Result<PathBuf, ReproduceError> {
    if let Some(folder) = given {
        return match folder.is_dir() {
            true => Ok(folder.to_owned()),
            false => Err(ReproduceError::run(folder, "no such folder", "point --data at the dataset of the run")),
        };
    }
    let from_run = manifest.dataset_from_run.as_deref().map(|way| folder.join(way));
    // What was written is relative to a file that is not known; an absolute path needs none.
    let absolute = || expand(written, |name| std::env::var(name).ok()).ok().map(PathBuf::from);
    let absolute =
        absolute().filter(|path| matches!(path.components().next(), Some(Component::RootDir | Component::Prefix(_))));
    [from_run, absolute].into_iter().flatten().find(|folder| folder.join("dataset.json").is_file()).ok_or_else(|| {
        let problem = format!("the run does not say where its dataset (written as `{written}`) lies now");
        ReproduceError::run(folder, problem, "give its folder by --data DIR")
    })
}

/// Compares every volume with the manifest's digest of it. Cases of `dataset` have the names that the run wrote, those of
/// `found` may have others, in the same order.
///
/// # Errors
/// The first volume that is not what the run was trained on, by case and file.
pub(super) fn verify(record: &Record, dataset: &Dataset, found: Contents) -> Result<(), ReproduceError> {
    let names = dataset.cases.iter().map(|case| case.id.clone());
    let found = Contents { volumes: names.zip(found.volumes.into_values()).collect(), ..found };
    let expected = &record.manifest.volumes_sha256;
    let mut faults = Vec::new();
    for case in &dataset.cases {
        let id = &case.id;
        let Some(known) = expected.get(id) else {
            let problem = format!("case {id} is in the dataset now and was not when the run was trained");
            faults.push((case.label.clone(), problem));
            continue;
        };
        let digests = found.volumes.get(id);
        for (name, path) in dataset.volumes(case) {
            if known.get(&name) != digests.and_then(|digests| digests.get(&name)) {
                let problem = format!(
                    "{name} of case {id} is not the file that the run was trained on (its SHA-256 is not the manifest's)"
                );
                faults.push((path.to_owned(), problem));
            }
        }
    }
    let description = dataset.root.join("dataset.json");
    for id in expected.keys().filter(|id| !found.volumes.contains_key(*id)) {
        faults.push((description.clone(), format!("case {id} of the run is not in the dataset")));
    }
    if faults.is_empty() && found.digest != record.manifest.data_sha256 {
        faults.push((description, "the channels, classes or files are not those of the run".to_owned()));
    }
    let others = faults.len().saturating_sub(1);
    let Some((path, problem)) = faults.into_iter().next() else { return Ok(()) };
    let more = if others > 0 { format!(", and {others} more like it") } else { String::new() };
    Err(ReproduceError::input(path, problem + &more))
}
