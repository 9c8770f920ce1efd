//! Resampling between spacings, by nnU-Net's rules.
//!
//! All positions follow `scipy.ndimage.zoom(..., mode='nearest', grid_mode=True)`: the outer faces of both grids
//! coincide, output voxel `i` of `m` reads the input at `(i + 0.5) * n / m - 0.5`, and values beyond the border are
//! those of the border.
mod axis;
mod label;
pub mod stored;

use ndarray::{Array3, ArrayView3, Axis, Zip};

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
    let Some(across) = separate_axis.filter(|&axis| axis < 3) else {
        let mut result = each_axis(data, size, Order::Cubic, None);
        if data.shape() != size {
            clip(result.view_mut().into_slice(), range(data));
        }
        return result;
    };
    let mut result = each_axis(data, size, Order::Cubic, Some(across));
    let in_plane = |axis: usize| axis == across || data.len_of(Axis(axis)) == size[axis];
    if !(0..3).all(in_plane) {
        Zip::from(result.axis_iter_mut(Axis(across))).and(data.axis_iter(Axis(across))).par_for_each(
            |mut slice, source| {
                let (low, high) = range(source.insert_axis(Axis(0)));
                slice.map_inplace(|value| *value = limit(*value, low, high));
            },
        );
    }
    axis::along(result, across, size[across], Order::Nearest)
}

/// Linear interpolation (order 1) for logits and probabilities; `size` is z, y, x.
pub fn linear(data: ArrayView3<'_, f32>, size: [usize; 3]) -> Array3<f32> {
    each_axis(data, size, Order::Linear, None)
}

/// The most bytes that [`image`] (without a separate axis) or [`linear`] hold for going from `from` to `to` voxels, the
/// result among them and the input not; `u64::MAX` where they do not fit a u64. Sizes that come from a spacing in a
/// file are to be compared with the memory at hand before they are asked for.
pub fn peak_bytes(from: [usize; 3], to: [usize; 3]) -> u64 {
    let bytes = |size: [usize; 3]| size.iter().fold(size_of::<f32>() as u64, |all, &n| all.saturating_mul(n as u64));
    let (mut size, mut held, mut peak) = (from, 0, 0u64);
    for axis in order_of_axes(from, to) {
        if size[axis] != to[axis] {
            size[axis] = to[axis];
            peak = peak.max(bytes(size).saturating_add(held));
            held = bytes(size);
        }
    }
    peak.max(bytes(to))
}

/// Those that shrink the most first, so that little is held in between.
fn order_of_axes(from: [usize; 3], to: [usize; 3]) -> [usize; 3] {
    let mut axes = [0, 1, 2];
    let growth = |axis: usize| to[axis] as f64 / from[axis].max(1) as f64;
    axes.sort_by(|&a, &b| growth(a).total_cmp(&growth(b)));
    axes
}

/// Resamples along every axis but `except`.
fn each_axis(data: ArrayView3<'_, f32>, size: [usize; 3], order: Order, except: Option<usize>) -> Array3<f32> {
    let from = [0, 1, 2].map(|axis| data.len_of(Axis(axis)));
    let mut result: Option<Array3<f32>> = None;
    for axis in order_of_axes(from, size).into_iter().filter(|&axis| Some(axis) != except) {
        result = Some(match result {
            None if data.len_of(Axis(axis)) == size[axis] => continue,
            None => axis::along_view(data, axis, size[axis], order),
            Some(array) => axis::along(array, axis, size[axis], order),
        });
    }
    result.unwrap_or_else(|| data.as_standard_layout().into_owned())
}

/// Smallest and largest value, NaN left out.
fn range(data: ArrayView3<'_, f32>) -> (f32, f32) {
    data.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)))
}

fn clip(values: Option<&mut [f32]>, (low, high): (f32, f32)) {
    for value in values.into_iter().flatten() {
        *value = limit(*value, low, high);
    }
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
