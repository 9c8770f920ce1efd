//! What can be wrong with a configuration.
use std::fmt;
use std::path::PathBuf;

use crate::network::topology::TopologyError;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line (from 1) of the configuration file.
    File {
        /// The configuration file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
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
    /// A file that cannot be read, is too long, or is no text.
    #[error("{path}: {problem}; give the path of a configuration file, as in configs/quickstart.toml", path = path.display())]
    Read {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong, for a person.
        problem: String,
    },
    /// Text that is no TOML.
    #[error("{place}: not TOML: {problem}")]
    Syntax {
        /// Where it was written.
        place: Place,
        /// What is wrong, for a person.
        problem: String,
    },
    /// A key that no table has.
    #[error("{place}: {key} is no key; the nearest is {nearest}")]
    UnknownKey {
        /// Where it was written.
        place: Place,
        /// Dotted, as written.
        key: String,
        /// The known key that is spelt most like it.
        nearest: String,
    },
    /// A value of the wrong type or out of its range.
    #[error("{place}: {key} is {found}; expected {expected}")]
    Value {
        /// Where it was written.
        place: Place,
        /// Dotted, as in `train.steps`.
        key: String,
        /// The value as it was written.
        found: String,
        /// What may be written instead.
        expected: String,
    },
    /// A range of a transform; the problem names the key and what it may hold.
    #[error("{place}: {problem}")]
    Augment {
        /// Where it was written.
        place: Place,
        /// What is wrong, for a person.
        problem: String,
    },
    /// Values that are each right but not together, or not for this dataset.
    #[error("{key}: {problem}; {cure}")]
    Rule {
        /// The key to change, dotted.
        key: &'static str,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
    /// A `${NAME}` in `data.dataset` that cannot be put in.
    #[error("data.dataset `{text}`: {problem}; {cure}")]
    Environment {
        /// `data.dataset` as written.
        text: String,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
    /// A network that cannot be planned.
    #[error("network.patch: {0}")]
    Topology(#[from] TopologyError),
}
