//! Values from scipy 1.17.1 (skimage's `resize` and batchgenerators' `resize_segmentation` call it in this way):
//!
//! ```python
//! def grid(s): return np.meshgrid(*[np.arange(n) for n in s], indexing="ij")
//! def volume(s): z, y, x = grid(s); return ((x*7919 + y*104729 + z*1299709) % 1000).astype(float)
//! def zoom(a, t, order):
//!     return nd.zoom(a, np.array(t) / np.array(a.shape), order=order, mode="nearest", grid_mode=True)
//! cubic = lambda a, t: np.clip(zoom(a, t, 3), a.min(), a.max())
//! def nearest(a, axis, n):   # map_coordinates(order=0, mode="nearest") at (i + 0.5) * N / n - 0.5 along `axis`
//! def separate(a, t, axis):  # cubic of each 2D slice, clipped to the slice, stacked, then nearest
//! def labels(s): z, y, x = grid(s); return (x//3 + y//2 + z*z) % 5
//! def seg(a, t): out = zeros(t); for c in unique(a): out[zoom(a == c, t, 1) >= 0.5] = c
//! sample = r.ravel()[(np.arange(8) * 7919) % r.size]; total = np.abs(r).sum()
//! ```
use ndarray::Array3;

use super::*;

fn volume([d, h, w]: [usize; 3]) -> Array3<f32> {
    Array3::from_shape_fn((d, h, w), |(z, y, x)| ((x * 7919 + y * 104_729 + z * 1_299_709) % 1000) as f32)
}

fn label_map([d, h, w]: [usize; 3]) -> Array3<u16> {
    Array3::from_shape_fn((d, h, w), |(z, y, x)| ((x / 3 + y / 2 + z * z) % 5) as u16)
}

fn assert_close(result: &Array3<f32>, sample: [f64; 8], total: f64) {
    let flat: Vec<f64> = result.iter().map(|value| f64::from(*value)).collect();
    for (index, expected) in sample.into_iter().enumerate() {
        let found = flat[index * 7919 % flat.len()];
        // Values reach 1000 and go through f32 between axes.
        assert!((found - expected).abs() < 4e-4, "sample {index}: {found} is not {expected}");
    }
    let sum: f64 = flat.iter().map(|value| value.abs()).sum();
    assert!((sum - total).abs() < 1e-6 * total, "{sum} is not {total}");
}

#[test]
fn cubic_is_scipys() {
    let from = |size, to| image(volume(size).view(), to, None);
    assert_close(
        &from([5, 7, 6], [9, 4, 11]),
        [164.4029, 562.6252, 570.8672, 623.8076, 752.4694, 757.9794, 429.4561, 103.4265],
        192_536.514,
    );
    assert_close(
        &from([1, 3, 8], [4, 3, 5]),
        [251.5895, 972.0, 118.8747, 201.4238, 304.7888, 440.001, 179.6644, 316.2285],
        28_572.819,
    );
    assert_close(
        &from([4, 2, 3], [1, 9, 3]),
        [714.8462, 313.6989, 202.0845, 141.1538, 275.5472, 296.7595, 155.5322, 265.5096],
        10_714.671,
    );
}

#[test]
fn linear_is_scipys() {
    let from = |size, to| linear(volume(size).view(), to);
    assert_close(
        &from([5, 7, 6], [9, 4, 11]),
        [273.375, 531.625, 557.3977, 601.5795, 645.7614, 689.9432, 421.625, 153.3068],
        192_424.091,
    );
    assert_close(&from([1, 3, 8], [4, 3, 5]), [275.7, 915.3, 144.9, 174.5, 304.1, 433.7, 186.3, 315.9], 28_330.0);
    assert_close(&from([4, 2, 3], [1, 9, 3]), [563.5, 414.2222, 286.7778, 292.5, 401.5, 347.0, 292.5, 401.5], 11_619.0);
}

#[test]
fn coarse_axis_is_left_to_the_nearest_slice() {
    assert_close(
        &image(volume([4, 6, 7]).view(), [7, 9, 5], Some(0)),
        [107.5813, 152.8711, 278.9444, 92.9666, 985.0, 211.75, 385.4394, 489.3701],
        159_526.0,
    );
    assert_close(
        &image(volume([6, 5, 4]).view(), [5, 8, 2], Some(2)),
        [918.1885, 213.4304, 375.6098, 321.6974, 482.9284, 552.1384, 714.04, 748.8302],
        40_128.079,
    );
}

fn assert_labels(result: &Array3<u16>, start: &[u16], counts: [usize; 5], weighted: usize) {
    let flat: Vec<u16> = result.iter().copied().collect();
    assert_eq!(&flat[..start.len()], start);
    let found: [usize; 5] =
        std::array::from_fn(|label| flat.iter().filter(|&&value| usize::from(value) == label).count());
    assert_eq!(found, counts);
    assert_eq!(
        flat.iter().enumerate().map(|(index, &value)| usize::from(value) * (index % 97)).sum::<usize>(),
        weighted
    );
}

