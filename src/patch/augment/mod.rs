//! Augmentation: each transform draws its parameters from a stream and hands them to a pure function.
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Sample;

/// One table per transform, nnU-Net's probabilities and ranges as defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    pub enabled: bool,
}

/// Voxels (z, y, x) that must be read so that a rotated and scaled patch has no corner outside.
pub fn source_size(_config: &AugmentConfig, patch: [usize; 3]) -> [usize; 3] {
    patch
}

/// Augments a sample read at [`source_size`] into one of `patch` voxels; `outside` fills labels beyond the source.
pub fn augment(_config: &AugmentConfig, _sample: Sample, _patch: [usize; 3], _rng: &mut ChaCha8Rng) -> Sample {
    unimplemented!()
}
