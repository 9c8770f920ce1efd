//! Where patches are drawn from, and the tiles of the sliding window.
use proptest::prelude::*;
use voxfit::patch::grid::{check_overlap, gaussian, steps, tile_count, tiles};
use voxfit::patch::sampler::{Draw, SampleSource, Sampler, is_forced};

/// A case of which the sampler sees locations only.
struct Case {
    size: [usize; 3],
    classes: Vec<u16>,
    /// Per class.
    locations: Vec<Vec<[usize; 3]>>,
}

impl Case {
    fn new(size: [usize; 3], locations: Vec<(u16, Vec<[usize; 3]>)>) -> Self {
        let (classes, locations) = locations.into_iter().unzip();
        Self { size, classes, locations }
    }

    fn of(&self, class: u16) -> &[[usize; 3]] {
        self.classes.iter().position(|&present| present == class).map_or(&[], |index| &self.locations[index])
    }
}

impl SampleSource for Case {
    fn size(&self) -> [usize; 3] {
        self.size
    }

    fn classes_present(&self) -> &[u16] {
        &self.classes
    }

    fn location_count(&self, class: u16) -> usize {
        self.of(class).len()
    }

    fn location(&self, class: u16, index: usize) -> [usize; 3] {
        self.of(class)[index]
    }
}

fn sampler(effective_batch: usize, foreground: f64, source: [usize; 3], patch: [usize; 3]) -> Sampler {
    Sampler { seed: 11, effective_batch, foreground, source, patch }
}

#[test]
fn a_third_of_the_samples_is_forced_at_every_batch_size_one_included() {
    let case = Case::new([32, 32, 32], vec![(1, vec![[16, 16, 16]])]);
    for batch in [1, 2, 3, 4, 5, 7, 8, 9] {
        let sampler = sampler(batch, 0.33, [8, 8, 8], [8, 8, 8]);
        let draws = (0..2000_u64).map(|n| sampler.draw(&[&case], n / batch as u64, n % batch as u64));
        let mut forced = 0;
        for (index, draw) in draws.enumerate() {
            forced += u32::from(draw.forced);
            let expected = 0.33 * (index + 1) as f64;
            assert!((f64::from(forced) - expected).abs() < 1.0, "{forced} of {} at batch {batch}", index + 1);
        }
    }
}

#[test]
fn shares_that_binary_fractions_miss_are_kept_as_decimals() {
    // 0.3 in binary lies below 0.3: cutting the count off would give 2 of 10
    for percent in 0..=100_u64 {
        let share = percent as f64 / 100.0;
        let mut forced = 0_u64;
        for n in 1..=3000_u64 {
            forced += u64::from(is_forced(n - 1, share));
            assert!((forced * 100).abs_diff(percent * n) <= 51, "{forced} of {n} at {share}");
        }
    }
}

#[test]
fn the_share_is_exact_far_into_a_run_and_at_the_edges() {
    // 2^53 and more samples, where n * 0.25 is no longer exact in f64 arithmetic that adds 1
    for start in [(1_u64 << 53) - 4, (1 << 60) + 8, u64::MAX - 4000] {
        assert_eq!((start..start + 4000).filter(|&n| is_forced(n, 0.25)).count(), 1000);
        assert!((start..start + 100).all(|n| is_forced(n, 1.0) && !is_forced(n, 0.0)));
    }
    assert!((0..1000).all(|n| !is_forced(n, f64::NAN) && !is_forced(n, -1.0) && is_forced(n, 2.0)));
    assert!((0..1000).all(|n| !is_forced(n, f64::MIN_POSITIVE) && !is_forced(n, f64::from_bits(1))));
}

