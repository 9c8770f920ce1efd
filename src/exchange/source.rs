//! One network of a run folder, to be given away.
use std::path::Path;

use super::ExchangeError;
use crate::predict::CheckpointName;
use crate::train::checkpoint::{self, Checkpoint};
use crate::train::{LoadedRun, checkpoint_path, load_run};

/// Plan and weights of one run folder.
///
/// # Errors
/// A folder that holds no run or the runs of several folds; a checkpoint that is not there or damaged.
pub fn open(run: &Path, name: CheckpointName) -> Result<(LoadedRun, Checkpoint), ExchangeError> {
    if !run.join("plan.toml").is_file() && run.join("fold_0/plan.toml").is_file() {
        let cure = format!("give one of them, as in {}", run.join("fold_0").display());
        return Err(ExchangeError::file(run, "the folder holds the folds of a cross-validation", cure));
    }
    let plan = load_run(run)?;
    Ok((plan, weights(run, name)?))
}

/// The weights of one run folder, verified.
///
/// # Errors
/// A checkpoint that is not there or damaged.
pub fn weights(run: &Path, name: CheckpointName) -> Result<Checkpoint, ExchangeError> {
    let path = checkpoint_path(run, name.folder());
    if !path.is_file() {
        let cure = match name {
            CheckpointName::Best => "give --checkpoint last, or train with validation",
            CheckpointName::Last => "train longer than one checkpoint, or wait for the first",
        };
        return Err(ExchangeError::file(path, "no such checkpoint", cure));
    }
    Ok(checkpoint::load_weights(&path)?)
}
