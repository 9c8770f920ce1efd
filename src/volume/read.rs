//! Reads voxels straight into their place in the RAS array, a bounded piece of the file at a time.
use std::path::Path;

use ndarray::{Array3, Array4, ArrayView3, Axis, s};

use super::error::VolumeError;
use super::header::Checked;
use super::pair::Pair;
use super::source::{Source, TAKE_AGAIN};

/// Voxels decoded at a time.
const PIECE: usize = 16 << 10;
/// Bytes of planes that are turned to RAS at a time.
pub(super) const BATCH: usize = if cfg!(test) { 1 << 10 } else { 8 << 20 };

/// What a voxel's value becomes.
pub(super) trait Element: Copy + Default {
    /// The nearest of these to `value`.
    fn of(value: f64) -> Self;

    /// Whether `value` may become one.
    fn takes(value: f64) -> bool;

    /// What is wrong with a value that may not, and how it is cured.
    fn refusal(value: f64) -> (String, &'static str);
}

impl Element for f32 {
    fn of(value: f64) -> Self {
        value as Self
    }

    fn takes(_: f64) -> bool {
        true
    }

    fn refusal(value: f64) -> (String, &'static str) {
        (format!("{value} is no number"), TAKE_AGAIN)
    }
}

/// A label.
impl Element for u16 {
    fn of(value: f64) -> Self {
        value as Self
    }

    fn takes(value: f64) -> bool {
        f64::from(value as Self) == value
    }

    fn refusal(value: f64) -> (String, &'static str) {
        (
            format!("{value} is not a label, labels are whole numbers from 0 to 65535"),
            "is this an image instead of a label map? Otherwise resample labels with nearest neighbour only",
        )
    }
}

/// A file whose header has been read and checked.
pub(super) struct Volume {
    /// What holds the voxels.
    source: Source,
    pub(super) header: Checked,
}

impl Volume {
    pub(super) fn open(path: &Path) -> Result<Self, VolumeError> {
        // That the file is not there is said before what is not beside it.
        let mut source = Source::open(path)?;
        let Some(Pair { header, voxels }) = Pair::of(path)? else {
            let header = Checked::read(&mut source, None)?;
            return Ok(Self { source, header });
        };
        let (mut head, source) = (Source::open(&header)?, Source::open(&voxels)?);
        let header = Checked::read(&mut head, Some(&source))?;
        Ok(Self { source, header })
    }

    /// Refuses files of several volumes.
    pub(super) fn single(self) -> Result<Self, VolumeError> {
        match self.header.volumes {
            1 => Ok(self),
            count => Err(VolumeError::invalid(
                self.source.path(),
                format!("dim[{}]", self.header.volume_axis),
                format!("a 4D volume of {count} volumes where one is expected"),
                "save each volume as a file of its own (`fslsplit IN OUT -t`), or declare one channel per volume in dataset.json",
            )),
        }
    }

    /// Reads every volume into `[volume, z, y, x]`.
    pub(super) fn read<T: Element>(self) -> Result<(Array4<T>, Checked), VolumeError> {
        let [depth, height, width] = self.header.native.array_shape();
        let mut data = allocate(self.source.path(), [self.header.volumes, depth, height, width])?;
        let header = self.pieces(|volume, [z, y, x], piece| {
            let (depth, height, width) = piece.dim();
            data.slice_mut(s![volume, z..z + depth, y..y + height, x..x + width]).assign(&piece);
            Ok(())
        })?;
        Ok((data, header))
    }

    /// Reads every volume into an array `[z, y, x]` of its own, so that each can be let go alone.
    pub(super) fn read_each<T: Element>(self) -> Result<(Vec<Array3<T>>, Checked), VolumeError> {
        let [depth, height, width] = self.header.native.array_shape();
        // All of them together are what there must be room for.
        drop(allocate::<T>(self.source.path(), [self.header.volumes, depth, height, width])?);
        let one = || Ok(allocate(self.source.path(), [1, depth, height, width])?.index_axis_move(Axis(0), 0));
        let mut data = (0..self.header.volumes).map(|_| one()).collect::<Result<Vec<_>, VolumeError>>()?;
        let header = self.pieces(|volume, [z, y, x], piece| {
            let (depth, height, width) = piece.dim();
            data[volume].slice_mut(s![z..z + depth, y..y + height, x..x + width]).assign(&piece);
            Ok(())
        })?;
        Ok((data, header))
    }

