//! Which cases are trained on and which are held out.
use rand::Rng;

use crate::random;

/// Indices into the dataset's cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Ascending.
    pub train: Vec<usize>,
    /// Ascending.
    pub validation: Vec<usize>,
    /// Fewer cases than folds: validation is on the training cases and says so wherever it shows.
    pub validates_on_training_cases: bool,
}

/// Fold `fold` of `folds` over case ids, shuffled by `seed`; `None` trains on all cases without validation.
///
/// The ids are sorted, shuffled by Fisher and Yates, and dealt out in turn, so that every case is held out in exactly
/// one fold and folds differ by one case at most. The order of `ids` only decides what the indices refer to. With fewer
/// cases than folds, or fewer than two folds, all are trained on and validated on. `fold` must be below `folds`, which
/// the configuration sees to; here it is taken modulo `folds`.
pub fn split(ids: &[&str], folds: usize, fold: Option<usize>, seed: u64) -> Split {
    let all: Vec<usize> = (0..ids.len()).collect();
    let Some(fold) = fold else {
        return Split { train: all, validation: Vec::new(), validates_on_training_cases: false };
    };
    if folds < 2 || ids.len() < folds {
        return Split { train: all.clone(), validation: all, validates_on_training_cases: true };
    }
    let mut order = all;
    order.sort_by_key(|&index| ids[index]);
    let mut stream = random::stream(seed, "split", 0, 0);
    for last in (1..order.len()).rev() {
        order.swap(last, below(&mut stream, last + 1));
    }
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (position, &index) in order.iter().enumerate() {
        let part = if position % folds == fold % folds { &mut validation } else { &mut train };
        part.push(index);
    }
    train.sort_unstable();
    validation.sort_unstable();
    Split { train, validation, validates_on_training_cases: false }
}

/// A whole number below `bound`, the same on every platform and with every version of the generator's crate; its bias
/// is `bound` / 2^64.
pub(super) fn below(stream: &mut impl Rng, bound: usize) -> usize {
    ((u128::from(stream.next_u64()) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::split;
    use proptest::prelude::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("case_{index:03}")).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_case_is_held_out_once(count in 2usize..120, folds in 2usize..11, seed: u64) {
            prop_assume!(count >= folds);
            let names = names(count);
            let ids: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut held_out = vec![0; count];
            for fold in 0..folds {
                let split = split(&ids, folds, Some(fold), seed);
                prop_assert!(!split.validates_on_training_cases);
                prop_assert!((count / folds..=count.div_ceil(folds)).contains(&split.validation.len()));
                let mut both = [split.train.clone(), split.validation.clone()].concat();
                both.sort_unstable();
                prop_assert_eq!(both, (0..count).collect::<Vec<_>>());
                split.validation.iter().for_each(|&index| held_out[index] += 1);
            }
            prop_assert!(held_out.iter().all(|&times| times == 1));
        }

        #[test]
        fn the_order_of_ids_does_not_matter(count in 5usize..60, turn in 0usize..60, seed: u64) {
            let names = names(count);
            let ids: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut turned = ids.clone();
            turned.rotate_left(turn % count);
            let named = |ids: &[&str]| {
                let mut held: Vec<String> = split(ids, 5, Some(2), seed).validation.iter().map(|&i| ids[i].into()).collect();
                held.sort();
                held
            };
            prop_assert_eq!(named(&ids), named(&turned));
        }
    }

    #[test]
    fn the_seed_matters() {
        let names = names(20);
        let ids: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_ne!(split(&ids, 5, Some(0), 0), split(&ids, 5, Some(0), 1));
    }

    #[test]
    fn too_few_cases_are_validated_on_and_flagged() {
        let result = split(&["b", "a"], 5, Some(3), 0);
        assert_eq!((result.train, result.validation), (vec![0, 1], vec![0, 1]));
        assert!(result.validates_on_training_cases);
    }

    #[test]
    fn no_fold_trains_on_all() {
        let result = split(&["b", "a", "c"], 5, None, 0);
        assert_eq!((result.train.len(), result.validation.len()), (3, 0));
        assert!(!result.validates_on_training_cases);
    }
}
