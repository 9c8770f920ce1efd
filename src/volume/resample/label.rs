//! Resampling of label maps.
use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, Axis};

use super::axis::{Order, taps};

/// Each label's mask resampled linearly (nearest across `separate_axis`); `size` and the axis are z, y, x.
///
/// A voxel takes the label whose mask reaches 0.5 there; where two reach it, the larger label, and where none does, 0.
/// This is nnU-Net's rule (batchgenerators' `resize_segmentation` with order 1), evaluated voxel by voxel: a mask's
/// value is the sum of the weights of those of the 8 neighbours that carry the label.
pub fn labels(data: ArrayView3<'_, u16>, size: [usize; 3], separate_axis: Option<usize>) -> Array3<u16> {
    if data.shape() == size {
        return data.as_standard_layout().into_owned();
    }
    let mut result = Array3::zeros(size);
    if data.is_empty() || result.is_empty() {
        return result;
    }
    let along = |axis: usize| {
        let count = data.len_of(Axis(axis));
        if separate_axis == Some(axis) {
            let nearest = taps(count, size[axis], Order::Nearest);
            return nearest.iter().map(|tap| [(tap.start, 1.0), (tap.start, 0.0)]).collect::<Vec<_>>();
        }
        (0..size[axis]).map(|index| neighbours(index, count, size[axis])).collect()
    };
    let (deep, high, wide) = (along(0), along(1), along(2));
    result.axis_iter_mut(Axis(0)).into_par_iter().zip(deep.par_iter()).for_each(|(mut plane, z)| {
        for (mut row, y) in plane.outer_iter_mut().zip(&high) {
            for (voxel, x) in row.iter_mut().zip(&wide) {
                *voxel = winner(&data, z, y, x);
            }
        }
    });
    result
}

/// Two neighbours along one axis and their weights.
type Pair = [(usize, f64); 2];

/// As scipy has them: beyond the border the two neighbours are the same voxel, whose share is the sum of two weights and so
/// not always 1. A label's share of one half, and with it the label, depends on such roundings.
fn neighbours(index: usize, count: usize, size: usize) -> Pair {
    let at = (index as f64 + 0.5) * (count as f64 / size as f64) - 0.5;
    let below = at.floor();
    let inside = |voxel: f64| voxel.clamp(0.0, (count - 1) as f64) as usize;
    let weight = 1.0 - (at - below);
    [(inside(below), weight), (inside(below + 1.0), 1.0 - weight)]
}

fn winner(data: &ArrayView3<'_, u16>, z: &Pair, y: &Pair, x: &Pair) -> u16 {
    let first = data[[z[0].0, y[0].0, x[0].0]];
    let mut same = true;
    let mut around = [(0u16, 0.0f64); 8];
    let mut index = 0;
    for &(z, weight_z) in z {
        for &(y, weight_y) in y {
            for &(x, weight_x) in x {
                let label = data[[z, y, x]];
                same &= label == first;
                around[index] = (label, weight_z * weight_y * weight_x);
                index += 1;
            }
        }
    }
    if same {
        return first;
    }
    let mut winner = 0;
    for &(label, _) in &around {
        if label > winner {
            let share: f64 = around.iter().filter(|(other, _)| *other == label).map(|(_, weight)| weight).sum();
            if share >= 0.5 {
                winner = label;
            }
        }
    }
    winner
}
