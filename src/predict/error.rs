//! What can be wrong with a prediction.
use std::path::PathBuf;

use crate::dataset::DatasetError;
use crate::volume::VolumeError;

/// One sentence each: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("{path}: {problem}; {cure}", path = path.display())]
    Input { path: PathBuf, problem: String, cure: String },
    #[error("{path}: {source}; check that the disk has room and the folder can be written", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Said before any work.
    #[error(
        "{case}: {doing} needs {} MiB of memory at least ({parts}), and {} MiB are allowed; {cure}",
        needed.div_ceil(1 << 20),
        budget >> 20
    )]
    Memory { case: String, doing: &'static str, needed: u64, parts: String, budget: u64, cure: String },
    #[error("{0}")]
    Run(String),
    /// Not a fault: a stop was asked for between cases.
    #[error("stopped")]
    Stopped,
}
