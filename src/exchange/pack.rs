//! A run as one file to hand on.
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::model::{Description, FORMAT, KEY, MAX_NETWORKS, Member};
use super::write::{Out, write};
use super::{ExchangeError, source};
use crate::network::weights_sha256;
use crate::predict::{CheckpointName, members, postprocess};
use crate::train::load_run;

/// The arguments of packing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// A run folder, or one that holds those of several folds.
    pub run: PathBuf,
    /// The model file.
    pub output: PathBuf,
    /// Which weights of the run.
    pub checkpoint: CheckpointName,
}

/// Writes a model file; the networks in it.
///
/// # Errors
/// A run that cannot be read, folds of different networks, those of the file system.
pub fn pack(options: &PackOptions) -> Result<Vec<Member>, ExchangeError> {
    let PackOptions { run, output, checkpoint } = options;
    if output.is_dir() {
        return Err(ExchangeError::file(output, "is a folder", "give -o a file, as in liver.voxfit"));
    }
    let folders = members(run).map_err(|error| ExchangeError::from(crate::train::TrainError::from(error)))?;
    if folders.len() > MAX_NETWORKS {
        return Err(ExchangeError::file(run, "there are too many folds", "pack fewer"));
    }
    let plan = load_run(&folders[0])?;
    let mut checkpoints = Vec::new();
    for folder in &folders {
        if load_run(folder)?.network != plan.network {
            let problem = format!("its network is not that of {}", folders[0].display());
            return Err(ExchangeError::file(folder, problem, "pack each alone"));
        }
        checkpoints.push(source::weights(folder, *checkpoint)?);
    }
    let mut all = BTreeMap::new();
    for (number, checkpoint) in checkpoints.iter().enumerate() {
        let weights = checkpoint.weights().into_iter();
        all.extend(weights.map(|(name, tensor)| (format!("{number}/{name}"), tensor)));
    }
    let networks: Vec<Member> = checkpoints
        .iter()
        .map(|checkpoint| Member {
            weights_sha256: checkpoint.state.weights_sha256.clone(),
            step: checkpoint.state.step,
        })
        .collect();
    let failed = |error: String| ExchangeError::io(output)(std::io::Error::other(error));
    let description = Description {
        format: FORMAT,
        voxfit: crate::VERSION.to_owned(),
        checkpoint: *checkpoint,
        networks: networks.clone(),
        tensors_sha256: weights_sha256(all.iter().map(|(name, (shape, values))| (&**name, *shape, (*values).into()))),
        postprocessing: postprocess::of_run(&folders).map_err(|error| failed(error.to_string()))?,
        plan: toml::to_string(&plan).map_err(|error| failed(error.to_string()))?,
    };
    let text = serde_json::to_string(&description).map_err(|error| failed(error.to_string()))?;
    let tensors = all.into_iter().map(|(name, (shape, values))| Out::floats(name, shape, values)).collect();
    write(output, (KEY, &text), tensors).map_err(ExchangeError::io(output))?;
    Ok(networks)
}
