//! Checkpoints: one safetensors file each, so that one rename makes all of it true.
//!
//! Tensors are `weights/NAME` and, in the checkpoint to go on from, `optimizer/STATE/NAME`; all else is JSON in the
//! file's metadata. The file carries a SHA-256 of its tensors, which is verified on reading.
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, View};
use serde::{Deserialize, Serialize};

use super::TrainError;
use super::foreign::{refuse_foreign, refuse_too_large};
use super::optimizer::Optimizer;
use super::precision::LossScale;
use crate::network::{UNet, WeightsDigest, little_endian, weights_sha256};
use crate::ops::HostView;

/// Bytes of a header; one of a network of twelve stages with its optimizer has 100 KiB.
const MAX_HEADER: u64 = 4 << 20;
/// What the tensors of a checkpoint that voxfit wrote are called first.
pub(super) const WEIGHTS: &str = "weights/";

/// What a checkpoint knows beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Complete steps.
    pub step: u64,
    /// Steps of the whole run, which the learning rate depends on.
    pub steps: u64,
    /// Updates made: steps less those skipped for overflow.
    pub updates: u64,
    /// Factor on the loss of the next step; 1 without one.
    pub loss_scale: f64,
    /// Steps without overflow since the scale last changed.
    pub clean_steps: u32,
    /// Best mean Dice so far and its step.
    pub best: Option<(f64, u64)>,
    /// The run is done.
    pub finished: bool,
    /// Of the configuration that made it.
    pub config_sha256: String,
    /// Over the weights of this step.
    pub weights_sha256: String,
}

struct Numbers {
    shape: Vec<usize>,
    values: HostView,
}

impl Numbers {
    fn of(shape: &[usize], tensor: &Tensor<1>) -> Self {
        Self { shape: shape.to_vec(), values: HostView::of(tensor) }
    }
}

impl View for Numbers {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.values.values() {
            Cow::Borrowed(values) => little_endian(values),
            Cow::Owned(values) => Cow::Owned(little_endian(&values).into_owned()),
        }
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}

/// Writes a checkpoint aside, syncs it and renames it over `path`; what was there is kept as `previous.safetensors` until
/// the next. `optimizer` is left out of checkpoints that are only predicted with.
///
/// # Errors
/// Those of the file system, after which `path` is as it was.
pub fn save(path: &Path, network: &UNet, optimizer: Option<&Optimizer>, state: &State) -> Result<(), TrainError> {
    let mut tensors: Vec<(String, Numbers)> = Vec::new();
    for parameter in &network.parameters {
        let numbers = Numbers::of(&parameter.shape, &parameter.value);
        tensors.push((format!("{WEIGHTS}{}", parameter.name), numbers));
    }
    for buffer in &network.buffers {
        let shape = [buffer.values.len()];
        let values = Tensor::from_data(TensorData::new(buffer.values.clone(), shape), &Device::flex());
        tensors.push((format!("{WEIGHTS}{}", buffer.name), Numbers::of(&shape, &values)));
    }
    if let Some(optimizer) = optimizer {
        for (parameter, states) in network.parameters.iter().zip(optimizer.tensors()) {
            for (name, tensor) in optimizer.state_names().iter().zip(states) {
                let numbers = Numbers::of(&parameter.shape, tensor);
                tensors.push((format!("optimizer/{name}/{}", parameter.name), numbers));
            }
        }
    }
    let digest = weights_sha256(tensors.iter().map(|(name, t)| (name.as_str(), &t.shape[..], t.values.values())));
    let failed = |error: std::io::Error| TrainError::io(path)(error);
    let json = serde_json::to_string(state).map_err(|error| failed(error.into()))?;
    let metadata = HashMap::from([("voxfit".to_owned(), json), ("tensors_sha256".to_owned(), digest)]);
    let folder = path.parent().unwrap_or(Path::new("."));
    crate::files::make_private(folder).map_err(failed)?;
    let aside = crate::files::aside(folder).map_err(failed)?;
    safetensors::serialize_to_file(tensors, Some(metadata), aside.path()).map_err(|error| {
        failed(match error {
            SafeTensorError::IoError(error) => error,
            other => std::io::Error::other(other.to_string()),
        })
    })?;
    // It is another file by now, and its owner's alone, too.
    fs::File::open(aside.path()).and_then(|file| file.sync_all()).map_err(failed)?;
    if path.exists() {
        let previous = folder.join("previous.safetensors");
        let _ = fs::remove_file(&previous);
        // A second name, so that at no moment there is no checkpoint; a file system without links gets a rename.
        if fs::hard_link(path, &previous).is_err() {
            fs::rename(path, &previous).map_err(failed)?;
        }
    }
    aside.persist(path).map_err(|error| failed(error.error))?;
    crate::files::sync_folder(folder).map_err(failed)
}

