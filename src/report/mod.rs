//! Pages about runs: one HTML file that needs nothing beside itself, a table of many runs, and scalars for TensorBoard.
//!
//! All of it is read from run folders ([`RunRecord`]), so that a page can be made at any time, of a run that is still going
//! on too. What is read may hold anything: it reaches a page through `html::escape` alone, and the page's own policy
//! (`Content-Security-Policy`) lets a browser run and load nothing but what voxfit wrote into it.
mod chart;
mod comparison;
mod figures;
mod html;
mod list;
mod memory;
mod metrics;
mod page;
mod parts;
pub mod pictures;
mod record;
mod stages;
pub mod tensorboard;
mod words;

use std::path::Path;

pub use comparison::comparison;
pub use list::{ListedRun, Numbers, SortBy, list};
pub use metrics::{Metrics, Validation};
pub use page::page;
pub use pictures::{CasePictures, Pictures};
pub use record::{RunRecord, State, runs_in};

use crate::files::write_bytes_privately;

/// The page's name in a run folder.
pub const FILE_NAME: &str = "report.html";

/// Why a page could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A folder that is no run, or a file of it that is damaged.
    #[error("{path}: {problem}; {cure}", path = path.display())]
    Run {
        /// The file or folder at fault.
        path: std::path::PathBuf,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
    /// A page that cannot be written, or metrics that cannot be read.
    #[error("{path}: {source}; check that the disk has room and the folder can be written", path = path.display())]
    Io {
        /// The file or folder at fault.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A run whose plan or weights cannot be used.
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    /// A case that cannot be predicted for its picture.
    #[error(transparent)]
    Predict(#[from] crate::predict::PredictError),
    /// A volume that cannot be read.
    #[error(transparent)]
    Volume(#[from] crate::volume::VolumeError),
    /// A dataset that cannot be read.
    #[error(transparent)]
    Dataset(#[from] crate::dataset::DatasetError),
    /// A configuration that is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
}

impl ReportError {
    fn run(path: impl Into<std::path::PathBuf>, problem: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Run { path: path.into(), problem: problem.into(), cure: cure.into() }
    }
}

/// Writes a page, whole or not at all, for its owner alone: figures and pictures come from patients.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, page: &str) -> Result<(), ReportError> {
    write_bytes_privately(path, page.as_bytes()).map_err(|source| ReportError::Io { path: path.to_owned(), source })
}

/// Writes `report.html` of the folds or seeds in `folder`, side by side.
///
/// # Errors
/// As [`write_in_run`].
pub fn write_in_series(folder: &Path) -> Result<(), ReportError> {
    write(&folder.join(FILE_NAME), &comparison(&runs_in(folder)?))
}

/// Writes `report.html` of the run in `folder` from what lies there.
///
/// # Errors
/// A folder that is no run, and those of the file system.
pub fn write_in_run(folder: &Path, pictures: &Pictures) -> Result<(), ReportError> {
    let record = RunRecord::read(folder)?;
    write(&folder.join(FILE_NAME), &page(&record, pictures, true))
}
