//! Folds of equally many cases, and of equally many cases of every trait, where patients have several cases or classes
//! are rare.
//!
//! Greedy iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): the rarest trait first, its largest patients
//! first, each to the fold that lacks most of this trait. Without traits that is: the largest patient first, each to the
//! fold with the fewest cases.
use std::collections::BTreeMap;

use super::Unit;

/// The fold of each of `units`, equal ones in the order of `shuffled`. No fold stays empty where there are as many units
/// as folds: an empty fold lacks more than any other.
pub(super) fn dealt(units: &[Unit], shuffled: &[usize], folds: usize) -> Vec<usize> {
    let mut order = shuffled.to_vec();
    order.sort_by_key(|&unit| std::cmp::Reverse(units[unit].cases.len()));
    let mut fold_of: Vec<Option<usize>> = vec![None; units.len()];
    let mut cases = vec![0usize; folds];
    // Of every trait, the cases in each fold; those not dealt yet.
    let mut has: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    let mut left: BTreeMap<u16, usize> = BTreeMap::new();
    for &entry in units.iter().flat_map(|unit| &unit.traits) {
        *left.entry(entry).or_default() += 1;
        has.entry(entry).or_insert_with(|| vec![0; folds]);
    }
    loop {
        let rarest = left.iter().filter(|(_, count)| **count > 0).min_by_key(|(entry, count)| (**count, **entry));
        let rarest = rarest.map(|(entry, _)| *entry);
        for &unit in &order {
            let of_trait = rarest.is_none_or(|entry| units[unit].traits.binary_search(&entry).is_ok());
            if fold_of[unit].is_some() || !of_trait {
                continue;
            }
            let lacking = |fold: &usize| {
                let of_trait = rarest.and_then(|entry| has.get(&entry)).map_or(0, |has| has[*fold]);
                (of_trait, cases[*fold], *fold)
            };
            let fold = (0..folds).min_by_key(lacking).unwrap_or(0);
            fold_of[unit] = Some(fold);
            cases[fold] += units[unit].cases.len();
            for entry in &units[unit].traits {
                has.entry(*entry).and_modify(|has| has[fold] += 1);
                left.entry(*entry).and_modify(|left| *left -= 1);
            }
        }
        if rarest.is_none() {
            return fold_of.into_iter().map(|fold| fold.unwrap_or(0)).collect();
        }
    }
}
