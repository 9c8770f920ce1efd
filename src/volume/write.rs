//! Writes a volume on a file's own grid.
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use ndarray::{ArrayView3, Axis};

use super::error::VolumeError;
use super::fields::Version;
use super::native::NativeGrid;
use super::scalar::Scalar;
use crate::files::write_atomically;

/// Writes `data` (`[z, y, x]`, RAS) through `encode`, which appends an element's little-endian bytes.
pub(super) fn write<T: Copy>(
    path: &Path,
    data: ArrayView3<'_, T>,
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
    let expected = native.array_shape();
    if data.shape() != expected {
        let ([z, y, x], [d, h, w]) = (expected, [data.shape()[0], data.shape()[1], data.shape()[2]]);
        return Err(VolumeError::invalid(
            path,
            "size",
            format!("{w} x {h} x {d} voxels to be written on a grid of {x} x {y} x {z}"),
            "write a volume on the grid of the file that it came from",
        ));
    }
    let header = header(native, scalar);
    let mut view = data.permuted_axes([2 - native.axes.to[2], 2 - native.axes.to[1], 2 - native.axes.to[0]]);
    for axis in 0..3 {
        if native.axes.flip[axis] {
            view.invert_axis(Axis(2 - axis));
        }
    }
    let written: io::Result<()> = write_atomically(path, |file| {
        if gzip {
            // No time and no name in the gzip header: the same labels give the same bytes.
            let encoder = GzBuilder::new().mtime(0).write(file, Compression::default());
            let mut buffered = BufWriter::with_capacity(64 << 10, encoder);
            body(&mut buffered, &header, view, &encode)?;
            buffered.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
            Ok(())
        } else {
            body(file, &header, view, &encode)
        }
    });
    written.map_err(|error| VolumeError::io(path, error))
}

/// The header and the voxels of `view`, which has the file's axes `[k, j, i]`.
fn body<T: Copy>(
    file: &mut impl Write,
    header: &[u8],
    view: ArrayView3<'_, T>,
    encode: &impl Fn(T, &mut Vec<u8>),
) -> io::Result<()> {
    file.write_all(header)?;
    let mut bytes = Vec::new();
    for plane in view.outer_iter() {
        for row in plane.outer_iter() {
            for piece in row.axis_chunks_iter(Axis(0), 16 << 10) {
                bytes.clear();
                piece.iter().for_each(|&value| encode(value, &mut bytes));
                file.write_all(&bytes)?;
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
