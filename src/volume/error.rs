//! What can be wrong with a volume file.
use std::path::PathBuf;

/// One sentence each: which file, which field, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    #[error("{path}: {source}; check that the file exists and can be read", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {field}: {problem}; {cure}", path = path.display())]
    Invalid { path: PathBuf, field: String, problem: String, cure: String },
}
