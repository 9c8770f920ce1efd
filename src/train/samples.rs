//! The samples of a step: drawn, read and augmented, each from its own random stream.
use std::ops::Range;

use rayon::prelude::*;

use crate::dataset::DatasetError;
use crate::dataset::store::{Store, StoredCase};
use crate::patch::Sample;
use crate::patch::augment::{self, AugmentConfig};
use crate::patch::sampler::Sampler;
use crate::random::stream;

/// What lies beyond a volume's border counts as background, as in nnU-Net.
const OUTSIDE: u16 = 0;

/// Gives sample `i` of step `s`, the same one whenever it is asked and on whatever thread.
pub struct Samples<'a> {
    cases: Vec<&'a StoredCase>,
    sampler: Sampler,
    augment: AugmentConfig,
}

impl<'a> Samples<'a> {
    /// `cases` are indices into the store; sizes are z, y, x.
    pub fn new(store: &'a Store, cases: &[usize], sampler: Sampler, augment: AugmentConfig) -> Self {
        let cases = cases.iter().filter_map(|case| store.cases().get(*case)).collect();
        Self { cases, sampler, augment }
    }

    /// Samples `range` of `step`, in order.
    ///
    /// # Errors
    /// A prepared case that cannot be read.
    pub fn load(&self, step: u64, range: Range<usize>) -> Result<Vec<Sample>, DatasetError> {
        range.into_par_iter().map(|sample| self.one(step, sample as u64)).collect()
    }

    fn one(&self, step: u64, sample: u64) -> Result<Sample, DatasetError> {
        let draw = self.sampler.draw(&self.cases, step, sample);
        let (image, label) = self.cases[draw.case].read_patch(draw.start, self.sampler.source, OUTSIDE)?;
        let mut rng = stream(self.sampler.seed, "augment", step, sample);
        Ok(augment::augment(&self.augment, Sample { image, label }, self.sampler.patch, &mut rng))
    }
}
