//! A prepared case as a file, little-endian throughout:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `voxfitcs` |
//! | 4 | version |
//! | 4 | length of the header |
//! | 32 | SHA-256 of the header |
//! | header | [`CaseHeader`] as JSON |
//! | 4 each | locations: the voxel's place in `[z, y, x]` order, class by class, ascending |
//! | 2 or 4 each | image `[channel, z, y, x]`, f16 or f32 |
//! | 1 or 2 each | labels `[z, y, x]`, u8 or u16 |
//! | 32 | SHA-256 of everything before |
use std::fs::File;
use std::io;
use std::path::Path;

use bytemuck::Pod;
use serde::{Deserialize, Serialize};

use crate::dataset::DatasetError;
use crate::files;

pub(super) const MAGIC: &[u8; 8] = b"voxfitcs";
/// Part of a store's key: to be raised when the format or anything in the preparation changes.
pub(super) const VERSION: u32 = 2;
/// Bytes before the header.
pub(super) const PREFIX: usize = 48;
/// Bytes after the labels.
pub(super) const TRAILER: u64 = 32;
/// 65535 classes take less.
const MAX_HEADER: u32 = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ImageScalar {
    /// Prepared intensities lie round 0 with deviation 1: its 11 bits are far below the noise of any scanner.
    F16,
    /// Where a value is beyond f16's range.
    F32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LabelScalar {
    U8,
    U16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CaseHeader {
    /// Of the store that the file belongs to.
    pub key: String,
    pub id: String,
    /// Voxels z, y, x.
    pub size: [usize; 3],
    pub channels: usize,
    pub image: ImageScalar,
    pub label: LabelScalar,
    /// Classes (1..) with a voxel in the case, ascending, and how many of their locations are kept.
    pub classes: Vec<(u16, u32)>,
    pub locations_sha256: String,
}

/// Where the parts of a file stand, bytes from its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub locations: u64,
    pub image: u64,
    pub labels: u64,
    pub end: u64,
}

impl CaseHeader {
    pub fn location_count(&self) -> u64 {
        self.classes.iter().map(|&(_, count)| u64::from(count)).sum()
    }

    /// None where the sizes are beyond what a file can hold.
    pub fn parts(&self, header_length: usize) -> Option<Parts> {
        let voxels = self.size.iter().try_fold(1_u64, |product, &n| product.checked_mul(n as u64))?;
        let image = match self.image {
            ImageScalar::F16 => 2,
            ImageScalar::F32 => 4,
        };
        let label = match self.label {
            LabelScalar::U8 => 1,
            LabelScalar::U16 => 2,
        };
        let locations = PREFIX as u64 + header_length as u64;
        let image_start = locations.checked_add(self.location_count().checked_mul(4)?)?;
        let image_bytes = voxels.checked_mul(image)?.checked_mul(self.channels as u64)?;
        let labels = image_start.checked_add(image_bytes)?;
        let end = labels.checked_add(voxels.checked_mul(label)?)?.checked_add(TRAILER)?;
        Some(Parts { locations, image: image_start, labels, end })
    }
}

/// The header of `path`, if the file is whole: magic, version, header checksum, key, id and length.
///
/// # Errors
/// What is wrong with it, with its name.
pub(super) fn read_header(path: &Path, key: &str, id: &str) -> Result<(CaseHeader, Parts), DatasetError> {
    let file = File::open(path).map_err(DatasetError::cache(path))?;
    let length = file.metadata().map_err(DatasetError::cache(path))?.len();
    let mut prefix = [0; PREFIX];
    read_at(path, &file, &mut prefix, 0)?;
    let word = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
    if &prefix[..8] != MAGIC || word(8) != VERSION {
        return Err(damaged(path, "header", "is no prepared case of this version"));
    }
    let header_length = word(12);
    if header_length > MAX_HEADER || u64::from(header_length) > length {
        return Err(damaged(path, "header", "has an impossible length"));
    }
    let mut bytes = vec![0; header_length as usize];
    read_at(path, &file, &mut bytes, PREFIX as u64)?;
    if files::sha256_hex(&bytes) != files::hex(&prefix[16..48]) {
        return Err(damaged(path, "header", "does not match its checksum"));
    }
    let header: CaseHeader =
        serde_json::from_slice(&bytes).map_err(|error| damaged(path, "header", &error.to_string()))?;
    if header.key != key || header.id != id {
        return Err(damaged(path, "header", "belongs to another store or case"));
    }
    match header.parts(bytes.len()) {
        Some(parts) if parts.end == length => Ok((header, parts)),
        parts => {
            let expected = parts.map_or("more".to_string(), |parts| parts.end.to_string());
            Err(damaged(path, "length", &format!("has {length} bytes where {expected} are expected")))
        }
    }
}

pub(super) fn damaged(path: &Path, field: &str, problem: &str) -> DatasetError {
    DatasetError::invalid(path, field, problem, "remove this file and start again: the case is prepared anew")
}

/// Fills `values` from the file at `offset`.
pub(super) fn read_at<T: Pod>(path: &Path, file: &File, values: &mut [T], offset: u64) -> Result<(), DatasetError> {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
    read_exact_at(file, bytes, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(path, "length", "is cut short"),
        _ => DatasetError::Cache { path: path.to_path_buf(), source: error },
    })?;
    to_little_endian(values);
    Ok(())
}

/// Between the order of bytes of this machine and little-endian, in place; nothing on nearly every machine.
pub(super) fn to_little_endian<T: Pod>(values: &mut [T]) {
    if cfg!(target_endian = "big") && size_of::<T>() > 1 {
        bytemuck::cast_slice_mut::<T, u8>(values).chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
