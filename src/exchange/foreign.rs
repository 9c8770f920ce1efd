//! Tensors of a file of another program: safetensors, or what `torch.save` writes.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use safetensors::Dtype;

use super::numbers::Kind;
use super::pickle::{Id, Stored, Value, Values};
use super::zip::Archive;
use crate::train::checkpoint::read_header;

/// Bytes of the pickle in a file of PyTorch, which holds everything but the numbers.
const MAX_PICKLE: u64 = 16 << 20;
/// Where the weights are in what programs save, first found first: nnU-Net, Lightning and many, others.
const STATE_DICTS: [&str; 3] = ["network_weights", "state_dict", "model_state_dict"];

/// A file, its tensors by name, and where their numbers are.
pub struct Foreign {
    tensors: BTreeMap<String, Tensor>,
    place: Place,
}

/// Shape and kind of one tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub kind: Kind,
    at: At,
}

#[derive(Clone, Debug)]
enum At {
    /// First and last byte, behind the header.
    Bytes(u64, u64),
    Stored(Stored),
}

enum Place {
    Safetensors { file: File, start: u64 },
    PyTorch { archive: Archive, prefix: String, values: Values },
}

impl Foreign {
    /// Looks what is in a file, by its content; numbers are read later.
    ///
    /// # Errors
    /// A file of another kind, or one that is damaged.
    pub fn open(path: &Path) -> Result<Self, String> {
        let mut file = File::open(path).map_err(|error| error.to_string())?;
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        let mut start = [0; 4];
        let read = file.read(&mut start).map_err(|error| error.to_string())?;
        if start.starts_with(b"PK\x03\x04") {
            return Self::pytorch(path);
        }
        // The length of a safetensors header may begin like a pickle, but for its zeros.
        if read >= 2 && start[0] == 0x80 && start[1] < 6 && !start.ends_with(&[0, 0]) {
            return Err("a file of PyTorch before 1.6, which is one long pickle".into());
        }
        file.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
        let (start, header) = read_header(&mut file, length)?;
        let tensor = |info: &safetensors::tensor::TensorInfo| Tensor {
            shape: info.shape.clone(),
            kind: match info.dtype {
                Dtype::F32 => Kind::F32,
                Dtype::F16 => Kind::F16,
                Dtype::BF16 => Kind::Bf16,
                Dtype::F64 => Kind::F64,
                _ => Kind::Other,
            },
            at: At::Bytes(info.data_offsets.0 as u64, info.data_offsets.1 as u64),
        };
        let tensors = header.tensors().into_iter().map(|(name, info)| (name, tensor(info))).collect();
        Ok(Self { tensors, place: Place::Safetensors { file, start } })
    }

    fn pytorch(path: &Path) -> Result<Self, String> {
        let mut archive = Archive::open(path)?;
        let pickles: Vec<&str> =
            archive.names().filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl")).collect();
        let [pickle] = pickles[..] else {
            return Err("a ZIP archive that torch.save did not write (no data.pkl)".into());
        };
        let (pickle, prefix) = (pickle.to_owned(), pickle.trim_end_matches("data.pkl").to_owned());
        let order = format!("{prefix}byteorder");
        if archive.size(&order).is_some() && archive.read(&order, 16)? != b"little" {
            return Err("its numbers were written by a machine of the other byte order".into());
        }
        let values = Values::read(&archive.read(&pickle, MAX_PICKLE)?)?;
        let mut tensors = BTreeMap::new();
        for (name, id) in state_dict(&values) {
            let Value::Tensor(stored) = values.get(id) else { continue };
            let shape = stored.shape.iter().map(|size| usize::try_from(*size)).collect::<Result<_, _>>();
            let shape = shape.map_err(|_| format!("tensor {name} is larger than any memory"))?;
            let tensor = Tensor { shape, kind: stored.storage.kind, at: At::Stored((**stored).clone()) };
            if tensors.insert(name.to_owned(), tensor).is_some() {
                return Err(format!("tensor {name} is there twice"));
            }
        }
        Ok(Self { tensors, place: Place::PyTorch { archive, prefix, values } })
    }

    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The numbers of a tensor whose shape the caller has looked at.
    ///
    /// # Errors
    /// A tensor that is not there, is of no real numbers, or does not lie within the file.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, String> {
        let tensor = self.tensors.get(name).ok_or_else(|| format!("tensor {name} is missing"))?;
        let Some(width) = tensor.kind.width() else { return Err(format!("tensor {name} is of no real numbers")) };
        match (&mut self.place, &tensor.at) {
            (Place::Safetensors { file, start }, At::Bytes(from, to)) => {
                let mut bytes = Vec::new();
                file.seek(SeekFrom::Start(*start + from)).map_err(|error| error.to_string())?;
                file.take(to - from).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
                let values = tensor.kind.all(&bytes);
                let wanted = tensor.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
                values
                    .filter(|values| Some(values.len()) == wanted)
                    .ok_or_else(|| format!("tensor {name} is cut short"))
            }
            (Place::PyTorch { archive, prefix, values }, At::Stored(stored)) => {
                let entry = values.text(stored.storage.entry).unwrap_or_default();
                let entry = format!("{prefix}data/{entry}");
                let size = stored.storage.elements.checked_mul(width as u64);
                if size.is_none() || archive.size(&entry) != size {
                    return Err(format!("tensor {name} is not as large as its entry in the archive"));
                }
                let bytes = archive.read(&entry, u64::MAX)?;
                gathered(stored, tensor.kind, &bytes)
                    .ok_or_else(|| format!("tensor {name} is a part of another's numbers, and not all of its own"))
            }
            _ => Err(format!("tensor {name} is missing")),
        }
    }
}

/// The dictionary of tensors by name.
fn state_dict(values: &Values) -> Vec<(&str, Id)> {
    let top = values.entries(values.top);
    let inner = STATE_DICTS.iter().find_map(|wanted| top.iter().find(|(name, _)| name == wanted));
    match inner {
        Some((_, id)) => values.entries(*id),
        None => top,
    }
}

/// A tensor's numbers in their order; none where they do not lie within `bytes`.
fn gathered(stored: &Stored, kind: Kind, bytes: &[u8]) -> Option<Vec<f32>> {
    let count = stored.shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size))?;
    // A stride of 0 could make any number of one, and a part of a storage stand for reading any length of file.
    if count != stored.storage.elements {
        return None;
    }
    let width = kind.width()?;
    let mut values = Vec::with_capacity(usize::try_from(count).ok()?);
    let mut place = vec![0u64; stored.shape.len()];
    for _ in 0..count {
        let steps = place.iter().zip(&stored.strides).map(|(at, stride)| at.checked_mul(*stride));
        let at = steps.into_iter().try_fold(stored.offset, |sum, step| sum.checked_add(step?))?;
        values.push(kind.at(bytes, usize::try_from(at).ok()?.checked_mul(width)?)?);
        for (at, size) in place.iter_mut().zip(&stored.shape).rev() {
            *at += 1;
            if *at < *size {
                break;
            }
            *at = 0;
        }
    }
    Some(values)
}
