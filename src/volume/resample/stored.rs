//! Resampling of volumes that need not be in memory: the same passes along one axis after another, from volume to volume,
//! some planes or rows at a time. Every line is worked on alone, so the numbers are those of [`super::image`] and
//! [`super::linear`].
use std::io;

use ndarray::{Array3, Axis};

use super::axis::{self, Order};
use super::{limit, order_of_axes, range};
use crate::volume::planes::{Planes, Storage};

/// Bytes of planes or rows that are worked on at a time, before and after together.
const BATCH: usize = if cfg!(test) { 1 << 10 } else { 8 << 20 };

/// As [`super::image`], of a volume of one channel. `later` bytes of the storage's budget stay free beside the result.
///
/// # Errors
/// Those of the storage.
pub fn image(
    data: Planes<f32>,
    size: [usize; 3],
    separate_axis: Option<usize>,
    storage: &Storage,
    later: u64,
) -> io::Result<Planes<f32>> {
    let from = data.size();
    let across = separate_axis.filter(|&axis| axis < 3);
    let in_plane: Vec<usize> = order_of_axes(from, size)
        .into_iter()
        .filter(|&axis| Some(axis) != across && from[axis] != size[axis])
        .collect();
    let ranges = if in_plane.is_empty() && across.is_some() { Vec::new() } else { ranges(&data, across)? };
    let clip = |start: [usize; 3], part: &mut Array3<f32>| match across {
        None => {
            let (low, high) = ranges[0];
            part.mapv_inplace(|value| limit(value, low, high));
        }
        Some(across) => {
            for (index, mut slice) in part.axis_iter_mut(Axis(across)).enumerate() {
                let (low, high) = ranges[start[across] + index];
                slice.mapv_inplace(|value| limit(value, low, high));
            }
        }
    };
    let across = across.filter(|&axis| from[axis] != size[axis]);
    let mut data = data;
    for (number, &axis) in in_plane.iter().enumerate() {
        let last = number + 1 == in_plane.len();
        let later = if last && across.is_none() { later } else { 0 };
        let finish = |start, part: &mut Array3<f32>| {
            if last {
                clip(start, part)
            }
        };
        data = along(&data, 0, axis, size[axis], Order::Cubic, finish, storage, later)?;
    }
    match across {
        Some(axis) => along(&data, 0, axis, size[axis], Order::Nearest, |_, _| {}, storage, later),
        None => Ok(data),
    }
}

/// As [`super::linear`], of one channel; `None` where it has that size already.
///
/// # Errors
/// Those of the storage.
pub fn linear(
    data: &Planes<f32>,
    channel: usize,
    size: [usize; 3],
    storage: &Storage,
) -> io::Result<Option<Planes<f32>>> {
    let from = data.size();
    let mut result: Option<Planes<f32>> = None;
    for axis in order_of_axes(from, size).into_iter().filter(|&axis| from[axis] != size[axis]) {
        let (data, channel) = result.as_ref().map_or((data, channel), |result| (result, 0));
        result = Some(along(data, channel, axis, size[axis], Order::Linear, |_, _| {}, storage, 0)?);
    }
    Ok(result)
}

/// The range of all, or of each slice along `across`.
fn ranges(data: &Planes<f32>, across: Option<usize>) -> io::Result<Vec<(f32, f32)>> {
    let [depth, height, width] = data.size();
    let mut ranges = vec![(f32::INFINITY, f32::NEG_INFINITY); across.map_or(1, |axis| data.size()[axis])];
    let mut join = |index: usize, (low, high): (f32, f32)| {
        ranges[index] = (ranges[index].0.min(low), ranges[index].1.max(high));
    };
    for z in 0..depth {
        let plane = data.read_box(0, [z, 0, 0], [1, height, width])?;
        match across {
            None => join(0, range(plane.view())),
            Some(0) => join(z, range(plane.view())),
            Some(axis) => {
                for (index, slice) in plane.axis_iter(Axis(axis)).enumerate() {
                    join(index, range(slice.insert_axis(Axis(0))));
                }
            }
        }
    }
    Ok(ranges)
}

