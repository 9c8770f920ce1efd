//! What can be wrong with a configuration.
use std::fmt;
use std::path::PathBuf;

use crate::network::topology::TopologyError;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line (from 1) of the configuration file.
    File { path: PathBuf, line: usize },
    /// An argument, as in `--set train.steps=5`.
    Argument(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Argument(text) => formatter.write_str(text),
        }
    }
}

/// One sentence each: where, which key, what was found and what to write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("{path}: {problem}; give the path of a configuration file, as in configs/quickstart.toml", path = path.display())]
    Read { path: PathBuf, problem: String },
    #[error("{place}: not TOML: {problem}")]
    Syntax { place: Place, problem: String },
    #[error("{place}: {key} is no key; the nearest is {nearest}")]
    UnknownKey { place: Place, key: String, nearest: String },
    #[error("{place}: {key} is {found}; expected {expected}")]
    Value { place: Place, key: String, found: String, expected: String },
    /// A range of a transform; the problem names the key and what it may hold.
    #[error("{place}: {problem}")]
    Augment { place: Place, problem: String },
    /// Values that are each right but not together, or not for this dataset.
    #[error("{key}: {problem}; {cure}")]
    Rule { key: &'static str, problem: String, cure: String },
    #[error("data.dataset `{text}`: {problem}; {cure}")]
    Environment { text: String, problem: String, cure: String },
    #[error("network.patch: {0}")]
    Topology(#[from] TopologyError),
}
