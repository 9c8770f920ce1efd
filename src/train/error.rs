//! What can stop a training.
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::dataset::DatasetError;
use crate::predict::PredictError;

/// One sentence each: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Several faults of a dataset.
    #[error("{first} ({others} more{of}; `voxfit check` names them all, data.on_bad_case = \"skip\" leaves such cases out)",
        of = if cases.is_empty() { String::new() } else { format!(", of the cases {cases}") })]
    Faults {
        first: Box<DatasetError>,
        others: usize,
        /// That have a fault, the first one's among them.
        cases: String,
    },
    /// One of the others, without the names of cases.
    #[error("{0}")]
    Hidden(String),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error("{path}: {source}; check that the disk has room and the folder can be written", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {problem}; {cure}", path = path.display())]
    Run { path: PathBuf, problem: String, cure: String },
    #[error("step {step}: {problem}; {cure}")]
    Diverged { step: u64, problem: String, cure: String },
    /// Not an error: the step was given up because it would hold more than the budget has become, in bytes.
    #[error("the budget has become {budget} bytes")]
    OverBudget { budget: u64 },
    /// Not an error: the step was given up because a stop was asked for long ago.
    #[error("stopped")]
    Stopped,
}

impl TrainError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(super) fn run(path: impl Into<PathBuf>, problem: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Run { path: path.into(), problem: problem.into(), cure: cure.into() }
    }
}
