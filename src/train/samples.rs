//! The samples of a step: drawn, read and augmented, each from its own random stream.
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::TrainError;
use super::read_watch::{self, ReadWatch};
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
    /// Where each stands in the store.
    indices: Vec<usize>,
    /// Looks after slow reads, with what each case is called.
    watch: Option<(ReadWatch, Vec<Arc<str>>)>,
    sampler: Sampler,
    augment: AugmentConfig,
}

impl<'a> Samples<'a> {
    /// `cases` are indices into the store; sizes are z, y, x.
    pub fn new(store: &'a Store, cases: &[usize], sampler: Sampler, augment: AugmentConfig) -> Self {
        let known = |index: &usize| Some((*index, store.cases().get(*index)?));
        let (indices, cases) = cases.iter().filter_map(known).unzip();
        Self { cases, indices, watch: None, sampler, augment }
    }

    /// Warns of reads that do not come back; `names` of all cases of the store.
    pub(super) fn watched<'n>(mut self, names: impl Iterator<Item = &'n str>) -> Result<Self, TrainError> {
        let names: Vec<&str> = names.collect();
        let name = |index: &usize| names.get(*index).copied().unwrap_or_default();
        let cases = self.indices.iter().zip(&self.cases);
        let whats = cases.map(|(index, case)| read_watch::what(name(index), case.path())).collect();
        self.watch = Some((ReadWatch::start()?, whats));
        Ok(self)
    }

    /// The case of a sample, by its place in the store.
    pub fn case(&self, step: u64, sample: u64) -> usize {
        self.indices[self.sampler.draw(&self.cases, step, sample).case]
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
        let reading = self.watch.as_ref().and_then(|(watch, whats)| Some(watch.begin(whats.get(draw.case)?)));
        let (image, label) = self.cases[draw.case].read_patch(draw.start, self.sampler.source, OUTSIDE)?;
        drop(reading);
        let mut rng = stream(self.sampler.seed, "augment", step, sample);
        Ok(augment::augment(&self.augment, Sample { image, label }, self.sampler.patch, &mut rng))
    }
}
