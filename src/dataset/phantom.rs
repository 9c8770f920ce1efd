//! A synthetic labelled dataset: organs, bias field, noise; same seed, same bytes.
use std::path::Path;

use super::DatasetError;

/// Defaults are those of `volumes/phantom`.
#[derive(Clone, Debug)]
pub struct PhantomOptions {
    pub cases: usize,
    /// Voxels x, y, z.
    pub size: [usize; 3],
    /// mm.
    pub spacing: [f64; 3],
    pub ct: bool,
    /// Foreground classes.
    pub classes: usize,
    pub seed: u64,
}

/// Writes the dataset in MSD layout into `folder`.
pub fn write(_folder: &Path, _options: &PhantomOptions) -> Result<(), DatasetError> {
    unimplemented!()
}
