//! Prepared cases on disk, from which a patch is read without loading the case.
//!
//! `ROOT/KEY/` holds `store.json` (what made it), one `00012.case` per case ([`format`]) and two lock files. `KEY` is a
//! digest of the dataset's content, the preparation and the version of the format, so that a folder never has to be
//! brought up to date: another dataset or plan is another folder.
mod format;
mod locations;
mod patch;
mod root;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::prepare::{self, Preparation};
use super::{Case, Contents, DEFAULT_MEMORY, Dataset, DatasetError, parallel};
use crate::files;

pub use patch::StoredCase;
pub use root::{clean, default_root};

/// Locations held in memory over all cases (4 bytes each). Above it every case keeps an even share of each of its
/// lists: with hundreds of classes in thousands of cases the lists would outgrow the volumes.
const RESIDENT_LOCATIONS: u64 = 1 << 24;

/// A folder of prepared cases, keyed by a digest of what made them.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    contents: Contents,
    cases: Vec<StoredCase>,
    /// Held as long as the store is open, so that [`clean`] leaves the folder alone.
    _in_use: Option<File>,
}

impl Store {
    /// Opens the store of `dataset` under `root` prepared as `preparation` says; prepares what is missing (cases in
    /// parallel, at most [`DEFAULT_MEMORY`] bytes of volumes at once), telling `progress` (done, total).
    ///
    /// # Errors
    /// A case that cannot be read or does not fit the dataset's description; a root that cannot be written.
    pub fn open_or_prepare(
        root: &Path,
        dataset: &Dataset,
        preparation: &Preparation,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, DatasetError> {
        Self::open_or_prepare_within(root, dataset, preparation, DEFAULT_MEMORY, progress)
    }

    /// [`open_or_prepare`](Self::open_or_prepare) with at most `memory` bytes of volumes held at once (a single case
    /// that needs more goes alone).
    ///
    /// # Errors
    /// As [`open_or_prepare`](Self::open_or_prepare).
    pub fn open_or_prepare_within(
        root: &Path,
        dataset: &Dataset,
        preparation: &Preparation,
        memory: u64,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, DatasetError> {
        Self::open_or_prepare_until(root, dataset, preparation, (memory, None), progress, &AtomicBool::new(false))
    }

    /// [`open_or_prepare_within`](Self::open_or_prepare_within), given up between two cases once `stop` is raised; the
    /// cases prepared by then are kept. `most` bytes may be held (`None` without end): a case that may need more is
    /// refused before any is prepared.
    ///
    /// # Errors
    /// As [`open_or_prepare`](Self::open_or_prepare); [`DatasetError::Stopped`].
    pub fn open_or_prepare_until(
        root: &Path,
        dataset: &Dataset,
        preparation: &Preparation,
        (memory, most): (u64, Option<u64>),
        progress: &(dyn Fn(usize, usize) + Sync),
        stop: &AtomicBool,
    ) -> Result<Self, DatasetError> {
        if preparation.normalisation.len() != dataset.channels.len() {
            return Err(DatasetError::invalid(
                dataset.root.join(super::layout::DESCRIPTION),
                "channels",
                format!("{} channels, {} normalisations", dataset.channels.len(), preparation.normalisation.len()),
                "make a new plan for this dataset",
            ));
        }
        let contents = dataset.contents_memoised(root)?;
        let key = key(&contents.digest, preparation);
        let folder = root.join(&key);
        files::make_private(root).map_err(DatasetError::cache(root))?;
        files::make_private(&folder).map_err(DatasetError::cache(&folder))?;
        let in_use = root::lock_in_use(&folder).map_err(DatasetError::cache(&folder))?;

        let total = dataset.cases.len();
        let path = |index: usize| folder.join(format!("{index:05}.{}", root::CASE_ENDING));
        let intact = |index: usize| format::read_header(&path(index), &key, &dataset.cases[index].id);
        let missing = || (0..total).filter(|&index| intact(index).is_err()).collect::<Vec<_>>();
        let mut todo = missing();
        if !todo.is_empty() {
            let _writer = root::lock_writer(&folder).map_err(DatasetError::cache(&folder))?;
            // Another process may have prepared them while this one waited.
            todo = missing();
            root::remove_leftovers(&folder);
            root::describe(&folder, dataset, &contents.digest, preparation).map_err(DatasetError::cache(&folder))?;
            for &index in todo.iter().filter(|&&index| path(index).exists()) {
                tracing::warn!("prepared volume {key}/{index:05}.{} is damaged and is made anew", root::CASE_ENDING);
            }
            let done = AtomicUsize::new(total - todo.len());
            let reporting = Mutex::new(());
            let report = || {
                let _one_at_a_time = reporting.lock();
                progress(done.load(Ordering::SeqCst), total);
            };
            report();
            for &index in &todo {
                prepare::refuse_beyond(&dataset.cases[index].images, preparation, most)?;
            }
            let costs: Vec<u64> = todo.iter().map(|&index| cost(&dataset.cases[index], preparation)).collect();
            parallel::run(&costs, memory, |position| {
                if stop.load(Ordering::Relaxed) {
                    return Err(DatasetError::Stopped);
                }
                let index = todo[position];
                let case = &dataset.cases[index];
                let (classes, ignore) = (dataset.classes.len(), dataset.ignore);
                let (image, labels) = prepare::remapped_case(case, &dataset.remap, classes, ignore, preparation)?;
                write::case(&path(index), &key, &case.id, image, &labels, dataset.ignore)?;
                done.fetch_add(1, Ordering::SeqCst);
                report();
                Ok::<(), DatasetError>(())
            })?;
        }

        let headers = (0..total).map(intact).collect::<Result<Vec<_>, _>>()?;
        let kept: u64 = headers.iter().map(|(header, _)| header.location_count()).sum();
        let share = kept.div_ceil(RESIDENT_LOCATIONS).max(1);
        let open = |(index, header)| StoredCase::open(path(index), header, share);
        let cases = headers.into_iter().enumerate().map(open).collect::<Result<Vec<_>, DatasetError>>()?;
        Ok(Self { folder, contents, cases, _in_use: in_use })
    }

    /// In the dataset's order.
    pub fn cases(&self) -> &[StoredCase] {
        &self.cases
    }

    /// Where the cases are kept.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// [`Dataset::digest`] of what was prepared.
    pub fn dataset_digest(&self) -> &str {
        &self.contents.digest
    }

    /// Digests of what was prepared.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }
}

/// Name of the folder of cases of the dataset with this digest, prepared so.
fn key(dataset_digest: &str, preparation: &Preparation) -> String {
    let spacing = preparation.spacing.map(|mm| format!("{:016x}", mm.to_bits())).join(" ");
    let normalisation = format!("{:?}", preparation.normalisation);
    // With the release, because what reads and resamples volumes may change with it.
    let made_by = format!("voxfit {} store {}", env!("CARGO_PKG_VERSION"), format::VERSION);
    let text = format!("{made_by}\n{dataset_digest}\n{spacing}\n{normalisation}");
    files::sha256_hex(text.as_bytes())[..root::KEY_LENGTH].to_string()
}

/// Bytes that preparing `case` takes; 0 where its headers cannot be read, which its preparation will report.
fn cost(case: &Case, preparation: &Preparation) -> u64 {
    prepare::bytes(&case.images, preparation).unwrap_or(0)
}
