//! What can be wrong with a volume file.
use std::io;
use std::path::{Path, PathBuf};

/// One sentence each: which file, which field, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// The operating system refused: a missing file, no permission, a full disk, a damaged device.
    #[error(
        "{path}: {source}; check that the file and its folder exist, may be accessed and that the disk has room",
        path = path.display()
    )]
    Io {
        /// The file or folder at fault.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content (or what was asked of it) is not acceptable.
    #[error("{path}: {field}: {problem}; {cure}", path = path.display())]
    Invalid {
        /// The file or folder at fault.
        path: PathBuf,
        /// What of the file is at fault, as in `pixdim`.
        field: String,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
}

impl VolumeError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }

    pub(super) fn invalid(
        path: &Path,
        field: impl Into<String>,
        problem: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self::Invalid { path: path.to_path_buf(), field: field.into(), problem: problem.into(), cure: cure.into() }
    }
}
