//! Writes a volume on a file's own grid.
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use ndarray::{Array3, ArrayView3, Axis, s};

use super::error::VolumeError;
use super::fields::Version;
use super::native::NativeGrid;
use super::read::planes_at_once;
use super::scalar::Scalar;
use crate::files::write_atomically;

/// Voxels `[z, y, x]` in RAS orientation that are asked for box by box, so that they need not all be in memory.
pub trait Boxes<T> {
    /// Voxels z, y, x.
    fn size(&self) -> [usize; 3];

    /// The box of `size` voxels from `start` on (z, y, x).
    ///
    /// # Errors
    /// Those of whatever holds the voxels.
    fn read(&self, start: [usize; 3], size: [usize; 3]) -> io::Result<Array3<T>>;
}

impl<T: Copy> Boxes<T> for ArrayView3<'_, T> {
    fn size(&self) -> [usize; 3] {
        self.dim().into()
    }

    fn read(&self, [z, y, x]: [usize; 3], [depth, height, width]: [usize; 3]) -> io::Result<Array3<T>> {
        Ok(self.slice(s![z..z + depth, y..y + height, x..x + width]).to_owned())
    }
}

/// Writes `data` through `encode`, which appends an element's little-endian bytes; a bounded part of it at a time.
pub(super) fn write<T: Copy>(
    path: &Path,
    data: &impl Boxes<T>,
    native: &NativeGrid,
    scalar: Scalar,
    encode: impl Fn(T, &mut Vec<u8>),
) -> Result<(), VolumeError> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let gzip = name.ends_with(".nii.gz");
    if !gzip && !name.ends_with(".nii") {
        let problem = "its ending says no format that is written";
        return Err(VolumeError::invalid(path, "file name", problem, "let it end in .nii.gz or .nii"));
    }
    let (expected, found) = (native.array_shape(), data.size());
    if found != expected {
        let ([z, y, x], [d, h, w]) = (expected, found);
        return Err(VolumeError::invalid(
            path,
            "size",
            format!("{w} x {h} x {d} voxels to be written on a grid of {x} x {y} x {z}"),
            "write a volume on the grid of the file that it came from",
        ));
    }
    let header = header(native, scalar);
    let written: io::Result<()> = write_atomically(path, |file| {
        if gzip {
            // No time and no name in the gzip header: the same labels give the same bytes.
            let encoder = GzBuilder::new().mtime(0).write(file, Compression::default());
            let mut buffered = BufWriter::with_capacity(64 << 10, encoder);
            body(&mut buffered, &header, data, native, &encode)?;
            buffered.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
            Ok(())
        } else {
            body(file, &header, data, native, &encode)
        }
    });
    written.map_err(|error| VolumeError::io(path, error))
}

/// The header and the voxels in the file's order.
fn body<T: Copy>(
    file: &mut impl Write,
    header: &[u8],
    data: &impl Boxes<T>,
    native: &NativeGrid,
    encode: &impl Fn(T, &mut Vec<u8>),
) -> io::Result<()> {
    file.write_all(header)?;
    let mut bytes = Vec::new();
    let planes = native.size[2];
    let at_once = planes_at_once::<T>(native.size);
    for first in (0..planes).step_by(at_once) {
        let (start, size) = native.axes.ras_box(native.size, first..(first + at_once).min(planes));
        let part = data.read(start, size)?;
        for plane in native.axes.ras_to_file(part.view()).outer_iter() {
            for row in plane.outer_iter() {
                for piece in row.axis_chunks_iter(Axis(0), 16 << 10) {
                    bytes.clear();
                    piece.iter().for_each(|&value| encode(value, &mut bytes));
                    file.write_all(&bytes)?;
                }
            }
        }
    }
    Ok(())
}

/// The header with the four bytes after it that say that no extension follows. Text fields stay empty: they may name
/// the patient.
fn header(native: &NativeGrid, scalar: Scalar) -> Vec<u8> {
    let mut dim = [1i64; 8];
    dim[0] = native.rank as i64;
    for axis in 0..3 {
        dim[axis + 1] = native.size[axis] as i64;
    }
    match native.version {
        Version::One => header_one(native, scalar, dim),
        Version::Two => header_two(native, scalar, dim),
    }
}

/// Puts bytes at positions of the standard's header structures.
struct Layout(Vec<u8>);

impl Layout {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put_f32(&mut self, at: usize, values: &[f64]) {
        for (index, value) in values.iter().enumerate() {
            self.put(at + 4 * index, &(*value as f32).to_le_bytes());
        }
    }

    fn put_f64(&mut self, at: usize, values: &[f64]) {
        for (index, value) in values.iter().enumerate() {
            self.put(at + 8 * index, &value.to_le_bytes());
        }
    }
}

/// All numbers came from fields of these widths, so that the casts give them back.
fn header_one(native: &NativeGrid, scalar: Scalar, dim: [i64; 8]) -> Vec<u8> {
    let placement = &native.placement;
    let mut layout = Layout(vec![0; 352]);
    layout.put(0, &348i32.to_le_bytes());
    layout.put(38, b"r");
    for (index, size) in dim.iter().enumerate() {
        layout.put(40 + 2 * index, &(*size as i16).to_le_bytes());
    }
    layout.put(70, &scalar.code().to_le_bytes());
    layout.put(72, &(8 * scalar.bytes() as i16).to_le_bytes());
    layout.put_f32(76, &placement.pixdim);
    layout.put_f32(108, &[352.0, 1.0, 0.0]);
    layout.put(123, &[placement.xyzt_units as u8]);
    layout.put(252, &(placement.qform_code as i16).to_le_bytes());
    layout.put(254, &(placement.sform_code as i16).to_le_bytes());
    layout.put_f32(256, &placement.quatern);
    layout.put_f32(268, &placement.qoffset);
    for (row, values) in placement.srow.iter().enumerate() {
        layout.put_f32(280 + 16 * row, values);
    }
    layout.put(344, b"n+1\0");
    layout.0
}

fn header_two(native: &NativeGrid, scalar: Scalar, dim: [i64; 8]) -> Vec<u8> {
    let placement = &native.placement;
    let mut layout = Layout(vec![0; 544]);
    layout.put(0, &540i32.to_le_bytes());
    layout.put(4, b"n+2\0\r\n\x1a\n");
    layout.put(12, &scalar.code().to_le_bytes());
    layout.put(14, &(8 * scalar.bytes() as i16).to_le_bytes());
    for (index, size) in dim.iter().enumerate() {
        layout.put(16 + 8 * index, &size.to_le_bytes());
    }
    layout.put_f64(104, &placement.pixdim);
    layout.put(168, &544i64.to_le_bytes());
    layout.put_f64(176, &[1.0, 0.0]);
    layout.put(344, &placement.qform_code.to_le_bytes());
    layout.put(348, &placement.sform_code.to_le_bytes());
    layout.put_f64(352, &placement.quatern);
    layout.put_f64(376, &placement.qoffset);
    for (row, values) in placement.srow.iter().enumerate() {
        layout.put_f64(400 + 32 * row, values);
    }
    layout.put(500, &placement.xyzt_units.to_le_bytes());
    layout.0
}
