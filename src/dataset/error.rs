//! What can be wrong with a dataset.
use std::path::PathBuf;

use crate::volume::VolumeError;

/// One sentence each: which file, case or field, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {field}: {problem}; {cure}", path = path.display())]
    Invalid { path: PathBuf, field: String, problem: String, cure: String },
}
