//! Which voxels of each class are kept for sampling.
use std::collections::BTreeMap;

use ndarray::ArrayView3;

use crate::dataset::split::below;
use crate::random;

/// nnU-Net keeps this many voxels of a class, or all where there are fewer, ...
const KEPT: usize = 10_000;
/// ... but at least one in so many.
const AT_LEAST_ONE_IN: usize = 100;
/// nnU-Net's seed for the choice.
const SEED: u64 = 1234;

/// The kept places (in `[z, y, x]` order, ascending) of each class from 1 that has a voxel, but not of `ignore`.
///
/// The voxels of a class are cut into as many stretches as there are places to keep, which differ by one voxel at most,
/// and one is drawn in each: an even choice without replacement. `labels` must have at most 2^32 voxels.
pub(super) fn locations(labels: ArrayView3<'_, u16>, ignore: Option<u16>) -> BTreeMap<u16, Vec<u32>> {
    let mut counts = vec![0_usize; 1 << 16];
    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    let mut choices: Vec<Option<Choice>> = (0..=u16::MAX)
        .zip(counts)
        .map(|(class, count)| (class != 0 && Some(class) != ignore && count > 0).then(|| Choice::new(class, count)))
        .collect();
    for (place, &label) in (0_u32..).zip(&labels) {
        if let Some(choice) = &mut choices[usize::from(label)] {
            choice.offer(place);
        }
    }
    (0..=u16::MAX).zip(choices).filter_map(|(class, choice)| Some((class, choice?.kept))).collect()
}

struct Choice {
    stream: rand_chacha::ChaCha8Rng,
    /// Voxels of the class, how many are kept, how many were offered.
    count: usize,
    keep: usize,
    offered: usize,
    /// The next voxel to be kept, by its number among the class's.
    next: usize,
    kept: Vec<u32>,
}

impl Choice {
    fn new(class: u16, count: usize) -> Self {
        let keep = count.min(KEPT).max(count.div_ceil(AT_LEAST_ONE_IN));
        let stream = random::stream(SEED, "class locations", 0, u64::from(class));
        let mut choice = Self { stream, count, keep, offered: 0, next: 0, kept: Vec::with_capacity(keep) };
        choice.next = choice.draw();
        choice
    }

    /// In stretch number `kept.len()`.
    fn draw(&mut self) -> usize {
        let bound = |stretch: usize| (stretch as u128 * self.count as u128 / self.keep as u128) as usize;
        let (low, high) = (bound(self.kept.len()), bound(self.kept.len() + 1));
        low + below(&mut self.stream, high - low)
    }

    fn offer(&mut self, place: u32) {
        if self.offered == self.next && self.kept.len() < self.keep {
            self.kept.push(place);
            self.next = self.draw();
        }
        self.offered += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::locations;
    use ndarray::Array3;

    #[test]
    fn few_voxels_are_all_kept_in_order() {
        let labels = Array3::from_shape_fn((3, 4, 5), |(z, _, x)| if x == 2 { z as u16 } else { 0 });
        let found = locations(labels.view(), Some(2));
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(found[&1], [22, 27, 32, 37]);
    }

    #[test]
    fn many_voxels_are_thinned_evenly() {
        // 2 000 000 voxels of class 1: one in a hundred, 20 000; 15 000 of class 2: 10 000.
        let labels = Array3::from_shape_fn((130, 125, 125), |(z, y, x)| match (z * 125 + y) * 125 + x {
            0..2_000_000 => 1,
            2_000_000..2_015_000 => 2,
            _ => 0,
        });
        let found = locations(labels.view(), None);
        assert_eq!((found[&1].len(), found[&2].len()), (20_000, 10_000));
        for (kept, place) in found[&1].iter().enumerate() {
            assert!((kept * 100..kept * 100 + 100).contains(&(*place as usize)));
        }
        assert!(found[&2].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(found[&2].iter().all(|place| (2_000_000..2_015_000).contains(place)));
        assert_eq!(found, locations(labels.view(), None));
    }
}
