//! Model files: all that a prediction needs in one file, and nothing of the patients that it was learnt from.
//!
//! A safetensors file: `FOLD/NAME` for every tensor of every network, and in the metadata a plan and what each network is.
//! No id of a case, no path, no figure of a single case is in it; of the images, smallest and largest spacing and
//! statistics of intensities over all cases, which a prediction warns by.
use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::ExchangeError;
use super::names::{Pair, pairs};
use crate::network::UNet;
use crate::predict::CheckpointName;
use crate::predict::postprocess::Postprocessing;
use crate::train::LoadedRun;
use crate::train::checkpoint::{FileRead, put_weights, read_header, read_tensors};

/// What the metadata is called.
pub(super) const KEY: &str = "voxfit_model";
/// Of this description; a reader of one takes no other.
pub(super) const FORMAT: u32 = 1;
/// Networks in one file.
pub(super) const MAX_NETWORKS: usize = 1000;

/// The metadata.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Description {
    pub format: u32,
    /// The version that wrote it.
    pub voxfit: String,
    pub checkpoint: CheckpointName,
    pub networks: Vec<Member>,
    /// Of the tensors, in the way of `weights_sha256`.
    pub tensors_sha256: String,
    /// What validation found best to do with label maps.
    #[serde(default = "unknown")]
    pub postprocessing: Postprocessing,
    /// `plan.toml` (floats come back from it bit for bit).
    pub plan: String,
}

fn unknown() -> Postprocessing {
    Postprocessing::none("the model file does not say what validation found")
}

/// One network of a model file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Of this network, as its manifest has it.
    pub weights_sha256: String,
    /// Steps that it was trained for.
    pub step: u64,
}

/// A model file that was looked into; its weights are read by [`Model::networks`].
#[derive(Debug)]
pub struct Model {
    /// As `plan.toml` of the run; the same of all members.
    pub plan: LoadedRun,
    /// Which of the runs' weights were packed.
    pub checkpoint: CheckpointName,
    /// Networks whose scores are averaged.
    pub members: Vec<Member>,
    /// What is done to label maps, and why.
    pub postprocessing: Postprocessing,
    tensors_sha256: String,
}

impl Model {
    /// Reads what a file says of itself.
    ///
    /// # Errors
    /// A file of another kind or version, or a damaged one.
    pub fn open(path: &Path) -> Result<Self, ExchangeError> {
        let damaged = |problem: String| ExchangeError::file(path, problem, CURE);
        let mut file = std::fs::File::open(path).map_err(|error| damaged(error.to_string()))?;
        let length = file.metadata().map_err(|error| damaged(error.to_string()))?.len();
        let (_, header) = read_header(&mut file, length).map_err(damaged)?;
        let text = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let text = text.ok_or_else(|| damaged("it is no model file of voxfit".into()))?;
        let description: Description = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        let Description { format, checkpoint, networks, tensors_sha256, postprocessing, plan, .. } = description;
        if format != FORMAT {
            let cure = "read it with the version that wrote it, or pack the run again";
            return Err(ExchangeError::file(
                path,
                format!("it is of format {format}, this version reads {FORMAT}"),
                cure,
            ));
        }
        if !(1..=MAX_NETWORKS).contains(&networks.len()) {
            return Err(damaged(format!("it holds {} networks", networks.len())));
        }
        let plan = LoadedRun::parse(path, &plan)?;
        Ok(Self { plan, checkpoint, members: networks, postprocessing, tensors_sha256 })
    }

    /// Reads and verifies all networks.
    ///
    /// # Errors
    /// A file that is damaged, or not the one that was opened.
    pub fn networks(&self, path: &Path, device: &Device) -> Result<Vec<UNet>, ExchangeError> {
        let damaged = |problem: String| ExchangeError::file(path, problem, CURE);
        let FileRead { mut tensors, digest, .. } = read_tensors(path, &|_| true)?;
        if digest != self.tensors_sha256 {
            return Err(damaged("the tensors are not what was written (SHA-256 differs)".into()));
        }
        // Before a network is built: a plan may say any size, and the tensors are as large as the file.
        let network = &self.plan.network;
        let all = pairs(network).into_iter();
        let built = all.filter(|pair| !pair.is_head() || network.deep_supervision || pair.ours.starts_with("head.0."));
        let built: Vec<Pair> = built.collect();
        for number in 0..self.members.len() {
            let differs = |pair: &&Pair| {
                tensors.get(&format!("{number}/{}", pair.ours)).is_none_or(|(shape, _)| *shape != pair.shape)
            };
            if let Some(pair) = built.iter().find(differs) {
                return Err(damaged(format!("tensor {number}/{} is missing or has another shape", pair.ours)));
            }
        }
        let mut networks = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            let mut network = UNet::new(&self.plan.network, 0, device);
            put_weights(&mut network, |name, shape| {
                let name = format!("{number}/{name}");
                match tensors.remove(&name) {
                    Some((found, values)) if found == shape => Ok(values),
                    _ => Err(damaged(format!("tensor {name} is missing or has another shape"))),
                }
            })?;
            if network.weights_sha256() != member.weights_sha256 {
                return Err(damaged(format!("the weights of network {number} are not those that it names")));
            }
            networks.push(network);
        }
        match tensors.keys().min() {
            Some(name) => Err(damaged(format!("tensor {name} belongs to no network of it"))),
            None => Ok(networks),
        }
    }
}

const CURE: &str = "give a file that `voxfit pack` wrote, or a run folder";
