//! Writes a prepared case.
use std::io::{self, Write};
use std::path::Path;

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::{Array3, Array4};
use sha2::{Digest, Sha256};

use super::format::{CaseHeader, ImageScalar, LabelScalar, MAGIC, VERSION, to_little_endian};
use super::locations::locations;
use crate::dataset::DatasetError;
use crate::files;

/// Values converted at once.
const CHUNK: usize = 1 << 16;

/// Writes image `[channel, z, y, x]` and labels `[z, y, x]` of case `id` to `path`, atomically.
pub(super) fn case(
    path: &Path,
    key: &str,
    id: &str,
    image: Array4<f32>,
    labels: &Array3<u16>,
    ignore: Option<u16>,
) -> Result<(), DatasetError> {
    let (channels, z, y, x) = image.dim();
    let locations = locations(labels.view(), ignore);
    let mut hash = Sha256::new();
    for place in locations.values().flatten() {
        hash.update(place.to_le_bytes());
    }
    let largest = image.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let header = CaseHeader {
        key: key.to_string(),
        id: id.to_string(),
        size: [z, y, x],
        channels,
        image: if largest <= f16::MAX.to_f32() { ImageScalar::F16 } else { ImageScalar::F32 },
        label: if labels.iter().all(|&label| label <= 255) { LabelScalar::U8 } else { LabelScalar::U16 },
        classes: locations.iter().map(|(&class, places)| (class, places.len() as u32)).collect(),
        locations_sha256: files::hex(&hash.finalize()),
    };
    let bytes = serde_json::to_vec(&header).map_err(io::Error::from).map_err(DatasetError::cache(path))?;

    files::write_privately(path, |file| {
        let mut file = Hashing { file, hash: Sha256::new() };
        file.write_all(MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        file.write_all(&(bytes.len() as u32).to_le_bytes())?;
        file.write_all(&Sha256::digest(&bytes))?;
        file.write_all(&bytes)?;
        for places in locations.values() {
            write(&mut file, places, |from, to| to.copy_from_slice(from))?;
        }
        let image = image.as_standard_layout();
        let values = image.as_slice().unwrap_or_default();
        match header.image {
            ImageScalar::F16 => write(&mut file, values, |from, to: &mut [f16]| to.convert_from_f32_slice(from))?,
            ImageScalar::F32 => write(&mut file, values, |from, to: &mut [f32]| to.copy_from_slice(from))?,
        }
        let labels = labels.as_standard_layout();
        let values = labels.as_slice().unwrap_or_default();
        match header.label {
            LabelScalar::U8 => write(&mut file, values, |from, to: &mut [u8]| {
                to.iter_mut().zip(from).for_each(|(to, &from)| *to = from as u8);
            })?,
            LabelScalar::U16 => write(&mut file, values, |from, to: &mut [u16]| to.copy_from_slice(from))?,
        }
        let digest = file.hash.finalize();
        file.file.write_all(&digest)
    })
    .map_err(DatasetError::cache(path))
}

/// Converts `values` piece by piece and writes them little-endian.
fn write<T, U: Pod>(file: &mut impl Write, values: &[T], convert: impl Fn(&[T], &mut [U])) -> io::Result<()> {
    let mut piece = vec![U::zeroed(); CHUNK.min(values.len())];
    for values in values.chunks(CHUNK) {
        let piece = &mut piece[..values.len()];
        convert(values, piece);
        to_little_endian(piece);
        file.write_all(bytemuck::cast_slice(piece))?;
    }
    Ok(())
}

/// Hashes what goes through.
struct Hashing<W> {
    file: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