proptest! {
    // a failing case is printed; there is no file of them
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_number_of_samples_the_count_is_off_by_less_than_one(share in 0.0..=1.0_f64, n in 1..3000_u64) {
        let forced = (0..n).filter(|&number| is_forced(number, share)).count();
        prop_assert!((forced as f64 - share * n as f64).abs() < 1.0);
    }

    #[test]
    fn a_foreground_voxel_is_in_the_patch_and_the_patch_over_the_case(
        size in prop::array::uniform3(1..40_usize),
        patch in prop::array::uniform3(1..24_usize),
        margin in prop::array::uniform3(0..12_usize),
        place in prop::array::uniform3(0.0..1.0_f64),
        step in 0..1000_u64,
    ) {
        let voxel: [usize; 3] = std::array::from_fn(|axis| (place[axis] * size[axis] as f64) as usize);
        let source: [usize; 3] = std::array::from_fn(|axis| patch[axis] + margin[axis]);
        let case = Case::new(size, vec![(2, vec![voxel])]);
        for foreground in [0.0, 1.0] {
            let Draw { start, forced, .. } = sampler(1, foreground, source, patch).draw(&[&case], step, 0);
            prop_assert_eq!(forced, foreground == 1.0);
            for axis in 0..3 {
                // the patch in the middle of the source box, as the augmentation cuts it
                let first = start[axis] + (source[axis] / 2) as isize - (patch[axis] / 2) as isize;
                let last = first + patch[axis] as isize - 1;
                let end = size[axis] as isize - 1;
                if forced {
                    prop_assert!((first..=last).contains(&(voxel[axis] as isize)), "axis {}", axis);
                }
                if size[axis] >= patch[axis] {
                    // at most one voxel over, where source - patch is odd
                    prop_assert!(first >= -1 && last <= end + 1, "{}..{} of {}", first, last, end);
                } else {
                    prop_assert!(first <= 0 && last >= end, "{}..{} of {}", first, last, end);
                }
            }
        }
    }

    #[test]
    fn tiles_cover_the_volume_stay_inside_and_are_as_many_as_nnunets(
        size in prop::array::uniform3(1..90_usize),
        patch in prop::array::uniform3(1..40_usize),
        overlap in 0.0..0.95_f64,
    ) {
        let all = tiles(size, patch, overlap);
        prop_assert!(all.is_sorted());
        prop_assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
        prop_assert_eq!(tile_count(size, patch, overlap), Some(all.len()));
        let mut product = 1;
        for axis in 0..3 {
            let along = steps(size[axis], patch[axis], overlap);
            prop_assert_eq!(along[0], 0);
            // no gap, and neighbours share what was asked, up to rounding
            let stride = (patch[axis] as f64 * (1.0 - overlap)).max(1.0);
            prop_assert!(along.windows(2).all(|pair| pair[1] - pair[0] <= patch[axis]));
            prop_assert!(along.windows(2).all(|pair| (pair[1] - pair[0]) as f64 <= stride + 1.0));
            let last = *along.last().unwrap();
            prop_assert_eq!(last, size[axis].saturating_sub(patch[axis]));
            let expected = if size[axis] <= patch[axis] { 1 } else {
                ((size[axis] - patch[axis]) as f64 / stride).ceil() as usize + 1
            };
            prop_assert_eq!(along.len(), expected);
            product *= expected;
        }
        prop_assert_eq!(all.len(), product);
    }
}

#[test]
fn tiles_stand_where_nnunet_puts_them() {
    // compute_steps_for_sliding_window(image, tile, step), nnU-Net's own example first; then with Python's rounding
    // of halves: (110, 64, 0.5) -> [0, 23, 46]; (41, 32, 0.5) -> [0, 9]; (100, 32, 0.25) -> [0, 8, 15, 23, 30, 38, 45,
    // 53, 60, 68]; (45, 40, 0.1) -> [0, 2, 5]
    assert_eq!(steps(110, 64, 0.5), [0, 23, 46]);
    assert_eq!(steps(41, 32, 0.5), [0, 9]);
    assert_eq!(steps(100, 32, 0.75), [0, 8, 15, 23, 30, 38, 45, 53, 60, 68]);
    assert_eq!(steps(45, 40, 0.9), [0, 2, 5]);
    assert_eq!(tiles([10, 20, 30], [16, 16, 16], 0.0), [[0, 0, 0], [0, 0, 14], [0, 4, 0], [0, 4, 14]]);
}

#[test]
fn an_overlap_is_refused_in_words_and_never_hangs() {
    assert!(check_overlap(0.0).is_ok() && check_overlap(0.5).is_ok() && check_overlap(0.99).is_ok());
    for overlap in [1.0, -0.1, f64::NAN, f64::INFINITY] {
        assert!(check_overlap(overlap).unwrap_err().contains("at least 0 and below 1"));
    }
    assert_eq!(steps(20, 16, 1.0), [0, 1, 2, 3, 4]);
    assert_eq!(steps(20, 16, f64::NAN), [0, 4]);
    assert_eq!(steps(20, 16, -3.0), [0, 4]);
    assert_eq!(tile_count([usize::MAX; 3], [1; 3], 0.5), None);
}