#[test]
fn labels_are_nnunets() {
    assert_labels(
        &labels(label_map([6, 9, 11]).view(), [9, 7, 16], None),
        &[0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 0, 0, 0, 0, 1, 1, 1, 1, 0, 2, 2, 2, 2, 3, 3, 3],
        [281, 178, 167, 181, 201],
        88_646,
    );
    // Halving puts every output voxel in the middle of eight, so that shares of exactly one half abound.
    assert_labels(
        &labels(label_map([6, 8, 10]).view(), [3, 4, 5], None),
        &[1, 1, 2, 3, 3, 2, 2, 3, 4, 4, 3, 3, 4, 4, 0, 4, 4, 4, 1, 1, 4, 4, 0, 1, 2, 0, 1, 1, 2, 3, 1, 2],
        [4, 12, 11, 14, 19],
        4597,
    );
    assert_labels(
        &labels(label_map([4, 9, 8]).view(), [6, 7, 12], Some(0)),
        &[0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 1, 1, 1, 1, 0, 2, 2, 2, 1, 1, 1, 1, 2, 2, 2, 2],
        [96, 103, 102, 103, 100],
        42_984,
    );
}

#[test]
fn same_size_is_the_same_volume() {
    let data = volume([3, 4, 5]);
    assert_eq!(image(data.view(), [3, 4, 5], None), data);
    assert_eq!(image(data.view(), [3, 4, 5], Some(1)), data);
    let map = label_map([3, 4, 5]);
    assert_eq!(labels(map.view(), [3, 4, 5], None), map);
}

#[test]
fn result_does_not_depend_on_threads_nor_on_layout() {
    let data = volume([70, 33, 40]);
    let whole = image(data.view(), [41, 67, 35], None);
    let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(single.install(|| image(data.view(), [41, 67, 35], None)), whole);
    let mut fortran = data.clone().reversed_axes().as_standard_layout().into_owned();
    fortran.swap_axes(0, 2);
    assert!(!fortran.is_standard_layout());
    assert_eq!(image(fortran.view(), [41, 67, 35], None), whole);
}

#[test]
fn constant_stays_and_nothing_leaves_the_range() {
    let constant = Array3::from_elem((4, 1, 9), 7.25f32);
    assert!(image(constant.view(), [9, 3, 4], None).iter().all(|value| *value == 7.25));
    let step = Array3::from_shape_fn((1, 1, 9), |(_, _, x)| if x < 4 { 0.0f32 } else { 1.0 });
    let result = image(step.view(), [1, 1, 31], None);
    assert!(result.iter().all(|value| (0.0..=1.0).contains(value)));
}

#[test]
fn sizes_round_halves_to_even() {
    // Python: [int(round(i / j * k)) for i, j, k in zip((1.0, 0.75, 2.5), (2.0, 1.0, 1.0), (5, 6, 3))]
    assert_eq!(new_size([5, 6, 3], [1.0, 0.75, 2.5], [2.0, 1.0, 1.0]), [2, 4, 8]);
    assert_eq!(new_size([1, 2, 3], [1.0; 3], [9.0; 3]), [1, 1, 1]);
}

#[test]
fn one_coarse_axis_is_separated() {
    assert_eq!(separate_axis([5.0, 1.0, 1.0], [1.0; 3]), Some(0));
    assert_eq!(separate_axis([1.0; 3], [1.0, 1.0, 4.0]), Some(2));
    assert_eq!(separate_axis([3.0, 1.0, 1.0], [1.0; 3]), None);
    // Two coarse axes in the source decide for none, whatever the target has.
    assert_eq!(separate_axis([4.0, 4.0, 1.0], [4.0, 1.0, 1.0]), None);
}

#[test]
fn peak_counts_what_is_held_between_axes() {
    // 10 -> 5 along the first axis (5*10*10 beside the whole), then 10 -> 20 along the second (5*20*10 beside 5*10*10).
    assert_eq!(peak_bytes([10, 10, 10], [5, 20, 10], None), 4 * (1000 + 500));
    assert_eq!(peak_bytes([10, 10, 10], [5, 40, 10], None), 4 * (500 + 2000));
    // y and x in one pass; the coarse axis last.
    assert_eq!(peak_bytes([10, 10, 10], [20, 5, 8], None), 4 * (1000 + 400));
    assert_eq!(peak_bytes([10, 10, 10], [5, 20, 20], Some(0)), 4 * (4000 + 2000));
    assert_eq!(peak_bytes([3, 4, 5], [3, 4, 5], None), 4 * 60);
    assert_eq!(peak_bytes([3, 4, 5], [usize::MAX; 3], None), u64::MAX);
}

/// A volume that is given away is resampled to the same bits.
#[test]
fn owned_is_as_seen() {
    let data = volume([9, 14, 11]);
    for size in [[5, 20, 11], [13, 7, 30], [9, 14, 12], [3, 14, 11], [20, 30, 25], [9, 9, 11], [9, 14, 11]] {
        for across in [None, Some(0), Some(1), Some(2)] {
            let seen = image(data.view(), size, across);
            assert_eq!(owned_image(data.clone(), size, across), seen, "{size:?} {across:?}");
        }
    }
}
