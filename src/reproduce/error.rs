//! Why runs could not be held against each other.
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::dataset::DatasetError;
use crate::train::TrainError;

/// One sentence each: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReproduceError {
    /// A configuration that is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A dataset that cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A training that ended by a fault.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A folder that is no finished run, or a record that does not hold together.
    #[error("{path}: {problem}; {cure}", path = path.display())]
    Run {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
    /// What the run was trained on is not what is there now.
    #[error("{path}: {problem}; {cure}", path = path.display())]
    Input {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
    /// The scratch folder cannot be written.
    #[error("{path}: {source}; set TMPDIR to a folder that can be written", path = path.display())]
    Scratch {
        /// The file or folder at fault.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ReproduceError {
    pub(super) fn run(path: impl Into<PathBuf>, problem: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Run { path: path.into(), problem: problem.into(), cure: cure.into() }
    }

    pub(super) fn input(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        let cure = "bring it back as it was, or give --data DIR with the dataset that the run was trained on";
        Self::Input { path: path.into(), problem: problem.into(), cure: cure.into() }
    }
}