/// A pass along one axis. `finish` may change a part of the result, of which it is told the first voxel, z, y, x.
#[allow(clippy::too_many_arguments, reason = "one pass has them")]
fn along(
    data: &Planes<f32>,
    channel: usize,
    axis: usize,
    size: usize,
    order: Order,
    finish: impl Fn([usize; 3], &mut Array3<f32>),
    storage: &Storage,
    later: u64,
) -> io::Result<Planes<f32>> {
    let from = data.size();
    let mut to = from;
    to[axis] = size;
    let mut result = storage.zeros("resampling", [1, to[0], to[1], to[2]], later)?;
    // Along z some rows of all planes, else all rows of some planes.
    let cut = if axis == 0 { 1 } else { 0 };
    let one: usize = (0..3).filter(|&other| other != cut).map(|other| from[other]).product::<usize>()
        + (0..3).filter(|&other| other != cut).map(|other| to[other]).product::<usize>();
    let at_once = (BATCH / (size_of::<f32>() * one).max(1)).clamp(1, from[cut].max(1));
    for first in (0..from[cut]).step_by(at_once) {
        let (mut start, mut count) = ([0; 3], from);
        start[cut] = first;
        count[cut] = at_once.min(from[cut] - first);
        let part = data.read_box(channel, start, count)?;
        let mut part = axis::along_view(part.view(), axis, size, order);
        finish(start, &mut part);
        result.write_box(0, start, part.view())?;
    }
    Ok(result)
}

/// Bytes of the smallest part that a pass works on, where that is more than it takes at a time anyway: a plane, or a row
/// of every plane, before and after.
pub fn part_bytes(from: [usize; 3], to: [usize; 3]) -> u64 {
    let most: [u64; 3] = std::array::from_fn(|axis| from[axis].max(to[axis]) as u64);
    let face = most[2].saturating_mul(most[0].max(most[1]));
    face.saturating_mul(2 * size_of::<f32>() as u64).max(BATCH as u64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::volume::resample;

    /// Bit for bit what resampling in memory gives, for growing, shrinking and staying axes, with and without a coarse one.
    #[test]
    fn parts_are_the_whole() {
        let data = Array3::from_shape_fn((9, 14, 11), |(z, y, x)| ((z * 31 + y * 17 + x * 7) % 23) as f32 - 9.5);
        let sizes = [[5, 20, 11], [13, 7, 30], [9, 14, 12], [3, 14, 11], [20, 30, 25], [9, 9, 11]];
        let folder = tempfile::tempdir().unwrap();
        for storage in [Storage::unbounded(), Storage::new(Some(0), folder.path())] {
            for size in sizes {
                let stored = || {
                    let mut planes = storage.zeros("test", [2, 9, 14, 11], 0).unwrap();
                    planes.write_box(1, [0; 3], data.view()).unwrap();
                    planes
                };
                let whole = |planes: &Planes<f32>| planes.read_box(0, [0; 3], size).unwrap();
                let found = linear(&stored(), 1, size, &storage).unwrap().unwrap();
                assert_eq!(whole(&found), resample::linear(data.view(), size), "{size:?}");
                for across in [None, Some(0), Some(1), Some(2)] {
                    let mut planes = storage.zeros("test", [1, 9, 14, 11], 0).unwrap();
                    planes.write_box(0, [0; 3], data.view()).unwrap();
                    let found = image(planes, size, across, &storage, 0).unwrap();
                    assert_eq!(whole(&found), resample::image(data.view(), size, across), "{size:?} {across:?}");
                }
            }
            assert!(
                linear(&storage.zeros("test", [1, 9, 14, 11], 0).unwrap(), 0, [9, 14, 11], &storage).unwrap().is_none()
            );
        }
        assert!(Path::new(folder.path()).read_dir().unwrap().next().is_none());
    }
}
