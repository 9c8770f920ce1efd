//! Weights that a training begins with in place of drawn ones (`--weights`).
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};

use super::TrainError;
use super::checkpoint::{self, Named, WEIGHTS};
use super::foreign::refuse_foreign;
use crate::network::{UNet, is_head};

/// Puts the weights of a file into `network`: of a checkpoint, or of what `export` and `import` write. Heads of another
/// number of classes, or that the file has not, stay as they were drawn. What a person should know of it, a sentence
/// each.
///
/// # Errors
/// A file that cannot be read or is damaged; a tensor other than a head's that is missing or of another shape.
pub(super) fn start_from(path: &Path, network: &mut UNet) -> Result<Vec<String>, TrainError> {
    refuse_foreign(path)?;
    let mut weights = if is_checkpoint(path) {
        let named = checkpoint::load_weights(path)?.into_tensors().into_iter();
        named.filter_map(|(name, tensor)| Some((name.strip_prefix(WEIGHTS)?.to_owned(), tensor))).collect()
    } else {
        checkpoint::load_bare(path)?
    };
    let named = |start: &str| weights.keys().any(|name| name.starts_with(start));
    for (start, problem, cure) in [
        ("encoder.stages.", "these are nnU-Net's names", "`voxfit import FILE -o start.safetensors` writes voxfit's"),
        (
            "0/",
            "this is a model file",
            "give the checkpoint.safetensors or an export of the run that it was packed from",
        ),
    ] {
        if named(start) {
            return Err(TrainError::run(path, problem, cure));
        }
    }
    let mut drawn = Vec::new();
    for parameter in &mut network.parameters {
        let Some(values) = take(&mut weights, path, &parameter.name, &parameter.shape)? else {
            drawn.push(parameter.name.clone());
            continue;
        };
        let data = TensorData::new(values, parameter.value.dims());
        parameter.value = Tensor::from_data(data, &parameter.value.device());
    }
    for buffer in &mut network.buffers {
        if let Some(values) = take(&mut weights, path, &buffer.name, &[buffer.values.len()])? {
            buffer.values = values;
        }
    }
    let mut told = Vec::new();
    if let Some(first) = drawn.first() {
        let classes = network.plan().classes;
        told.push(format!(
            "{}: {first} and other tensors of heads do not fit {classes} classes or are not in the file; {} of them begin \
             anew, drawn from train.seed",
            path.display(),
            drawn.len()
        ));
    }
    let unused: Vec<&String> = weights.keys().filter(|name| !is_head(name)).collect();
    if let Some(first) = unused.first() {
        told.push(format!(
            "{}: {} of its tensors ({first}, ...) are not used, because this network has none of that name",
            path.display(),
            unused.len()
        ));
    }
    Ok(told)
}

/// A tensor's values; none of a head that does not fit.
fn take(
    weights: &mut BTreeMap<String, Named>,
    path: &Path,
    name: &str,
    shape: &[usize],
) -> Result<Option<Vec<f32>>, TrainError> {
    match weights.remove(name) {
        Some((found, values)) if found == shape => Ok(Some(values)),
        _ if is_head(name) => Ok(None),
        Some((found, _)) => Err(checkpoint::mismatch(path, name, &format!("has shape {found:?}, not {shape:?}"))),
        None => Err(checkpoint::mismatch(path, name, "is missing")),
    }
}

/// Whether the file says that it is a checkpoint, whose digests are then held to; one that cannot be read is damaged as
/// either.
fn is_checkpoint(path: &Path) -> bool {
    let metadata = || {
        let mut file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let (_, header) = checkpoint::read_header(&mut file, length).ok()?;
        header.metadata().clone()
    };
    match metadata() {
        Some(metadata) => metadata.contains_key("voxfit"),
        None => path.with_file_name("previous.safetensors").exists(),
    }
}
