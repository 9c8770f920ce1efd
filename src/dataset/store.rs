//! Prepared cases on disk, from which a patch is read without loading the case.
use std::path::{Path, PathBuf};

use ndarray::{Array3, Array4};

use super::prepare::Preparation;
use super::{Dataset, DatasetError};

/// A folder of prepared cases, keyed by a digest of what made them.
#[derive(Debug)]
pub struct Store {
    // folder, open case files, ...
}

/// One prepared case, open for positioned reads.
#[derive(Debug)]
pub struct StoredCase {
    // id, file, size, channels, foreground locations per class, ...
}

impl Store {
    /// Opens the store of `dataset` under `root` prepared as `preparation` says; prepares what is missing (cases in
    /// parallel, at most `memory` bytes of volumes at once), telling `progress` (done, total).
    pub fn open_or_prepare(
        _root: &Path,
        _dataset: &Dataset,
        _preparation: &Preparation,
        _progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, DatasetError> {
        unimplemented!()
    }

    /// In the dataset's order.
    pub fn cases(&self) -> &[StoredCase] {
        unimplemented!()
    }
}

impl StoredCase {
    pub fn id(&self) -> &str {
        unimplemented!()
    }

    /// Voxels z, y, x.
    pub fn size(&self) -> [usize; 3] {
        unimplemented!()
    }

    pub fn channels(&self) -> usize {
        unimplemented!()
    }

    /// Classes (1..) that have a voxel in this case, ascending.
    pub fn classes_present(&self) -> &[u16] {
        unimplemented!()
    }

    /// How many locations of `class` are kept for sampling.
    pub fn location_count(&self, _class: u16) -> usize {
        unimplemented!()
    }

    /// Location `index` of `class`, voxel z, y, x.
    pub fn location(&self, _class: u16, _index: usize) -> [usize; 3] {
        unimplemented!()
    }

    /// The box from `start` (z, y, x, may be negative) of `size` voxels: image `[channel, z, y, x]` and label
    /// `[z, y, x]`; outside the case the image is `0` and the label `outside`.
    pub fn read_patch(
        &self,
        _start: [isize; 3],
        _size: [usize; 3],
        _outside: u16,
    ) -> Result<(Array4<f32>, Array3<u16>), DatasetError> {
        unimplemented!()
    }
}

/// Where prepared cases are kept: `$VOXFIT_CACHE`, else `$XDG_CACHE_HOME/voxfit`, else `~/.cache/voxfit` (the
/// platform's own cache folder elsewhere).
pub fn default_root() -> PathBuf {
    unimplemented!()
}

/// Removes every prepared store under `root`; returns bytes freed.
pub fn clean(_root: &Path) -> Result<u64, DatasetError> {
    unimplemented!()
}
