//! Resampling along one axis.
use ndarray::parallel::prelude::*;
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis};

/// Degree of the interpolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Nearest,
    Linear,
    Cubic,
}

/// Lines worked on together, so that the recursion along a line runs in vector registers across lines.
const LANES: usize = 32;
/// Border values put before and after each line; scipy's number, after which the filter's memory is below 2e-7.
const PAD: usize = 12;
/// Pole of the cubic B-spline's inverse filter, sqrt(3) - 2.
const POLE: f64 = -0.267_949_192_431_122_7;

/// Which input voxels an output voxel reads, and how much of each.
pub(super) struct Tap {
    pub(super) start: usize,
    pub(super) weights: [f64; 4],
}

pub(super) fn along(data: Array3<f32>, axis: usize, size: usize, order: Order) -> Array3<f32> {
    if data.len_of(Axis(axis)) == size { data } else { along_view(data.view(), axis, size, order) }
}

/// `data` with `size` voxels along `axis`; an axis without voxels stays without.
pub(super) fn along_view(data: ArrayView3<'_, f32>, axis: usize, size: usize, order: Order) -> Array3<f32> {
    let count = data.len_of(Axis(axis));
    let mut shape = [data.len_of(Axis(0)), data.len_of(Axis(1)), data.len_of(Axis(2))];
    shape[axis] = size;
    let mut result = Array3::zeros(shape);
    if data.is_empty() || result.is_empty() {
        return result;
    }
    let taps = taps(count, size, order);
    // Work is cut into slabs at right angles to the axis, and these into groups of lines.
    let slabs = if axis == 0 { 1 } else { 0 };
    // Of the two axes that a slab has, the line's.
    let line = if axis == 0 { 0 } else { axis - 1 };
    let slabs = (result.axis_iter_mut(Axis(slabs)), data.axis_iter(Axis(slabs))).into_par_iter();
    slabs.for_each_init(
        || vec![0.0; (count + 2 * PAD) * LANES],
        |work, (to, from)| plane(to, from, line, &taps, order, work),
    );
    result
}

/// `data` with `size` voxels along `axes`, some of y and x in their order: each plane is worked on alone, so that what lies
/// between the axes is a plane and no volume. The numbers are those of [`along_view`], axis after axis.
pub(super) fn in_plane(data: ArrayView3<'_, f32>, axes: &[usize], size: [usize; 3], order: Order) -> Array3<f32> {
    let from = [0, 1, 2].map(|axis| data.len_of(Axis(axis)));
    let mut shape = from;
    axes.iter().for_each(|&axis| shape[axis] = size[axis]);
    let mut result = Array3::zeros(shape);
    if data.is_empty() || result.is_empty() {
        return result;
    }
    let taps: Vec<Vec<Tap>> = axes.iter().map(|&axis| taps(from[axis], size[axis], order)).collect();
    let planes = (result.axis_iter_mut(Axis(0)), data.axis_iter(Axis(0))).into_par_iter();
    let longest = axes.iter().map(|&axis| from[axis]).max().unwrap_or(0);
    planes.for_each_init(
        || vec![0.0; (longest + 2 * PAD) * LANES],
        |work, (mut to, from)| {
            let mut made: Option<Array2<f32>> = None;
            for (number, (&axis, taps)) in axes.iter().zip(&taps).enumerate() {
                let from = made.as_ref().map_or(from, |made| made.view());
                if number + 1 == axes.len() {
                    plane(to.view_mut(), from, axis - 1, taps, order, work);
                    break;
                }
                let mut shape = from.dim();
                *if axis == 1 { &mut shape.0 } else { &mut shape.1 } = size[axis];
                let mut next = Array2::zeros(shape);
                plane(next.view_mut(), from, axis - 1, taps, order, work);
                made = Some(next);
            }
        },
    );
    result
}

/// Resamples a plane's lines, which run along its axis `line`, in groups.
fn plane(
    to: ArrayViewMut2<'_, f32>,
    from: ArrayView2<'_, f32>,
    line: usize,
    taps: &[Tap],
    order: Order,
    work: &mut [f64],
) {
    let across = Axis(1 - line);
    let mut to = to;
    let groups = to.axis_chunks_iter_mut(across, LANES).zip(from.axis_chunks_iter(across, LANES));
    for (to, from) in groups {
        let (to, from) = if line == 0 { (to, from) } else { (to.reversed_axes(), from.reversed_axes()) };
        lines(to, from, taps, order, work);
    }
}

