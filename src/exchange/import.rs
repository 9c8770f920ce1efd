//! Weights of nnU-Net as a start for a training.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ExchangeError;
use super::foreign::{Foreign, Tensor};
use super::names::{Pair, pairs};
use super::write::{Out, write};
use crate::network::plan::{Kind, NetworkPlan, Norm, Stage};
use crate::network::{is_head, weights_sha256};
use crate::train::{load_run, refuse_too_large};

/// As many as a configuration may have.
const MAX_STAGES: usize = 12;
const MAX_SIZE: usize = 4096;

/// The arguments of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// nnU-Net's weights: `checkpoint_final.pth`, or safetensors.
    pub file: PathBuf,
    /// The file that `train --weights` takes.
    pub output: PathBuf,
    /// A run whose network is compared with.
    pub like: Option<PathBuf>,
}

/// What was found and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// As the tensors tell it. Group and instance norms have the same tensors; the latter, nnU-Net's, is assumed.
    pub network: NetworkPlan,
    /// Over the weights as written, under voxfit's names.
    pub weights_sha256: String,
    /// Tensors that were taken over.
    pub tensors: usize,
    /// What a person should know of them, a sentence each.
    pub notes: Vec<String>,
}

/// Reads nnU-Net's weights and writes them under voxfit's names.
///
/// # Errors
/// A file that cannot be read or holds another network; those of the file system.
pub fn import(options: &ImportOptions) -> Result<Imported, ExchangeError> {
    let ImportOptions { file, output, like } = options;
    let refuse = |problem: String| ExchangeError::file(file, problem, CURE);
    if output.is_dir() {
        return Err(ExchangeError::file(output, "is a folder", "give -o a file, as in weights.safetensors"));
    }
    let mut foreign = Foreign::open(file).map_err(refuse)?;
    let names = canonical(&foreign);
    let shapes: Shapes = names
        .iter()
        .filter_map(|(name, theirs)| Some((name.as_str(), foreign.tensors().get(theirs)?.shape.as_slice())))
        .collect();
    if shapes.contains_key("encoder.0.conv0.weight") || shapes.contains_key("stem.conv0.weight") {
        return Err(ExchangeError::file(file, "these are voxfit's names already", "give the file to train --weights"));
    }
    let network = infer(&shapes).map_err(refuse)?;
    let wanted = wanted(&network, &shapes).map_err(refuse)?;
    let mut notes = Vec::new();
    if let Some(run) = like {
        compare(&wanted, &load_run(run)?.network, run, &mut notes)?;
    }
    // In f32 all of them, and one as it lies in the file.
    let bytes = wanted.iter().map(|pair| (true, (0, 4 * pair.shape.iter().product::<usize>())));
    refuse_too_large(file, bytes)?;
    let mut tensors = Vec::new();
    for pair in &wanted {
        let values = foreign.read(&names[&pair.theirs]).map_err(refuse)?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(refuse(format!("tensor {} holds a value that is no finite number", pair.theirs)));
        }
        tensors.push((pair.ours.as_str(), &pair.shape[..], values));
    }
    let digest = weights_sha256(tensors.iter().map(|(name, shape, values)| (*name, *shape, values.into())));
    let out = tensors.iter().map(|(name, shape, values)| Out::floats((*name).to_owned(), shape, values)).collect();
    write(output, ("weights_sha256", &digest), out).map_err(ExchangeError::io(output))?;
    if network.stages.iter().all(|stage| stage.norm == Norm::Instance) {
        notes.push(
            "instance and group norms have the same tensors, and nnU-Net's networks have instance norms: train with \
             network.norm = \"instance\""
                .to_owned(),
        );
    }
    Ok(Imported { network, weights_sha256: digest, tensors: wanted.len(), notes })
}

const CURE: &str = "give weights of nnU-Net's PlainConvUNet or ResidualEncoderUNet in 3D, as checkpoint_final.pth or \
                    safetensors (docs/interop.md)";

/// Shapes by nnU-Net's first name of a tensor.
type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// From nnU-Net's first name of each tensor to the name it has in the file. What PyTorch's wrappers put in front is taken
/// away, and of the names that one tensor has, one is kept.
fn canonical(foreign: &Foreign) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    let counts = |tensor: &Tensor| tensor.kind.width().is_some();
    for (name, _) in foreign.tensors().iter().filter(|(_, tensor)| counts(tensor)) {
        let mut plain = name.as_str();
        while let Some(rest) = plain.strip_prefix("module.").or_else(|| plain.strip_prefix("_orig_mod.")) {
            plain = rest;
        }
        let again = plain.starts_with("decoder.encoder.") || plain.contains(".all_modules.");
        let plain = plain.strip_prefix("decoder.").filter(|rest| rest.starts_with("encoder.")).unwrap_or(plain);
        let first = plain.replacen(".all_modules.0.", ".conv.", 1).replacen(".all_modules.1.", ".norm.", 1);
        if !again || !names.contains_key(&first) {
            names.insert(first, name.clone());
        }
    }
    names
}

