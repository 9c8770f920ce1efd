//! Which cases are trained on and which are held out.
//!
//! Cases are dealt into folds by nnU-Net's own shuffled k-fold (`kfold.rs`), so that figures can be held against
//! nnU-Net's; by what classes they have ([`SplitBy::Stratified`](crate::config::SplitBy::Stratified)); or as a file says
//! ([`SplitFile`]). Where cases are known to be of one patient (`patients.rs`), all of them lie in one fold.
mod balanced;
mod file;
mod kfold;
mod patients;

use rand::Rng;

pub use file::SplitFile;
pub use patients::{Patients, compile as compile_group};

/// nnU-Net's seed of the shuffle.
pub const SEED: u64 = 12345;

/// The largest seed that numpy's generator takes.
pub const MAX_SEED: u64 = u32::MAX as u64;

/// Indices into the dataset's cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Ascending.
    pub train: Vec<usize>,
    /// Ascending.
    pub validation: Vec<usize>,
    /// Fewer cases than folds: validation is on the training cases and says so wherever it shows.
    pub validates_on_training_cases: bool,
}

/// More folds than patients, so that one would hold out nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewPatients {
    /// Patients that there are, fewer than folds.
    pub patients: usize,
}

/// What cases are dealt by.
#[derive(Clone, Copy, Debug)]
pub struct Deal<'a> {
    /// Of the cases. Their order only decides what the indices of a [`Split`] refer to.
    pub ids: &'a [&'a str],
    /// The patient of each case; none where every case is a patient.
    pub patients: Option<&'a [String]>,
    /// What each case has of what shall be equally frequent in all folds, as its classes; none where that is left to
    /// chance.
    pub traits: Option<&'a [Vec<u16>]>,
    /// Parts that the patients are dealt into.
    pub folds: usize,
    /// Of the shuffle; its lower 32 bits.
    pub seed: u64,
}

impl Deal<'_> {
    /// With `fold` held out; `None` trains on all cases without validation.
    ///
    /// With fewer cases than folds, or fewer than two folds, all are trained on and validated on. `fold` must be below
    /// `folds`, which the configuration sees to; here it is taken modulo `folds`.
    ///
    /// # Errors
    /// Fewer patients than folds, though there are cases enough.
    pub fn split(&self, fold: Option<usize>) -> Result<Split, TooFewPatients> {
        let all: Vec<usize> = (0..self.ids.len()).collect();
        let Some(fold) = fold else {
            return Ok(Split { train: all, validation: Vec::new(), validates_on_training_cases: false });
        };
        if self.folds < 2 || all.len() < self.folds {
            return Ok(Split { train: all.clone(), validation: all, validates_on_training_cases: true });
        }
        let folds = self.folds()?;
        let fold = fold % self.folds;
        let (validation, train) = all.into_iter().partition(|&case| folds[case] == fold);
        Ok(Split { train, validation, validates_on_training_cases: false })
    }

    /// The fold that holds out each case. There must be as many cases as folds.
    fn folds(&self) -> Result<Vec<usize>, TooFewPatients> {
        let units = self.units();
        if units.len() < self.folds {
            return Err(TooFewPatients { patients: units.len() });
        }
        let single = units.iter().all(|unit| unit.cases.len() == 1);
        let shuffled = kfold::shuffled(units.len(), self.seed as u32);
        let dealt = match (single, self.traits) {
            (true, None) => kfold::dealt(&shuffled, self.folds),
            _ => balanced::dealt(&units, &shuffled, self.folds),
        };
        let mut folds = vec![0; self.ids.len()];
        for (unit, fold) in units.iter().zip(dealt) {
            unit.cases.iter().for_each(|&case| folds[case] = fold);
        }
        Ok(folds)
    }

    /// What is dealt: cases in the order of ids, or patients in the order of their names.
    fn units(&self) -> Vec<Unit> {
        let name = |case: usize| match self.patients.and_then(|patients| patients.get(case)) {
            Some(patient) => patient.as_str(),
            None => self.ids[case],
        };
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_by_key(|&case| (name(case), self.ids[case]));
        let same = |&a: &usize, &b: &usize| self.patients.is_some() && name(a) == name(b);
        let unit = |cases: &[usize]| {
            let traits = cases.iter().filter_map(|&case| self.traits?.get(case)).flatten();
            let mut traits: Vec<u16> = traits.copied().collect();
            traits.sort_unstable();
            Unit { cases: cases.to_vec(), traits }
        };
        order.chunk_by(same).map(unit).collect()
    }
}

/// Cases that stay together.
struct Unit {
    /// Indices.
    cases: Vec<usize>,
    /// Of all its cases, ascending, once for every case that has it.
    traits: Vec<u16>,
}

/// A whole number below `bound`, the same on every platform and with every version of the generator's crate; its bias
/// is `bound` / 2^64.
pub(super) fn below(stream: &mut impl Rng, bound: usize) -> usize {
    ((u128::from(stream.next_u64()) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests;