/// A tensor's shape and values.
pub(super) type Named = (Vec<usize>, Vec<f32>);

/// Tensors by name, and the state.
pub struct Checkpoint {
    tensors: HashMap<String, Named>,
    /// Steps, scale and digests.
    pub state: State,
}

/// Reads and verifies a checkpoint; where it is damaged or missing, the one before it.
///
/// # Errors
/// Neither can be used; both are named.
pub fn load(path: &Path) -> Result<Checkpoint, TrainError> {
    load_either(path, &|_| true)
}

/// As [`load`], for prediction: of the tensors only the weights are kept.
///
/// # Errors
/// As [`load`].
pub fn load_weights(path: &Path) -> Result<Checkpoint, TrainError> {
    load_either(path, &|name| name.starts_with(WEIGHTS))
}

fn load_either(path: &Path, keep: &dyn Fn(&str) -> bool) -> Result<Checkpoint, TrainError> {
    let first = match load_one(path, keep) {
        Ok(checkpoint) => return Ok(checkpoint),
        Err(error) => error,
    };
    let previous = path.with_file_name("previous.safetensors");
    match load_one(&previous, keep) {
        Ok(checkpoint) => {
            tracing::warn!("{first}; using {} of step {}", previous.display(), checkpoint.state.step);
            Ok(checkpoint)
        }
        Err(_) => Err(first),
    }
}

/// Every tensor of a file that `export` or `import` wrote: voxfit's names and nothing else, with the digest of all of them
/// where the metadata kept it.
///
/// # Errors
/// A file that cannot be read or is damaged.
pub(super) fn load_bare(path: &Path) -> Result<BTreeMap<String, Named>, TrainError> {
    let read = read_tensors(path, &|_| true)?;
    match read.metadata.get("weights_sha256") {
        Some(digest) if *digest != read.digest => {
            Err(TrainError::run(path, "the tensors are not what was written (SHA-256 differs)", "export them again"))
        }
        _ => Ok(read.tensors.into_iter().collect()),
    }
}

fn load_one(path: &Path, keep: &dyn Fn(&str) -> bool) -> Result<Checkpoint, TrainError> {
    let damaged = |problem: String| TrainError::run(path, problem, CURE);
    let FileRead { tensors, metadata, digest, weights } = read_tensors(path, keep)?;
    if metadata.get("tensors_sha256") != Some(&digest) {
        return Err(damaged("the tensors are not what was written (SHA-256 differs)".into()));
    }
    let state = metadata.get("voxfit").ok_or_else(|| damaged("not a voxfit checkpoint".into()))?;
    let state: State = serde_json::from_str(state).map_err(|error| damaged(error.to_string()))?;
    state.check().map_err(damaged)?;
    // It is printed, and written beside every prediction.
    if state.weights_sha256 != weights {
        return Err(damaged("its weights are not those that it names (weights_sha256 differs)".into()));
    }
    Ok(Checkpoint { tensors, state })
}

const CURE: &str = "use another checkpoint, or train again";

/// What is in a file.
pub(crate) struct FileRead {
    pub tensors: HashMap<String, Named>,
    pub metadata: HashMap<String, String>,
    /// Over all tensors, kept or not.
    pub digest: String,
    /// Over those below [`WEIGHTS`], without it.
    weights: String,
}

/// Tensor after tensor, in the order of the digest, so that no more is in memory than is kept, and one.
///
/// # Errors
/// A file that is damaged, holds other numbers than f32, or more than the free memory.
pub(crate) fn read_tensors(path: &Path, keep: &dyn Fn(&str) -> bool) -> Result<FileRead, TrainError> {
    let damaged = |problem: String| TrainError::run(path, problem, CURE);
    let failed = |error: std::io::Error| damaged(error.to_string());
    let mut file = fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    refuse_foreign(path)?;
    let (start, header) = read_header(&mut file, length).map_err(damaged)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let mut infos: Vec<_> = header.tensors().into_iter().collect();
    infos.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    refuse_too_large(path, infos.iter().map(|(name, info)| (keep(name), info.data_offsets)))?;
    let mut tensors = HashMap::new();
    let (mut digest, mut weights) = (WeightsDigest::new(), WeightsDigest::new());
    for (name, info) in infos {
        if info.dtype != Dtype::F32 {
            return Err(damaged(format!("tensor {name} is {:?}, not F32", info.dtype)));
        }
        // The header was checked: offsets ascend and end with the file.
        let (from, to) = info.data_offsets;
        let mut values = vec![0f32; (to - from) / size_of::<f32>()];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        file.seek(SeekFrom::Start(start + from as u64)).and_then(|_| file.read_exact(bytes)).map_err(failed)?;
        digest.add(&name, &info.shape, bytes);
        if let Some(name) = name.strip_prefix(WEIGHTS) {
            weights.add(name, &info.shape, bytes);
        }
        if keep(&name) {
            if cfg!(target_endian = "big") {
                values.iter_mut().for_each(|value| *value = f32::from_bits(value.to_bits().swap_bytes()));
            }
            tensors.insert(name, (info.shape.clone(), values));
        }
    }
    Ok(FileRead { tensors, metadata, digest: digest.finish(), weights: weights.finish() })
}

