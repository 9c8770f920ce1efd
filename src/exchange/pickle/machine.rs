//! The machine that a pickle is written for: a stack of values, marks on it, and a memo.
use std::collections::BTreeMap;

use super::{Id, Storage, Stored, Symbol, Value, Values};

/// Most values; the checkpoint of a thousand epochs with a hundred classes has some hundred thousand.
const MAX_VALUES: usize = 2_000_000;
const MAX_TENSORS: usize = 100_000;
/// Characters of a name that is told.
const TOLD: usize = 60;

pub(super) struct Machine<'a> {
    rest: &'a [u8],
    all: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
    tensors: usize,
}

/// Numbers of values that are there from the beginning.
const NOTHING: Id = 0;
const PASSED: Id = 1;

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let all = vec![Value::Nothing, Value::Passed];
        Self { rest: bytes, all, stack: Vec::new(), marks: Vec::new(), memo: BTreeMap::new(), tensors: 0 }
    }

    pub fn run(mut self) -> Result<Values, String> {
        loop {
            let [opcode] = self.array()?;
            match opcode {
                0x80 => {
                    let [version] = self.array()?;
                    if version > 5 {
                        return Err(format!("its pickle is of version {version}"));
                    }
                }
                b'.' => {
                    let top = self.pop()?;
                    return Ok(Values { all: self.all, top });
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                0x95 => drop(self.array::<8>()?),
                _ => self.opcode(opcode)?,
            }
        }
    }

    fn opcode(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            b'N' => self.stack.push(NOTHING),
            // True, false and a real number: nothing that is asked for.
            0x88 | 0x89 => self.stack.push(PASSED),
            b'G' => self.array::<8>().map(|_| self.stack.push(PASSED))?,
            b'K' => self.array().and_then(|[byte]| self.push(Value::Int(byte.into())))?,
            b'M' => self.array().and_then(|bytes| self.push(Value::Int(u16::from_le_bytes(bytes).into())))?,
            b'J' => self.array().and_then(|bytes| self.push(Value::Int(i32::from_le_bytes(bytes).into())))?,
            0x8a => self.long()?,
            b'X' => self.array().and_then(|length| self.string(u32::from_le_bytes(length).into()))?,
            0x8c => self.array().and_then(|[length]| self.string(length.into()))?,
            b'U' | b'C' => self.array().and_then(|[length]| self.passed_bytes(length.into()))?,
            b'T' | b'B' => self.array().and_then(|length| self.passed_bytes(u32::from_le_bytes(length).into()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b']' => self.push(Value::List(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b't' => self.since_mark().and_then(|items| self.push(Value::Tuple(items)))?,
            0x85..=0x87 => self.last(usize::from(opcode - 0x84)).and_then(|items| self.push(Value::Tuple(items)))?,
            b'a' => self.last(1).and_then(|items| self.extend(&items))?,
            b'e' => self.since_mark().and_then(|items| self.extend(&items))?,
            b's' => self.last(2).and_then(|items| self.set(&items))?,
            b'u' => self.since_mark().and_then(|items| self.set(&items))?,
            b'q' => self.array().and_then(|[at]| self.remember(at.into()))?,
            b'r' => self.array().and_then(|at| self.remember(u32::from_le_bytes(at).into()))?,
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => self.array().and_then(|[at]| self.recall(at.into()))?,
            b'j' => self.array().and_then(|at| self.recall(u32::from_le_bytes(at).into()))?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.symbol(module, name)?;
            }
            0x93 => self.symbol_from_stack()?,
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            b'b' => self.build()?,
            _ => return Err(format!("its pickle holds opcode {opcode:#04x}, which no file of weights needs")),
        }
        Ok(())
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], String> {
        let length = usize::try_from(length).ok().filter(|length| *length <= self.rest.len());
        let (bytes, rest) = self.rest.split_at(length.ok_or("its pickle is cut short")?);
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.bytes(N as u64).map(|bytes| std::array::from_fn(|at| bytes[at]))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let length = self.rest.iter().position(|byte| *byte == b'\n').ok_or("its pickle is cut short")?;
        let line = self.bytes(length as u64 + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "its pickle holds text that is no UTF-8".into())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.all.len() >= MAX_VALUES {
            return Err(format!("its pickle holds more than {MAX_VALUES} values"));
        }
        self.all.push(value);
        self.stack.push(self.all.len() - 1);
        Ok(())
    }

    /// Never below the last mark.
    fn pop(&mut self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = if self.stack.len() > floor { self.stack.pop() } else { None };
        top.ok_or_else(|| "its pickle takes what is not there".into())
    }

    fn last(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("its pickle takes what is not there")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn top(&mut self) -> Result<&mut Value, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = if self.stack.len() > floor { self.stack.last() } else { None };
        top.and_then(|id| self.all.get_mut(*id)).ok_or_else(|| "its pickle takes what is not there".into())
    }

    fn extend(&mut self, items: &[Id]) -> Result<(), String> {
        match self.top()? {
            Value::List(list) => list.extend(items),
            Value::Passed => {}
            _ => return Err("its pickle adds to what is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        if !items.len().is_multiple_of(2) {
            return Err("its pickle has a key without a value".into());
        }
        match self.top()? {
            Value::Dict(pairs) => pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            Value::Passed => {}
            _ => return Err("its pickle sets a key of what is no dictionary".into()),
        }
        Ok(())
    }

    fn remember(&mut self, at: u64) -> Result<(), String> {
        self.top()?;
        // There is one: `top` found it.
        let id = self.stack.last().copied().unwrap_or(NOTHING);
        self.memo.insert(at, id);
        Ok(())
    }

    fn recall(&mut self, at: u64) -> Result<(), String> {
        let id = self.memo.get(&at).ok_or("its pickle takes what is not there")?;
        self.stack.push(*id);
        Ok(())
    }

    /// A whole number of any length; those beyond 64 bits are no sizes.
    fn long(&mut self) -> Result<(), String> {
        let [length] = self.array()?;
        let bytes = self.bytes(length.into())?;
        if bytes.len() > 8 {
            self.stack.push(PASSED);
            return Ok(());
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn string(&mut self, length: u64) -> Result<(), String> {
        let bytes = self.bytes(length)?;
        // Python writes half of a surrogate pair where it read one: no name of a tensor.
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Value::Text(text.into())),
            Err(_) => {
                self.stack.push(PASSED);
                Ok(())
            }
        }
    }

    fn passed_bytes(&mut self, length: u64) -> Result<(), String> {
        self.bytes(length)?;
        self.stack.push(PASSED);
        Ok(())
    }

    fn symbol(&mut self, module: &str, name: &str) -> Result<(), String> {
        let Some(symbol) = Symbol::of(module, name) else {
            let name: String = format!("{module}.{name}").chars().take(TOLD).collect();
            return Err(format!("it wants to use Python's {name}, and nothing of a file is run"));
        };
        self.push(Value::Symbol(symbol))
    }

    fn symbol_from_stack(&mut self) -> Result<(), String> {
        let names = self.last(2)?;
        match [&self.all[names[0]], &self.all[names[1]]] {
            [Value::Text(module), Value::Text(name)] => {
                let (module, name) = (module.clone(), name.clone());
                self.symbol(&module, &name)
            }
            _ => Err("its pickle names what is no text".into()),
        }
    }

    /// `('storage', torch.FloatStorage, entry, device, elements)`.
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let Value::Tuple(parts) = &self.all[id] else { return Err("its pickle refers to what is no storage".into()) };
        if parts.len() != 5 {
            return Err("its pickle refers to what is no storage".into());
        }
        let parts: Vec<(Id, &Value)> = parts.iter().map(|id| (*id, &self.all[*id])).collect();
        let storage = match parts[..] {
            [(_, Value::Text(word)), (_, Value::Symbol(Symbol::Storage(kind))), (entry, Value::Text(_)), _, last]
                if **word == *"storage" =>
            {
                match last.1 {
                    Value::Int(elements @ 0..) => Storage { kind: *kind, entry, elements: elements.unsigned_abs() },
                    _ => return Err("its pickle refers to what is no storage".into()),
                }
            }
            _ => return Err("its pickle refers to what is no storage".into()),
        };
        self.push(Value::Storage(storage))
    }

    /// Of what may be called, nothing is: the outcome is known.
    fn call(&mut self) -> Result<(), String> {
        let [called, arguments] = [0, 1].map(|_| self.pop());
        let (arguments, called) = (called?, arguments?);
        let (Value::Symbol(symbol), Value::Tuple(arguments)) = (&self.all[called], &self.all[arguments]) else {
            return Err("its pickle calls what is no function".into());
        };
        match (symbol, &arguments[..]) {
            (Symbol::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Symbol::Tensor, [storage, offset, shape, strides, ..]) => {
                let tensor = self.tensor(*storage, *offset, *shape, *strides)?;
                self.tensors += 1;
                if self.tensors > MAX_TENSORS {
                    return Err(format!("its pickle holds more than {MAX_TENSORS} tensors"));
                }
                self.push(Value::Tensor(Box::new(tensor)))
            }
            (Symbol::Parameter, [tensor, ..]) => {
                self.stack.push(*tensor);
                Ok(())
            }
            (Symbol::Passed, _) => {
                self.stack.push(PASSED);
                Ok(())
            }
            _ => Err("its pickle makes a tensor of what is none".into()),
        }
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Result<Stored, String> {
        let broken = || "its pickle makes a tensor of what is none".to_owned();
        let whole = |id: &Id| match &self.all[*id] {
            Value::Int(number) => u64::try_from(*number).map_err(|_| broken()),
            _ => Err(broken()),
        };
        let sizes = |id: Id| match &self.all[id] {
            Value::Tuple(items) if items.len() <= 8 => items.iter().map(whole).collect::<Result<Vec<_>, _>>(),
            _ => Err(broken()),
        };
        let Value::Storage(storage) = &self.all[storage] else { return Err(broken()) };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        if shape.len() != strides.len() {
            return Err(broken());
        }
        Ok(Stored { storage: *storage, offset: whole(&offset)?, shape, strides })
    }

    /// Attributes of an object: a state dict has the versions of its modules so.
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.top()? {
            Value::Dict(_) | Value::Passed | Value::Tensor(_) => Ok(()),
            _ => Err("its pickle gives attributes to what can have none".into()),
        }
    }
}
