//! The dataset doctor: every fault at once.
use serde::Serialize;

use super::Dataset;

/// One fault and its cure.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Empty where the fault is the dataset's.
    pub case: String,
    pub file: String,
    pub field: String,
    pub problem: String,
    pub cure: String,
}

/// Looks at every case; an empty list is a clean dataset.
pub fn check(_dataset: &Dataset) -> Vec<Finding> {
    unimplemented!()
}