#[test]
fn the_importance_map_is_nnunets() {
    // scipy 1.17.1: a = np.zeros(tile); a[tuple(i // 2 for i in tile)] = 1
    // a = gaussian_filter(a, [i / 8 for i in tile], 0, mode="constant", cval=0); a = a / a.max() * 10
    // voxels 0, n/7, n/3, n/2, n-1 of the flattened map, and its sum
    let recorded = [
        (
            [8, 10, 7],
            [
                3.1528282575179625e-09,
                0.0006638761765307778,
                0.511464995209283,
                9.398448576019026e-06,
                1.859940746598416e-06,
            ],
            172.21377296328717,
        ),
        (
            [40, 56, 40],
            [
                3.7751345442791016e-10,
                8.573773029336788e-06,
                0.6584787225806505,
                1.125351747192592e-06,
                3.1489700141602408e-09,
            ],
            27556.335268056115,
        ),
    ];
    for (patch, voxels, sum) in recorded {
        let map = gaussian(patch);
        let values = map.as_slice().unwrap();
        let n = values.len();
        for (index, expected) in [0, n / 7, n / 3, n / 2, n - 1].into_iter().zip(voxels) {
            let relative = (f64::from(values[index]) / expected - 1.0).abs();
            assert!(relative < 1e-6, "voxel {index} of {patch:?}: {} instead of {expected}", values[index]);
        }
        let total: f64 = values.iter().map(|&value| f64::from(value)).sum();
        assert!((total / sum - 1.0).abs() < 1e-7, "{total} instead of {sum}");
        assert_eq!(values.iter().copied().fold(0.0, f32::max), 10.0);
        assert!(values.iter().all(|&value| value > 0.0));
    }
}

#[test]
fn cases_classes_and_locations_are_drawn_evenly_with_replacement() {
    // class 1 has a single location, class 3 four: classes are drawn first, so each gets half
    let many = vec![[5, 5, 5], [5, 5, 6], [5, 6, 5], [6, 5, 5]];
    let full = Case::new([32, 32, 32], vec![(1, vec![[20, 20, 20]]), (3, many.clone())]);
    let other = Case::new([32, 32, 32], vec![(1, vec![[10, 11, 12]])]);
    let sampler = sampler(1, 1.0, [4, 4, 4], [4, 4, 4]);
    let n = 20_000;
    let draws: Vec<Draw> = (0..n).map(|step| sampler.draw(&[&full, &other], step, 0)).collect();
    let count = |start: [isize; 3]| draws.iter().filter(|draw| draw.start == start).count() as f64;
    // 5 standard deviations of a binomial
    let near = |count: f64, p: f64| (count - p * n as f64).abs() < 5.0 * (p * (1.0 - p) * n as f64).sqrt();
    assert!(near(count([8, 9, 10]), 0.5));
    assert!(near(count([18, 18, 18]), 0.25));
    for [z, y, x] in many {
        assert!(near(count([z as isize - 2, y as isize - 2, x as isize - 2]), 0.0625));
    }
}

#[test]
fn random_positions_reach_every_place_and_small_cases_are_overhung_evenly() {
    let case = Case::new([6, 20, 9], vec![(1, vec![[3, 10, 4]])]);
    let sampler = sampler(2, 0.0, [9, 8, 9], [9, 8, 9]);
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..500 {
        for sample in 0..2 {
            let draw = sampler.draw(&[&case], step, sample);
            assert!(!draw.forced);
            seen.insert(draw.start);
        }
    }
    // 9 of 6 voxels: 3 to pad, nnU-Net's bounds -3 // 2 = -2 and 6 + 1 + 1 - 9 = -1; 20: 0 to 12; 9: 0
    let expected: std::collections::BTreeSet<[isize; 3]> =
        (-2..=-1).flat_map(|z| (0..=12).map(move |y| [z, y, 0])).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_forced_sample_without_foreground_is_placed_at_random_and_still_counted() {
    let empty = Case::new([16, 16, 16], vec![]);
    let unlisted = Case::new([16, 16, 16], vec![(1, vec![])]);
    let sampler = sampler(1, 1.0, [4, 4, 4], [4, 4, 4]);
    for case in [&empty, &unlisted] {
        let starts: std::collections::BTreeSet<_> = (0..100).map(|step| sampler.draw(&[case], step, 0).start).collect();
        assert!(starts.len() > 50);
        assert!(sampler.draw(&[case], 0, 0).forced);
    }
}

#[test]
fn a_draw_depends_on_seed_step_and_sample_alone() {
    let case = Case::new([40, 40, 40], vec![(1, vec![[20, 20, 20], [3, 4, 5]])]);
    let cases = [&case, &case, &case];
    let one = sampler(4, 0.33, [12, 12, 12], [8, 8, 8]);
    let forward: Vec<Draw> = (0..40).map(|n| one.draw(&cases, n / 4, n % 4)).collect();
    let mut backward: Vec<Draw> = (0..40).rev().map(|n| one.clone().draw(&cases, n / 4, n % 4)).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    let other = Sampler { seed: 12, ..one };
    assert_ne!(forward, (0..40).map(|n| other.draw(&cases, n / 4, n % 4)).collect::<Vec<_>>());
}
