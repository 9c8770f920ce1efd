//! Safetensors written in one order, so that the same weights are the same file.
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use crate::files::write_atomically;
use crate::network::little_endian;

/// A tensor to write.
pub struct Out<'a> {
    pub name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Out<'a> {
    pub fn floats(name: String, shape: &[usize], values: &'a [f32]) -> Self {
        Self { name, dtype: "F32", shape: shape.to_vec(), bytes: little_endian(values) }
    }

    /// One whole number, as PyTorch has a scalar: of no dimension.
    pub fn number(name: String, number: i64) -> Self {
        Self { name, dtype: "I64", shape: Vec::new(), bytes: Cow::Owned(number.to_le_bytes().to_vec()) }
    }

    pub fn zeros(name: String, shape: &[usize]) -> Self {
        let length = shape.iter().product::<usize>() * size_of::<f32>();
        Self { name, dtype: "F32", shape: shape.to_vec(), bytes: Cow::Owned(vec![0; length]) }
    }
}

/// Writes `tensors`, sorted by name (whole numbers first, so that all lie at multiples of their size), with one text of
/// metadata.
///
/// # Errors
/// Those of the file system, after which `path` is as it was.
pub fn write(path: &Path, (key, text): (&str, &str), mut tensors: Vec<Out<'_>>) -> io::Result<()> {
    tensors.sort_by(|a, b| (b.dtype, a.name.as_bytes()).cmp(&(a.dtype, b.name.as_bytes())));
    let quoted = |text: &str| serde_json::to_string(text).map_err(io::Error::from);
    let mut header = format!("{{\"__metadata__\":{{{}:{}}}", quoted(key)?, quoted(text)?);
    let mut start = 0;
    for Out { name, dtype, shape, bytes } in &tensors {
        let end = start + bytes.len();
        let name = quoted(name)?;
        // Writing into a string does not fail.
        let _ =
            write!(header, ",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}");
        start = end;
    }
    header.push('}');
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        tensors.iter().try_for_each(|tensor| file.write_all(&tensor.bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_reads_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensors = vec![
            Out::floats("b \"quoted\"".into(), &[2, 1], &[1.5, -2.0]),
            Out::number("z".into(), 7),
            Out::zeros("a".into(), &[3]),
        ];
        write(&path, ("note", "{\"a\": 1}"), tensors).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = file.tensor("b \"quoted\"").unwrap();
        assert_eq!((tensor.shape(), tensor.data()), (&[2, 1][..], &[0, 0, 192, 63, 0, 0, 0, 192][..]));
        assert_eq!((file.tensor("z").unwrap().shape(), file.tensor("a").unwrap().data()), (&[][..], &[0; 12][..]));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["note"], "{\"a\": 1}");
    }
}
