//! The part of Python's pickle that a file of tensors is written in, read as data: nothing that it names is looked up,
//! called or built. (Opcodes: CPython's Lib/pickletools.py; tensors: torch/_utils.py and torch/serialization.py.)
//!
//! Values lie in one list and hold each other by number, so that none is ever nested in memory, however deep the file
//! says they are, and none is copied, however often the file names it.
mod machine;

use super::numbers::Kind;
use machine::Machine;

/// A value's number.
pub type Id = usize;

/// What is read.
#[derive(Debug)]
pub enum Value {
    Nothing,
    Int(i64),
    Text(Box<str>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Tensor(Box<Stored>),
    Storage(Storage),
    Symbol(Symbol),
    /// Something that is no weight (a number of the training's log, a device): passed over.
    Passed,
}

/// Numbers in an entry of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    pub kind: Kind,
    /// Its name, a text.
    pub entry: Id,
    pub elements: u64,
}

/// A tensor's part of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub storage: Storage,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// What a file may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    OrderedDict,
    Tensor,
    Parameter,
    Storage(Kind),
    /// Passed over with what it is called with.
    Passed,
}

impl Symbol {
    fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("torch", storage) if storage.ends_with("Storage") => Self::Storage(match storage {
                "FloatStorage" => Kind::F32,
                "HalfStorage" => Kind::F16,
                "BFloat16Storage" => Kind::Bf16,
                "DoubleStorage" => Kind::F64,
                _ => Kind::Other,
            }),
            // Of nnU-Net's record of the training, and of its arguments.
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct")
            | ("numpy", "dtype" | "ndarray")
            | ("_codecs", "encode")
            | ("torch", "device" | "Size") => Self::Passed,
            _ => return None,
        })
    }
}

/// All values of a file.
pub struct Values {
    all: Vec<Value>,
    /// The one that the file is.
    pub top: Id,
}

impl Values {
    /// Reads a pickle.
    ///
    /// # Errors
    /// What no file of tensors holds, and anything that would have to be run.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        Machine::new(bytes).run()
    }

    pub fn get(&self, id: Id) -> &Value {
        self.all.get(id).unwrap_or(&Value::Nothing)
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Entries of a dictionary whose keys are texts.
    pub fn entries(&self, id: Id) -> Vec<(&str, Id)> {
        match self.get(id) {
            Value::Dict(pairs) => pairs.iter().filter_map(|(key, value)| Some((self.text(*key)?, *value))).collect(),
            _ => Vec::new(),
        }
    }
}
