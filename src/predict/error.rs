//! What can be wrong with a prediction.
use std::path::PathBuf;

use crate::dataset::DatasetError;
use crate::volume::VolumeError;

/// One sentence each: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// A volume that cannot be read or written.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A case that cannot be prepared.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A run, an option or an input that does not fit.
    #[error("{path}: {problem}; {cure}", path = path.display())]
    Input {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
    /// A file that cannot be written, the record of a prediction among them.
    #[error("{path}: {source}; check that the disk has room and the folder can be written", path = path.display())]
    Io {
        /// The file or folder at fault.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Said before any work.
    #[error(
        "{case}: {doing} needs {} MiB of memory at least ({parts}), and {} MiB are allowed; {cure}",
        needed.div_ceil(1 << 20),
        budget >> 20
    )]
    Memory {
        /// The case's id.
        case: String,
        /// What the most is held for, as in `validating`.
        doing: &'static str,
        /// Bytes of memory at the least.
        needed: u64,
        /// What these are made of, for a person.
        parts: String,
        /// Bytes that are allowed.
        budget: u64,
        /// What to do about it.
        cure: String,
    },
    /// A device, a run folder or a model file that cannot be used; the whole sentence.
    #[error("{0}")]
    Run(String),
    /// Not a fault: a stop was asked for between cases.
    #[error("stopped")]
    Stopped,
}
