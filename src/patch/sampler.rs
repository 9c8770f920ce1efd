//! Which patch sample `n` of the run is.
use crate::dataset::store::StoredCase;

/// Draws patches; holds no state that advances.
#[derive(Clone, Debug)]
pub struct Sampler {
    pub seed: u64,
    /// Samples per optimizer step.
    pub effective_batch: usize,
    /// Share of samples centred on a foreground voxel.
    pub foreground: f64,
    /// Voxels read per patch (the augmentation's source box), z, y, x.
    pub source: [usize; 3],
    /// Voxels of the patch itself, z, y, x.
    pub patch: [usize; 3],
}

/// A drawn patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Index into the cases given.
    pub case: usize,
    /// First voxel of the source box, z, y, x.
    pub start: [isize; 3],
    /// Whether it is centred on a foreground voxel.
    pub forced: bool,
}

impl Sampler {
    /// The patch of sample `sample` (0..effective_batch) of step `step`.
    pub fn draw(&self, _cases: &[&StoredCase], _step: u64, _sample: u64) -> Draw {
        unimplemented!()
    }
}
