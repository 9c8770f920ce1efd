//! Two finished runs held against each other.
use std::path::Path;

use serde::Serialize;

use super::{Record, ReproduceError, Setting, TensorDifference, settings, weights};

/// What is the same in two runs and what is not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Bit for bit.
    pub same_weights: bool,
    /// Of both runs.
    pub weights_sha256: [String; 2],
    /// Of both runs.
    pub steps: [u64; 2],
    /// Of voxfit, and the commit that it was built from.
    pub same_version: bool,
    /// In what can change the weights.
    pub same_configuration: bool,
    /// Volumes and description, by digest.
    pub same_data: bool,
    /// The same cases are held out.
    pub same_split: bool,
    /// Every key that is not the same.
    pub settings: Vec<Setting>,
    /// Steps whose digests were held against each other, from the first on.
    pub steps_compared: u64,
    /// The first after which the weights are not the same; none where those that were compared are.
    pub first_differing_step: Option<u64>,
    /// Tensors in either run.
    pub tensors: usize,
    /// By name.
    pub differing_tensors: Vec<TensorDifference>,
}

/// Compares two run folders.
///
/// # Errors
/// A folder that is no finished run; weights that cannot be read.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison, ReproduceError> {
    let [a, b] = [Record::read_finished(a)?, Record::read_finished(b)?];
    let settings = settings::differences([&a, &b])?;
    let (differing_tensors, tensors) = weights::differences(&a.weights()?, &b.weights()?);
    let both: Vec<(u64, bool)> =
        a.digests.iter().filter_map(|(step, digest)| Some((*step, b.digests.get(step)? == digest))).collect();
    let [one, other] = [&a.manifest, &b.manifest];
    Ok(Comparison {
        same_weights: differing_tensors.is_empty(),
        weights_sha256: [one.weights_sha256.clone(), other.weights_sha256.clone()],
        steps: [one.steps, other.steps],
        same_version: (&one.voxfit, &one.git_revision) == (&other.voxfit, &other.git_revision),
        same_configuration: one.config_sha256 == other.config_sha256
            && one.start_weights_sha256 == other.start_weights_sha256,
        same_data: one.data_sha256 == other.data_sha256,
        same_split: one.split_sha256 == other.split_sha256,
        settings,
        steps_compared: both.len() as u64,
        first_differing_step: both.iter().find(|(_, same)| !same).map(|(step, _)| *step),
        tensors,
        differing_tensors,
    })
}
