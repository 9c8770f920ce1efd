//! What can stop a training.
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::dataset::DatasetError;
use crate::predict::PredictError;

/// One sentence each: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A configuration that is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A dataset that cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Several faults of a dataset.
    #[error("{first} ({others} more{of}; `voxfit check` names them all, data.on_bad_case = \"skip\" leaves such cases out)",
        of = if cases.is_empty() { String::new() } else { format!(", of the cases {cases}") })]
    Faults {
        /// The first, as a sentence.
        first: Box<DatasetError>,
        /// How many more there are.
        others: usize,
        /// That have a fault, the first one's among them.
        cases: String,
    },
    /// One of the others, without the names of cases.
    #[error("{0}")]
    Hidden(String),
    /// Validation that ended by a fault.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// A file of the run folder that cannot be written or read.
    #[error("{path}: {source}; check that the disk has room and the folder can be written", path = path.display())]
    Io {
        /// The file or folder at fault.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A run folder that cannot be used, or an option that does not fit.
    #[error("{path}: {problem}; {cure}", path = path.display())]
    Run {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
    /// A loss or gradient that is no number.
    #[error("step {step}: {problem}; {cure}")]
    Diverged {
        /// The step that would have been.
        step: u64,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
    /// Not an error: the step was given up because it would hold more than the budget has become, in bytes.
    #[error("the budget has become {budget} bytes")]
    OverBudget {
        /// Bytes, as the budget is now.
        budget: u64,
    },
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
