//! What can be wrong with a file of weights that goes out or comes in.
use std::path::PathBuf;

use crate::train::TrainError;

/// One sentence each: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// A run folder that cannot be read.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A file that cannot be written.
    #[error("{path}: {source}; check that the disk has room and the folder can be written", path = path.display())]
    Io {
        /// The file or folder at fault.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is no weights or model file, or does not fit.
    #[error("{path}: {problem}; {cure}", path = path.display())]
    File {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
}

impl ExchangeError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(super) fn file(path: impl Into<PathBuf>, problem: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::File { path: path.into(), problem: problem.into(), cure: cure.into() }
    }
}