/// The network that the tensors are of.
fn infer(shapes: &Shapes<'_>) -> Result<NetworkPlan, String> {
    let volume = |name: &str| match shapes.get(name) {
        Some(&&[a, b, z, y, x]) if [a, b].iter().all(|size| (1..=MAX_SIZE).contains(size)) => Ok([a, b, z, y, x]),
        Some(&&[_, _, _, _]) => Err(format!("tensor {name} is of a 2D network")),
        Some(shape) => Err(format!("tensor {name} has shape {shape:?}, which no network of voxfit has")),
        None => Err(format!("tensor {name} is missing")),
    };
    let kind = if shapes.contains_key("encoder.stem.convs.0.conv.weight") { Kind::ResEnc } else { Kind::Plain };
    let (first, norm) = match kind {
        Kind::Plain => ("0.convs.0.conv.weight", "0.convs.0.norm.running_mean"),
        Kind::ResEnc => ("blocks.0.conv1.conv.weight", "blocks.0.conv1.norm.running_mean"),
    };
    let count =
        (0..MAX_STAGES + 1).take_while(|i| shapes.contains_key(&*format!("encoder.stages.{i}.{first}"))).count();
    if !(2..=MAX_STAGES).contains(&count) {
        let names = shapes.keys().next().map_or_else(|| "no tensor".to_owned(), |name| format!("{name} and others"));
        return Err(format!("it holds {names}, which is no network of 2 to {MAX_STAGES} stages"));
    }
    let mut stages = Vec::new();
    for stage in 0..count {
        let [features, _, z, y, x] = volume(&format!("encoder.stages.{stage}.{first}"))?;
        let stride = match stage {
            0 => [1; 3],
            _ => {
                let [_, _, z, y, x] = volume(&format!("decoder.transpconvs.{}.weight", count - 1 - stage))?;
                [z, y, x]
            }
        };
        let batch = shapes.contains_key(&*format!("encoder.stages.{stage}.{norm}"));
        let norm = if batch { Norm::Batch } else { Norm::Instance };
        let kernel = [z, y, x];
        if kernel.iter().any(|edge| ![1, 3].contains(edge)) || stride.iter().any(|step| ![1, 2].contains(step)) {
            return Err(format!(
                "stage {stage} has kernels {kernel:?} and strides {stride:?}, voxfit's are 1 or 3 and 1 or 2"
            ));
        }
        stages.push(Stage { features, kernel, stride, norm });
    }
    let input = if kind == Kind::ResEnc {
        "encoder.stem.convs.0.conv.weight"
    } else {
        "encoder.stages.0.0.convs.0.conv.weight"
    };
    let [_, in_channels, ..] = volume(input)?;
    let [classes, ..] = volume(&format!("decoder.seg_layers.{}.weight", count - 2))?;
    Ok(NetworkPlan { kind, in_channels, classes, stages, deep_supervision: true })
}

/// The tensors to take, all of which are there in their shape; heads of lower levels may be missing. None is left over.
fn wanted(network: &NetworkPlan, shapes: &Shapes<'_>) -> Result<Vec<Pair>, String> {
    let mut left: BTreeSet<&str> = shapes.keys().copied().collect();
    let mut wanted = Vec::new();
    for pair in pairs(network) {
        left.remove(pair.theirs.as_str());
        match shapes.get(pair.theirs.as_str()) {
            Some(shape) if **shape == *pair.shape => wanted.push(pair),
            None if pair.is_head() && !pair.ours.starts_with("head.0.") => {}
            Some(shape) => {
                return Err(format!("tensor {} has shape {shape:?}, voxfit's {:?}", pair.theirs, pair.shape));
            }
            None => return Err(format!("tensor {} is missing, which voxfit's network has", pair.theirs)),
        }
    }
    match left.first() {
        Some(name) => Err(format!("it holds {name}, which voxfit's network has not")),
        None => Ok(wanted),
    }
}

/// Holds what was read against the network of a run.
fn compare(wanted: &[Pair], network: &NetworkPlan, run: &Path, notes: &mut Vec<String>) -> Result<(), ExchangeError> {
    let found: BTreeMap<&str, &[usize]> = wanted.iter().map(|pair| (&*pair.ours, &*pair.shape)).collect();
    let theirs = pairs(network);
    for pair in theirs.iter().filter(|pair| !is_head(&pair.ours)) {
        let shape = found.get(pair.ours.as_str());
        if shape.is_none_or(|shape| **shape != *pair.shape) {
            let what = shape
                .map_or_else(|| "is not in the file".to_owned(), |shape| format!("has shape {shape:?} in the file"));
            let problem = format!("its network's {} of shape {:?} {what}", pair.ours, pair.shape);
            return Err(ExchangeError::file(run, problem, "give a run with nnU-Net's plan, or leave out --like"));
        }
    }
    let names: BTreeSet<&str> = theirs.iter().map(|pair| pair.ours.as_str()).collect();
    if let Some(name) = found.keys().find(|name| !names.contains(*name) && !is_head(name)) {
        let problem = format!("its network has no {name}, which the file has");
        return Err(ExchangeError::file(run, problem, "give a run with nnU-Net's plan, or leave out --like"));
    }
    let heads = |name: &str| found.get(name).map(|shape| shape[0]);
    if let Some(classes) = heads("head.0.bias").filter(|classes| *classes != network.classes) {
        notes.push(format!(
            "the file's heads have {classes} classes, the run's network {}: `train --weights` will begin its heads anew",
            network.classes
        ));
    }
    Ok(())
}