/// Where the tensors begin, and what there is; the tensors fill the file of `length` bytes to its end.
///
/// # Errors
/// A header that is too long or damaged; a file cut short.
pub(crate) fn read_header(file: &mut fs::File, length: u64) -> Result<(u64, Metadata), String> {
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|error| error.to_string())?;
    let size = u64::from_le_bytes(size);
    let start = size.checked_add(8).filter(|start| *start <= length);
    let start = start.ok_or_else(|| format!("its header would have {size} bytes, the file has {length}"))?;
    if size > MAX_HEADER {
        return Err(format!("its header has {size} bytes, read are up to {MAX_HEADER}"));
    }
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    // Offsets and shapes are checked with it.
    let header: Metadata = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if start.checked_add(header.data_len() as u64) != Some(length) {
        return Err("it is cut short or longer than its header says".into());
    }
    Ok((start, header))
}

impl Checkpoint {
    pub(super) fn into_tensors(self) -> HashMap<String, Named> {
        self.tensors
    }

    /// The weights by name, with shape and values, names in bytewise order.
    pub fn weights(&self) -> BTreeMap<&str, (&[usize], &[f32])> {
        let all = self.tensors.iter();
        let named = all.filter_map(|(name, (shape, values))| {
            Some((name.strip_prefix("weights/")?, (shape.as_slice(), values.as_slice())))
        });
        named.collect()
    }

    /// Puts the weights into `network`.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn restore_weights(&mut self, network: &mut UNet, path: &Path) -> Result<(), TrainError> {
        let take = |name: &str, shape: &[usize]| {
            let name = format!("{WEIGHTS}{name}");
            match self.tensors.remove(&name) {
                Some((found, values)) if found == shape => Ok(values),
                Some((found, _)) => Err(mismatch(path, &name, &format!("has shape {found:?}, not {shape:?}"))),
                None => Err(mismatch(path, &name, "is missing")),
            }
        };
        put_weights(network, take)
    }

    /// Puts the optimizer's state back.
    ///
    /// # Errors
    /// A tensor that is missing.
    pub fn restore_optimizer(
        &mut self,
        optimizer: &mut Optimizer,
        network: &UNet,
        path: &Path,
    ) -> Result<(), TrainError> {
        let names = optimizer.state_names();
        let mut state = Vec::new();
        if self.state.updates > 0 {
            for parameter in &network.parameters {
                let mut tensors = Vec::new();
                for name in names {
                    let name = format!("optimizer/{name}/{}", parameter.name);
                    let (shape, values) =
                        self.tensors.remove(&name).ok_or_else(|| mismatch(path, &name, "is missing"))?;
                    if shape != parameter.shape {
                        let problem = format!("has shape {shape:?}, not {:?}", parameter.shape);
                        return Err(mismatch(path, &name, &problem));
                    }
                    tensors.push(values);
                }
                state.push(tensors);
            }
        }
        optimizer.restore(&network.parameters, state, self.state.updates);
        Ok(())
    }

    /// As it was at this step; whether it moves is as in `like`.
    pub fn loss_scale(&self, like: LossScale) -> LossScale {
        LossScale { scale: self.state.loss_scale, clean_steps: self.state.clean_steps, dynamic: like.dynamic }
    }
}

/// Puts values into a network that `take` finds by name and shape.
///
/// # Errors
/// Those of `take`.
pub(crate) fn put_weights<E>(
    network: &mut UNet,
    mut take: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
) -> Result<(), E> {
    for parameter in &mut network.parameters {
        let values = take(&parameter.name, &parameter.shape)?;
        let data = TensorData::new(values, parameter.value.dims());
        parameter.value = Tensor::from_data(data, &parameter.value.device());
    }
    for buffer in &mut network.buffers {
        buffer.values = take(&buffer.name, &[buffer.values.len()])?;
    }
    Ok(())
}

pub(super) fn mismatch(path: &Path, name: &str, problem: &str) -> TrainError {
    TrainError::run(path, format!("tensor {name} {problem}"), "use weights of the same network plan")
}
