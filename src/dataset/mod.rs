//! Datasets: layouts (MSD, nnU-Net v2), their check, fingerprint, splits, the phantom, and the prepared store that
//! patches are read from.
pub mod check;
mod error;
pub mod fingerprint;
mod layout;
pub mod phantom;
pub mod prepare;
pub mod split;
pub mod store;

use std::path::{Path, PathBuf};

pub use error::DatasetError;

/// One patient's volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// File name without channel suffix and ending, as in `hippocampus_001`.
    pub id: String,
    /// One file per channel (or one 4D file for all, MSD's way, then a single entry).
    pub images: Vec<PathBuf>,
    pub label: PathBuf,
}

/// What is measured in a channel; only CT is treated differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub name: String,
    pub is_ct: bool,
}

/// A labelled dataset as its `dataset.json` describes it.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub root: PathBuf,
    pub name: String,
    pub channels: Vec<Channel>,
    /// Names by label value: index 0 is background, then 1, 2, ... without a gap (the ignore label is not among them).
    pub classes: Vec<String>,
    /// Voxels of this value are left out of the loss and of every figure.
    pub ignore: Option<u16>,
    /// In order of `id`.
    pub cases: Vec<Case>,
}

impl Dataset {
    /// Opens a folder in MSD or nnU-Net v2 layout; reads `dataset.json` and looks whether the files are there.
    ///
    /// # Errors
    /// A missing or malformed `dataset.json` (field named), no case, a missing file.
    pub fn open(_root: &Path) -> Result<Self, DatasetError> {
        unimplemented!()
    }

    /// SHA-256 over `dataset.json` semantics and every file's content, independent of where the folder stands.
    pub fn digest(&self) -> Result<String, DatasetError> {
        unimplemented!()
    }
}