/// Resamples a group of lines, `[voxel, line]`.
fn lines(mut to: ArrayViewMut2<'_, f32>, from: ArrayView2<'_, f32>, taps: &[Tap], order: Order, work: &mut [f64]) {
    let (count, lines) = from.dim();
    let pad = if order == Order::Cubic { PAD } else { 0 };
    let (rows, _) = work[..(count + 2 * pad) * LANES].as_chunks_mut::<LANES>();
    for (index, row) in rows.iter_mut().enumerate() {
        let source = index.saturating_sub(pad).min(count - 1);
        for (line, value) in row.iter_mut().enumerate().take(lines) {
            *value = f64::from(from[[source, line]]);
        }
    }
    if order == Order::Cubic {
        spline_filter(rows);
    }
    let reach = match order {
        Order::Nearest => 1,
        Order::Linear => 2,
        Order::Cubic => 4,
    };
    for (index, tap) in taps.iter().enumerate() {
        let mut sum = [0.0; LANES];
        for (step, weight) in tap.weights.iter().enumerate().take(reach) {
            let row = &rows[(tap.start + step).min(rows.len() - 1)];
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
        for (line, sum) in sum.iter().enumerate().take(lines) {
            to[[index, line]] = *sum as f32;
        }
    }
}

/// From samples to coefficients of the cubic B-spline, mirrored at both ends (Unser 1999; scipy's `spline_filter1d` with
/// `mode='mirror'`, which is what it uses for 'nearest' too).
fn spline_filter(rows: &mut [[f64; LANES]]) {
    let last = rows.len() - 1;
    rows.iter_mut().flatten().for_each(|value| *value *= 6.0);
    // Start of the causal recursion: the sum over the mirrored line, up to where powers of the pole vanish.
    let power = POLE.powi(i32::try_from(last).unwrap_or(i32::MAX));
    let mut start: [f64; LANES] = std::array::from_fn(|line| rows[0][line] + power * rows[last][line]);
    let mut decay = POLE;
    for index in 1..last.min(64) {
        for (line, start) in start.iter_mut().enumerate() {
            *start += decay * (rows[index][line] + power * rows[last - index][line]);
        }
        decay *= POLE;
    }
    rows[0] = start.map(|value| value / (1.0 - power * power));
    for index in 1..=last {
        let before = rows[index - 1];
        for (value, before) in rows[index].iter_mut().zip(before) {
            *value += POLE * before;
        }
    }
    let before = rows[last - 1];
    for (value, before) in rows[last].iter_mut().zip(before) {
        *value = (POLE * before + *value) * POLE / (POLE * POLE - 1.0);
    }
    for index in (0..last).rev() {
        let after = rows[index + 1];
        for (value, after) in rows[index].iter_mut().zip(after) {
            *value = POLE * (after - *value);
        }
    }
}

/// The taps of each of `size` output voxels on a line of `count`. For [`Order::Cubic`] they count from the start of the
/// padded line.
pub(super) fn taps(count: usize, size: usize, order: Order) -> Vec<Tap> {
    let scale = count as f64 / size as f64;
    let last = (count - 1) as f64;
    let tap = |index: usize| {
        let at = (index as f64 + 0.5) * scale - 0.5;
        match order {
            Order::Nearest => {
                Tap { start: (at.clamp(0.0, last) + 0.5).floor() as usize, weights: [1.0, 0.0, 0.0, 0.0] }
            }
            Order::Linear => {
                let at = at.clamp(0.0, last);
                let part = at - at.floor();
                Tap { start: at.floor() as usize, weights: [1.0 - part, part, 0.0, 0.0] }
            }
            Order::Cubic => {
                let at = at + PAD as f64;
                let t = at - at.floor();
                let (u, v) = (1.0 - t, 1.0 - t);
                let first = u * v * v / 6.0;
                let second = (t * t * (t - 2.0) * 3.0 + 4.0) / 6.0;
                let third = (u * u * (u - 2.0) * 3.0 + 4.0) / 6.0;
                Tap { start: at.floor() as usize - 1, weights: [first, second, third, 1.0 - first - second - third] }
            }
        }
    };
    (0..size).map(tap).collect()
}
