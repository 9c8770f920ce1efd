//! Why runs could not be held against each other.
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::dataset::DatasetError;
use crate::train::TrainError;

/// One sentence each: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReproduceError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A folder that is no finished run, or a record that does not hold together.
    #[error("{path}: {problem}; {cure}", path = path.display())]
    Run { path: PathBuf, problem: String, cure: String },
    /// What the run was trained on is not what is there now.
    #[error("{path}: {problem}; {cure}", path = path.display())]
    Input { path: PathBuf, problem: String, cure: String },
    #[error("{path}: {source}; set TMPDIR to a folder that can be written", path = path.display())]
    Scratch { path: PathBuf, source: std::io::Error },
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