    /// Reads every volume as the file has it, some of its planes at a time (about [`BATCH`] bytes of elements, a plane
    /// at least): `take` is handed the volume's number and a box of it in RAS orientation with its first voxel, z, y, x.
    pub(super) fn pieces<T: Element>(
        self,
        mut take: impl FnMut(usize, [usize; 3], ArrayView3<'_, T>) -> Result<(), VolumeError>,
    ) -> Result<Checked, VolumeError> {
        let Self { mut source, header } = self;
        let [width, height, depth] = header.native.size;
        source.skip_to(header.offset.max(source.taken()))?;
        source.unpack_ahead((width * height * depth * header.volumes) as u64 * header.scalar.bytes() as u64);
        let mut raw = vec![0; PIECE.min(width) * header.scalar.bytes()];
        let at_once = planes_at_once::<T>(header.native.size);
        let mut batch = allocate(source.path(), [1, at_once, height, width])?.index_axis_move(Axis(0), 0);
        for volume in 0..header.volumes {
            for first in (0..depth).step_by(at_once) {
                let mut batch = batch.slice_mut(s![..at_once.min(depth - first), .., ..]);
                for (k, mut plane) in batch.outer_iter_mut().enumerate() {
                    for (j, mut row) in plane.outer_iter_mut().enumerate() {
                        for (piece, mut row) in row.axis_chunks_iter_mut(Axis(0), PIECE).enumerate() {
                            let raw = &mut raw[..row.len() * header.scalar.bytes()];
                            source.read_voxels(raw)?;
                            let row = row.as_slice_mut().ok_or_else(|| unordered(source.path()))?;
                            if let Err((index, value)) = fill(row, raw, &header) {
                                let [x, y, z] = in_ras([piece * PIECE + index, j, first + k], &header);
                                let (field, (problem, cure)) = (format!("voxel ({x}, {y}, {z})"), T::refusal(value));
                                return Err(VolumeError::invalid(source.path(), field, problem, cure));
                            }
                        }
                    }
                }
                let planes = batch.dim().0;
                let (start, _) = header.native.axes.ras_box(header.native.size, first..first + planes);
                let piece = header.native.axes.file_to_ras(batch.view());
                take(volume, start, piece)?;
            }
        }
        source.finish()?;
        Ok(header)
    }
}

/// Fills a row from its stored bytes. An error is the first voxel that cannot be an element, and its value.
fn fill<T: Element>(row: &mut [T], raw: &[u8], header: &Checked) -> Result<(), (usize, f64)> {
    let mut sound = true;
    let mut put = |voxel: &mut T, value: f64| {
        *voxel = T::of(value);
        sound &= T::takes(value);
    };
    match header.scaling {
        None => header.scalar.each(raw, header.big_endian, row, &mut put),
        Some((slope, inter)) => {
            header.scalar.each(raw, header.big_endian, row, |voxel, value| put(voxel, value * slope + inter));
        }
    }
    if sound {
        return Ok(());
    }
    // Which one, is asked for only where there is one.
    let mut values = vec![0.0; row.len()];
    let (slope, inter) = header.scaling.unwrap_or((1.0, 0.0));
    header.scalar.each(raw, header.big_endian, &mut values, |place, value| {
        *place = if header.scaling.is_some() { value * slope + inter } else { value };
    });
    values.into_iter().enumerate().find(|(_, value)| !T::takes(*value)).map_or(Ok(()), Err)
}

/// A row of an array made here is in one piece: never seen, and no reason to panic.
fn unordered(path: &Path) -> VolumeError {
    VolumeError::invalid(path, "voxel data", "a row in pieces", "this is a fault of voxfit: report it")
}

/// Planes of a file of this size (its own order) that make about [`BATCH`] bytes.
pub(super) fn planes_at_once<T>([width, height, depth]: [usize; 3]) -> usize {
    (BATCH / (width * height * size_of::<T>()).max(1)).clamp(1, depth)
}

/// A voxel of the file's grid, as x, y, z of the RAS grid.
fn in_ras(voxel: [usize; 3], header: &Checked) -> [usize; 3] {
    let (size, axes) = (header.native.size, header.native.axes);
    let mut ras = [0; 3];
    for axis in 0..3 {
        ras[axes.to[axis]] = if axes.flip[axis] { size[axis] - 1 - voxel[axis] } else { voxel[axis] };
    }
    ras
}

/// Zeros of this shape, or an error where memory does not hold them. The header's check has made sure that the
/// product of the shape does not overflow.
fn allocate<T: Copy + Default>(path: &Path, shape: [usize; 4]) -> Result<Array4<T>, VolumeError> {
    let count: usize = shape.iter().product();
    let needed = (count * size_of::<T>()) as u64;
    // Pages are handed out only when written: without this a file that unpacks to more than the machine has would
    // bring it down instead of being refused.
    let free = crate::memory::machine::memory().available;
    // The trial makes running out of address space an error; `vec!` would end the process.
    if free.is_some_and(|free| needed > free) || Vec::<T>::new().try_reserve_exact(count).is_err() {
        let [volumes, depth, height, width] = shape;
        let has = free.map_or(String::new(), |free| format!(", {} MiB are free", free >> 20));
        return Err(VolumeError::invalid(
            path,
            "dim",
            format!("{width} x {height} x {depth} x {volumes} voxels need {} MiB{has}", (needed >> 20) + 1),
            "crop or resample the volume, or use a machine with more memory",
        ));
    }
    Array4::from_shape_vec(shape, vec![T::default(); count])
        .map_err(|error| VolumeError::invalid(path, "dim", error.to_string(), "the volume is too large"))
}
