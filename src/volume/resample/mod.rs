//! Resampling between spacings, by nnU-Net's rules.
//!
//! All positions follow `scipy.ndimage.zoom(..., mode='nearest', grid_mode=True)`: the outer faces of both grids
//! coincide, output voxel `i` of `m` reads the input at `(i + 0.5) * n / m - 0.5`, and values beyond the border are
//! those of the border.
mod axis;
mod label;
pub mod stored;

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView2, ArrayView3, Axis, CowArray, Ix3};

use axis::Order;
pub use label::labels;

/// Voxels along each axis (z, y, x) after going from `from` to `to` mm: round(n * from / to), at least 1. Halves go to
/// the even neighbour, as in Python and numpy. Nothing bounds the result: see [`peak_bytes`].
pub fn new_size(size: [usize; 3], from: [f64; 3], to: [f64; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| ((from[axis] / to[axis] * size[axis] as f64).round_ties_even() as usize).max(1))
}

/// Third-order spline, like `scipy.ndimage.zoom(order=3, mode='nearest', grid_mode=True)` clipped to the input's range;
/// in-plane only (nearest across) where `separate_axis` names the coarse axis, and then each slice is clipped to its
/// own range, as nnU-Net does. Sizes and the axis are in the order z, y, x.
///
/// A value that is not finite spreads along its lines: replace such values first.
pub fn image(data: ArrayView3<'_, f32>, size: [usize; 3], separate_axis: Option<usize>) -> Array3<f32> {
    cubic(CowArray::from(data), size, separate_axis)
}

/// As [`image`], of a volume that is let go as soon as the first pass was over it.
pub fn owned_image(data: Array3<f32>, size: [usize; 3], separate_axis: Option<usize>) -> Array3<f32> {
    cubic(CowArray::from(data), size, separate_axis)
}

fn cubic(data: CowArray<'_, f32, Ix3>, size: [usize; 3], separate_axis: Option<usize>) -> Array3<f32> {
    let Some(across) = separate_axis.filter(|&axis| axis < 3) else {
        let range = (data.shape() != size).then(|| range(data.view()));
        let mut result = each_axis(data, size, Order::Cubic, None);
        if let Some((low, high)) = range {
            result.par_map_inplace(|value| *value = limit(*value, low, high));
        }
        return result;
    };
    let in_plane = |axis: usize| axis == across || data.len_of(Axis(axis)) == size[axis];
    let ranges = (!(0..3).all(in_plane)).then(|| {
        let slices = data.axis_iter(Axis(across)).into_par_iter();
        slices.map(|slice| range(slice.insert_axis(Axis(0)))).collect::<Vec<_>>()
    });
    let mut result = each_axis(data, size, Order::Cubic, Some(across));
    if let Some(ranges) = ranges {
        let slices = result.axis_iter_mut(Axis(across)).into_par_iter().zip(ranges);
        slices.for_each(|(mut slice, (low, high))| slice.map_inplace(|value| *value = limit(*value, low, high)));
    }
    axis::along(result, across, size[across], Order::Nearest)
}

/// Linear interpolation (order 1) for logits and probabilities; `size` is z, y, x.
pub fn linear(data: ArrayView3<'_, f32>, size: [usize; 3]) -> Array3<f32> {
    each_axis(CowArray::from(data), size, Order::Linear, None)
}

/// The most bytes that [`owned_image`] holds for going from `from` to `to` voxels, input and result among them; `u64::MAX`
/// where they do not fit a u64. Sizes that come from a spacing in a file are to be compared with the memory at hand before
/// they are asked for.
pub fn peak_bytes(from: [usize; 3], to: [usize; 3], separate_axis: Option<usize>) -> u64 {
    let bytes = |size: [usize; 3]| size.iter().fold(size_of::<f32>() as u64, |all, &n| all.saturating_mul(n as u64));
    let across = separate_axis.filter(|&axis| axis < 3);
    let mut passes = passes(from, to, across);
    passes.extend(across.filter(|&axis| from[axis] != to[axis]).map(|axis| vec![axis]));
    let (mut size, mut peak) = (from, bytes(from));
    for pass in passes {
        let held = bytes(size);
        pass.into_iter().for_each(|axis| size[axis] = to[axis]);
        peak = peak.max(held.saturating_add(bytes(size)));
    }
    peak
}

/// Those that shrink the most first, so that little is held in between.
fn order_of_axes(from: [usize; 3], to: [usize; 3]) -> [usize; 3] {
    let mut axes = [0, 1, 2];
    let growth = |axis: usize| to[axis] as f64 / from[axis].max(1) as f64;
    axes.sort_by(|&a, &b| growth(a).total_cmp(&growth(b)));
    axes
}

/// The axes that change, in their order, but `except`: y and x in one pass where they follow each other, which makes nothing
/// of a volume's size between them.
fn passes(from: [usize; 3], to: [usize; 3], except: Option<usize>) -> Vec<Vec<usize>> {
    let mut passes: Vec<Vec<usize>> = Vec::new();
    let changing = |&axis: &usize| Some(axis) != except && from[axis] != to[axis];
    for axis in order_of_axes(from, to).into_iter().filter(changing) {
        match passes.last_mut() {
            Some(last) if axis > 0 && !last.contains(&0) => last.push(axis),
            _ => passes.push(vec![axis]),
        }
    }
    passes
}

/// Resamples along every axis but `except`.
fn each_axis(data: CowArray<'_, f32, Ix3>, size: [usize; 3], order: Order, except: Option<usize>) -> Array3<f32> {
    let from = [0, 1, 2].map(|axis| data.len_of(Axis(axis)));
    let mut data = data;
    for pass in passes(from, size, except) {
        // What it was made of is let go here.
        data = CowArray::from(match pass[..] {
            [axis] => axis::along_view(data.view(), axis, size[axis], order),
            _ => axis::in_plane(data.view(), &pass, size, order),
        });
    }
    match data.is_standard_layout() {
        true => data.into_owned(),
        false => data.as_standard_layout().into_owned(),
    }
}

/// Smallest and largest value, NaN left out.
fn range(data: ArrayView3<'_, f32>) -> (f32, f32) {
    let join = |(low, high): (f32, f32), (least, most): (f32, f32)| (low.min(least), high.max(most));
    let none = (f32::INFINITY, f32::NEG_INFINITY);
    let plane = |plane: ArrayView2<'_, f32>| plane.iter().fold(none, |range, &value| join(range, (value, value)));
    // Plane by plane and then in their order: the same whatever the threads.
    let planes: Vec<(f32, f32)> = data.axis_iter(Axis(0)).into_par_iter().map(plane).collect();
    planes.into_iter().fold(none, join)
}

/// As `f32::clamp`, which would panic on an empty range (all values NaN).
fn limit(value: f32, low: f32, high: f32) -> f32 {
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}

/// The coarse axis (z, y, x index) where spacing differs by more than 3x: the source's decides, else the target's.
/// None also where two axes are equally coarse.
pub fn separate_axis(from: [f64; 3], to: [f64; 3]) -> Option<usize> {
    let (spacing, largest) = [from, to].into_iter().find_map(|spacing| {
        let largest = spacing.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let smallest = spacing.into_iter().fold(f64::INFINITY, f64::min);
        (largest / smallest > 3.0).then_some((spacing, largest))
    })?;
    let mut coarse = (0..3).filter(|&axis| spacing[axis] == largest);
    let first = coarse.next()?;
    coarse.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests;
