//! Reads voxels straight into their place in the RAS array, a bounded piece of the file at a time.
use std::path::Path;

use ndarray::{Array4, ArrayViewMut3, Axis};

use super::error::VolumeError;
use super::header::Checked;
use super::orientation::Axes;
use super::source::Source;

/// Voxels decoded at a time.
const PIECE: usize = 16 << 10;

/// A file whose header has been read and checked.
pub(super) struct Volume {
    source: Source,
    pub(super) header: Checked,
}

impl Volume {
    pub(super) fn open(path: &Path) -> Result<Self, VolumeError> {
        let mut source = Source::open(path)?;
        let header = Checked::read(&mut source)?;
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

    /// Reads every volume into `[volume, z, y, x]`. `convert` turns a value, after scaling, into an element, or says
    /// what is wrong with it and how it is cured.
    pub(super) fn read<T: Copy + Default>(
        self,
        convert: impl Fn(f64) -> Result<T, (String, &'static str)>,
    ) -> Result<(Array4<T>, Checked), VolumeError> {
        let Self { mut source, header } = self;
        let [depth, height, width] = header.native.array_shape();
        let mut data = allocate(source.path(), [header.volumes, depth, height, width])?;
        source.skip_to(header.offset.max(source.taken()))?;
        let mut bytes = vec![0; PIECE * header.scalar.bytes()];
        let mut values = Vec::with_capacity(PIECE);
        for volume in data.outer_iter_mut() {
            let mut bad = None;
            let mut volume = in_file_order(volume, &header.native.axes);
            'volume: for (k, mut plane) in volume.outer_iter_mut().enumerate() {
                for (j, mut row) in plane.outer_iter_mut().enumerate() {
                    for (piece, mut row) in row.axis_chunks_iter_mut(Axis(0), PIECE).enumerate() {
                        let raw = &mut bytes[..row.len() * header.scalar.bytes()];
                        source.read_voxels(raw)?;
                        header.scalar.decode(raw, header.big_endian, &mut values);
                        if let Some((slope, inter)) = header.scaling {
                            values.iter_mut().for_each(|value| *value = *value * slope + inter);
                        }
                        for (index, (voxel, value)) in row.iter_mut().zip(&values).enumerate() {
                            match convert(*value) {
                                Ok(element) => *voxel = element,
                                Err((problem, cure)) => {
                                    bad = Some(([piece * PIECE + index, j, k], problem, cure));
                                    break 'volume;
                                }
                            }
                        }
                    }
                }
            }
            if let Some((voxel, problem, cure)) = bad {
                let [x, y, z] = in_ras(voxel, &header);
                return Err(VolumeError::invalid(source.path(), format!("voxel ({x}, {y}, {z})"), problem, cure));
            }
        }
        source.finish()?;
        Ok((data, header))
    }
}

/// The RAS array seen with the file's axes, `[k, j, i]`.
fn in_file_order<'a, T>(array: ArrayViewMut3<'a, T>, axes: &Axes) -> ArrayViewMut3<'a, T> {
    let mut view = array.permuted_axes([2 - axes.to[2], 2 - axes.to[1], 2 - axes.to[0]]);
    for axis in 0..3 {
        if axes.flip[axis] {
            view.invert_axis(Axis(2 - axis));
        }
    }
    view
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
