//! What can be wrong with a dataset.
use std::path::{Path, PathBuf};

use crate::volume::VolumeError;

/// One sentence each: which file, case or field, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A volume that cannot be read.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A file or folder of the dataset that cannot be read.
    #[error("{path}: {source}; check that it exists and can be read", path = path.display())]
    Io {
        /// The file or folder at fault.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A description or a case that is not as it has to be.
    #[error("{path}: {field}: {problem}; {cure}", path = path.display())]
    Invalid {
        /// The file or folder at fault.
        path: PathBuf,
        /// What of the file is at fault, as in `labels`.
        field: String,
        /// What is wrong, for a person.
        problem: String,
        /// What to do about it.
        cure: String,
    },
    /// The folder of prepared cases cannot be made, written or locked.
    #[error("{path}: {source}; free space there, or set VOXFIT_CACHE to a folder that can be written", path = path.display())]
    Cache {
        /// The file or folder at fault.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a fault: a stop was asked for between cases.
    #[error("stopped")]
    Stopped,
}

impl DatasetError {
    /// For a dataset in whose description nothing is wrong but that there is nothing.
    pub(crate) fn no_case(root: &Path) -> Self {
        let cure = "write it in the MSD or the nnU-Net v2 form";
        Self::invalid(root, super::layout::DESCRIPTION, "describes no dataset", cure)
    }

    pub(super) fn invalid(
        path: impl Into<PathBuf>,
        field: impl Into<String>,
        problem: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self::Invalid { path: path.into(), field: field.into(), problem: problem.into(), cure: cure.into() }
    }

    /// For `map_err` on an operation on a dataset's own file.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// For `map_err` on an operation in the folder of prepared cases.
    pub(super) fn cache(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Cache { path, source }
    }
}
