//! Weights of a run as a file for other programs.
use std::path::{Path, PathBuf};

use super::names::{aliases, pairs};
use super::write::{Out, write};
use super::{ExchangeError, plans, source};
use crate::network::plan::Norm;
use crate::predict::CheckpointName;
use crate::train::LoadedRun;
use crate::train::checkpoint::Checkpoint;

/// Whose names the tensors get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// voxfit's: exactly the tensors that `weights_sha256` is over.
    Voxfit,
    /// nnU-Net's, with the files that go with them.
    NnUnet,
}

/// The arguments of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// The run folder.
    pub run: PathBuf,
    /// The file of weights; what goes with it lies beside it.
    pub output: PathBuf,
    /// Under whose names.
    pub layout: Layout,
    /// Which of the run's weights.
    pub checkpoint: CheckpointName,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Over the run's weights, under voxfit's names.
    pub weights_sha256: String,
    /// Tensors in the file.
    pub tensors: usize,
    /// The weights first.
    pub files: Vec<PathBuf>,
    /// What a person should know of them, a sentence each.
    pub notes: Vec<String>,
}

/// Writes the weights of a run.
///
/// # Errors
/// A run that cannot be read; a network that the layout has no names for; those of the file system.
pub fn export(options: &ExportOptions) -> Result<Exported, ExchangeError> {
    let ExportOptions { run, output, layout, .. } = options;
    if output.is_dir() {
        return Err(ExchangeError::file(output, "is a folder", "give -o a file, as in weights.safetensors"));
    }
    let (plan, checkpoint) = source::open(run, options.checkpoint)?;
    let weights_sha256 = checkpoint.state.weights_sha256.clone();
    let mut notes = Vec::new();
    let tensors = match layout {
        Layout::Voxfit => {
            let weights = checkpoint.weights();
            weights.into_iter().map(|(name, (shape, values))| Out::floats(name.to_owned(), shape, values)).collect()
        }
        Layout::NnUnet => nnunet(run, &plan, &checkpoint, &mut notes)?,
    };
    let count = tensors.len();
    let mut files = vec![output.clone()];
    if *layout == Layout::NnUnet {
        let folder = output.parent().unwrap_or(Path::new(""));
        files.extend(plans::write(folder, run, &plan)?);
    }
    write(output, ("weights_sha256", &weights_sha256), tensors).map_err(ExchangeError::io(output))?;
    Ok(Exported { weights_sha256, tensors: count, files, notes })
}

/// The weights under every name that nnU-Net's state dict has for them.
fn nnunet<'a>(
    run: &Path,
    plan: &LoadedRun,
    checkpoint: &'a Checkpoint,
    notes: &mut Vec<String>,
) -> Result<Vec<Out<'a>>, ExchangeError> {
    let network = &plan.network;
    let cannot = |problem: &str, cure: &str| Err(ExchangeError::file(run, problem, cure));
    if network.stages.len() < 2 {
        return cannot("the network has one stage, and nnU-Net builds none such", "export with --layout voxfit");
    }
    // nnU-Net takes a list of one value for the value itself.
    if !plan.regions.is_empty() && plan.regions.iter().all(|region| region.values.len() == 1) {
        let cure = "export with --layout voxfit";
        return cannot("every region is one class, which nnU-Net would decide between and not find each", cure);
    }
    if !plans::groups_follow_the_rule(network) {
        let cure = "export with --layout voxfit";
        return cannot("its group norms have other groups than voxfit chooses, which voxfit_norm.py cannot say", cure);
    }
    let mut found = checkpoint.weights();
    let mut tensors = Vec::new();
    for pair in pairs(network) {
        let names = aliases(&pair.theirs).into_iter();
        match found.remove(pair.ours.as_str()) {
            Some((shape, values)) if shape == pair.shape => {
                tensors.extend(names.map(|name| Out::floats(name, shape, values)));
            }
            None if pair.is_head() && !network.deep_supervision => {
                tensors.extend(names.map(|name| Out::zeros(name, &pair.shape)));
            }
            _ => return cannot(&format!("tensor {} is not what plan.toml says", pair.ours), "train again"),
        }
        // PyTorch counts batches beside a running variance, and uses the number for nothing by default.
        if let Some(norm) = pair.theirs.strip_suffix(".running_var") {
            let steps = i64::try_from(checkpoint.state.updates).unwrap_or(i64::MAX);
            let names = aliases(&format!("{norm}.num_batches_tracked"));
            tensors.extend(names.into_iter().map(|name| Out::number(name, steps)));
        }
    }
    if let Some(name) = found.keys().next() {
        return cannot(&format!("tensor {name} is not in plan.toml"), "train again");
    }
    tell(plan, notes);
    Ok(tensors)
}

fn tell(plan: &LoadedRun, notes: &mut Vec<String>) {
    if !plan.network.deep_supervision {
        notes.push(
            "heads of the lower levels, which this network was trained without (network.deep_supervision), are zeros: \
             nnU-Net's state dict has them and its predictor does not use them"
                .to_owned(),
        );
    }
    match plan.network.stages.first().map(|stage| stage.norm) {
        Some(Norm::Group { .. }) => notes.push(
            "the norm is group, of which nnU-Net has no trainer: plans.json names the class in voxfit_norm.py, so put \
             that file's folder on PYTHONPATH"
                .to_owned(),
        ),
        Some(Norm::Batch) => {
            notes.push("the norm is batch: plans.json builds BatchNorm3d, with the running statistics".to_owned());
        }
        _ => {}
    }
}
