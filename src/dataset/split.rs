//! Which cases are trained on and which are held out.

/// Indices into the dataset's cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<usize>,
    pub validation: Vec<usize>,
    /// Fewer cases than folds: validation is on the training cases and says so wherever it shows.
    pub validates_on_training_cases: bool,
}

/// Fold `fold` of `folds` over case ids, shuffled by `seed`; `None` trains on all cases without validation.
pub fn split(_ids: &[&str], _folds: usize, _fold: Option<usize>, _seed: u64) -> Split {
    unimplemented!()
}
