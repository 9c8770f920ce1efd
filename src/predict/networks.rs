//! Where networks come from: a run folder, the folds in one, or a model file.
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::postprocess::{self, Postprocessing};
use super::{CheckpointName, PredictError};
use crate::exchange::{Member, Model};
use crate::network::UNet;
use crate::train::{LoadedRun, checkpoint, load_run};

/// What was found at the place of a run.
pub(super) enum Source {
    /// One run folder or several, whose networks are averaged.
    Folders(Vec<PathBuf>),
    Model(PathBuf, Box<Model>),
}

impl Source {
    /// Looks what there is, and reads its plan.
    pub fn open(run: &Path) -> Result<(Self, LoadedRun), PredictError> {
        if run.is_file() {
            let model = Model::open(run).map_err(|error| PredictError::Run(error.to_string()))?;
            let plan = model.plan.clone();
            return Ok((Self::Model(run.to_owned(), Box::new(model)), plan));
        }
        let folders = members(run)?;
        let plan = read_plan(&folders[0])?;
        Ok((Self::Folders(folders), plan))
    }

    /// How many networks there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Folders(folders) => folders.len(),
            Self::Model(_, model) => model.members.len(),
        }
    }

    /// What validation found best to do with label maps.
    pub fn postprocessing(&self) -> Result<Postprocessing, PredictError> {
        match self {
            Self::Folders(folders) => postprocess::of_run(folders),
            Self::Model(_, model) => Ok(model.postprocessing.clone()),
        }
    }

    /// The files in which the plans are.
    pub fn plans(&self) -> Vec<PathBuf> {
        match self {
            Self::Folders(folders) => folders.iter().map(|folder| folder.join("plan.toml")).collect(),
            Self::Model(path, _) => vec![path.clone()],
        }
    }

    /// Which weights those will be, if `asked` is asked for: a model file holds one set.
    pub fn checkpoint(&self, asked: CheckpointName) -> CheckpointName {
        match self {
            Self::Folders(_) => asked,
            Self::Model(_, model) => model.checkpoint,
        }
    }

    /// The networks with what each is.
    pub fn networks(
        &self,
        name: CheckpointName,
        plan: &LoadedRun,
        device: &Device,
    ) -> Result<Vec<(UNet, Member)>, PredictError> {
        let folders = match self {
            Self::Folders(folders) => folders,
            Self::Model(path, model) => {
                let networks = model.networks(path, device);
                let networks = networks.map_err(|error| PredictError::Run(error.to_string()))?;
                return Ok(networks.into_iter().zip(model.members.clone()).collect());
            }
        };
        let mut networks = Vec::new();
        for folder in folders {
            if read_plan(folder)?.network != plan.network {
                let text = format!("{}: its network is not that of {}", folder.display(), folders[0].display());
                return Err(PredictError::Run(format!("{text}; predict with each alone")));
            }
            networks.push(read_network(folder, name, plan, device)?);
        }
        Ok(networks)
    }
}

/// The run folder itself, or its folds; at least one.
///
/// # Errors
/// A folder that holds neither.
pub fn members(run: &Path) -> Result<Vec<PathBuf>, PredictError> {
    if run.join("plan.toml").is_file() {
        return Ok(vec![run.to_owned()]);
    }
    let folds: Vec<PathBuf> = (0..1000)
        .map(|fold| run.join(format!("fold_{fold}")))
        .take_while(|folder| folder.join("plan.toml").is_file())
        .collect();
    if folds.is_empty() {
        let text = format!("{}: no run in this folder (no plan.toml)", run.display());
        return Err(PredictError::Run(format!("{text}; give the run folder of a training")));
    }
    Ok(folds)
}

fn read_plan(folder: &Path) -> Result<LoadedRun, PredictError> {
    load_run(folder).map_err(|error| PredictError::Run(error.to_string()))
}

fn read_network(
    folder: &Path,
    name: CheckpointName,
    plan: &LoadedRun,
    device: &Device,
) -> Result<(UNet, Member), PredictError> {
    let path = crate::train::checkpoint_path(folder, name.folder());
    if !path.is_file() {
        let cure = match name {
            CheckpointName::Best => "predict with --checkpoint last, or train with validation",
            CheckpointName::Last => "train longer than one checkpoint, or wait for the first",
        };
        return Err(PredictError::Run(format!("{}: no such checkpoint; {cure}", path.display())));
    }
    let failed = |error: crate::train::TrainError| PredictError::Run(error.to_string());
    let mut checkpoint = checkpoint::load_weights(&path).map_err(failed)?;
    let mut network = UNet::new(&plan.network, 0, device);
    checkpoint.restore_weights(&mut network, &path).map_err(failed)?;
    let state = checkpoint.state;
    Ok((network, Member { weights_sha256: state.weights_sha256, step: state.step }))
}
