//! The order in which the gradients of an effective batch are added up: a binary tree over the samples' numbers.
//!
//! Samples 2k and 2k + 1 are added, then pairs of pairs, and so on; what is left over of a number that is no power of two
//! is added from the smallest part to the largest. The tree depends on the samples' numbers alone, so neither the
//! micro-batch nor who computes which sample can change a bit: whole parts of the tree can be computed anywhere.
//!
//! A part waits until its other half is there, so at most ceil(log2 N) sums are held for N samples: one for two samples.
//! The alternative, sums in 64-bit fixed point, takes the bytes of two whatever N is: more where memory is scarcest, for
//! large networks are trained with two samples a step, and less only from eight on.
//!
//! Where several processes share the samples of a step, each adds a [`Stretch`] of them, and has a few whole parts of the
//! tree at the end ([`Stretch::parts`]); [`join`] makes of everybody's parts the sum that one process would have had.
use std::ops::Range;

/// Samples that come one after another, of all that a step has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Their numbers.
    pub samples: Range<usize>,
    /// Samples of the step.
    pub of: usize,
}

impl Stretch {
    /// Every sample of a step of so many.
    pub fn whole(of: usize) -> Self {
        Self { samples: 0..of, of }
    }

    /// The first `count` of these.
    fn first(&self, count: usize) -> Self {
        let end = (self.samples.start + count).min(self.samples.end);
        Self { samples: self.samples.start..end, of: self.of }
    }

    /// The parts of the tree that these samples make up, as large as can be, in the order of their numbers.
    pub fn parts(&self) -> Vec<Range<usize>> {
        let Range { mut start, end } = self.samples;
        let mut parts = Vec::new();
        while start < end {
            let mut stop = start + 1;
            let mut length = 1;
            // A part begins at a multiple of its length, and the last one of a length may be cut short by the end.
            while start.is_multiple_of(2 * length) && stop < self.of && (start + 2 * length).min(self.of) <= end {
                length *= 2;
                stop = (start + length).min(self.of);
            }
            parts.push(start..stop);
            start = stop;
        }
        parts
    }
}

/// Adds the parts of a step of `of` samples, each with the numbers of its samples, in their order, as the tree has it;
/// `merge` adds the second to the first. `None` where there is none, or where they are not all of them.
pub fn join<T>(
    parts: impl IntoIterator<Item = (Range<usize>, T)>,
    of: usize,
    mut merge: impl FnMut(&mut T, T),
) -> Option<T> {
    // Parts that wait for their other half, the largest first.
    let mut waiting: Vec<(Range<usize>, T)> = Vec::new();
    let mut next = 0;
    for (range, sum) in parts {
        if range.start != next || range.end <= range.start {
            return None;
        }
        next = range.end;
        waiting.push((range, sum));
        while let [.., (left, _), (right, _)] = &waiting[..]
            && are_halves(left, right, of)
            && let (Some((right, sum)), Some((left, into))) = (waiting.pop(), waiting.last_mut())
        {
            merge(into, sum);
            left.end = right.end;
        }
    }
    let whole = (next == of).then(|| waiting.pop()).flatten();
    whole.filter(|_| waiting.is_empty()).map(|(_, sum)| sum)
}

/// Whether the two make up a part of the tree.
fn are_halves(left: &Range<usize>, right: &Range<usize>, of: usize) -> bool {
    let length = left.len();
    let whole = right.len() == length || (right.len() < length && right.end == of);
    left.end == right.start && length.is_power_of_two() && left.start.is_multiple_of(2 * length) && whole
}

/// The parts that wait for their other half; `T` is a sum.
#[derive(Debug)]
pub struct SumTree<T> {
    /// Part of 2^level samples, by level.
    waiting: Vec<Option<T>>,
    /// Parts whose other half is not among the samples that come.
    apart: Vec<T>,
    /// Emptied sums, for use again.
    spare: Vec<T>,
    /// The number of the first sample.
    start: usize,
    added: usize,
    /// What is to come.
    expected: Option<Stretch>,
    /// Sums that are kept for use again while they hold nothing.
    keep: usize,
}

impl<T> Default for SumTree<T> {
    fn default() -> Self {
        let (waiting, apart, spare) = (Vec::new(), Vec::new(), Vec::new());
        Self { waiting, apart, spare, start: 0, added: 0, expected: None, keep: 0 }
    }
}

impl<T> SumTree<T> {
    /// For these samples, of which `at_once` are added together.
    pub fn of(stretch: Stretch, at_once: usize) -> Self {
        let (start, keep) = (stretch.samples.start, held_between(&stretch, at_once));
        Self { start, keep, expected: Some(stretch), ..Self::default() }
    }

    /// Sums that wait between micro-batches at the most.
    pub fn keep(&self) -> usize {
        self.keep
    }

    /// Hands in an empty sum for later.
    pub fn put(&mut self, sum: T) {
        self.spare.push(sum);
    }

    /// A sum for the next sample's gradient, whatever it holds; `None`: make one.
    pub fn leaf(&mut self) -> Option<T> {
        self.spare.pop()
    }

    /// Whether all that was to come has been added.
    pub fn is_complete(&self) -> bool {
        self.expected.as_ref().is_some_and(|stretch| stretch.samples.len() == self.added)
    }

    /// Adds the next sample's gradient. `merge` adds the second sum to the first and gives back the second, emptied;
    /// what is not kept for use again goes to `free`.
    pub fn add(&mut self, leaf: T, mut merge: impl FnMut(&mut T, T) -> T, mut free: impl FnMut(T)) {
        let number = self.start + self.added;
        self.added += 1;
        let last = self.expected.as_ref().is_some_and(|stretch| stretch.of == number + 1);
        let mut sum = leaf;
        let mut level = 0;
        loop {
            if self.waiting.len() == level {
                self.waiting.push(None);
            }
            match self.waiting[level].take() {
                Some(mut other) => {
                    let emptied = merge(&mut other, sum);
                    sum = other;
                    // The sum at hand is one of those that are held.
                    match self.held() + 1 < self.keep {
                        true => self.spare.push(emptied),
                        false => free(emptied),
                    }
                }
                // The half before this one is somebody else's.
                None if number >> level & 1 == 1 => {
                    self.apart.push(sum);
                    return;
                }
                // The smaller parts of an odd number do not wait for more.
                None if last && self.waiting[level..].iter().any(Option::is_some) => {}
                None => break,
            }
            level += 1;
        }
        self.waiting[level] = Some(sum);
    }

    /// As if so many samples had been added, whose parts take the sums that are held; only their number counts then.
    pub fn skip_to(&mut self, added: usize) {
        let mut sums: Vec<T> = std::mem::take(&mut self.apart);
        sums.extend(std::mem::take(&mut self.waiting).into_iter().flatten());
        sums.append(&mut self.spare);
        let stretch = self.expected.clone().unwrap_or_else(|| Stretch::whole(added));
        for part in stretch.first(added).parts() {
            let level = part.len().ilog2() as usize;
            let Some(sum) = sums.pop() else { break };
            match part.start >> level & 1 {
                1 => self.apart.push(sum),
                _ => {
                    let levels = self.waiting.len().max(level + 1);
                    self.waiting.resize_with(levels, || None);
                    self.waiting[level] = Some(sum);
                }
            }
        }
        self.spare = sums;
        self.added = added;
    }

    /// Gives up all sums that are held.
    pub fn end(&mut self) -> Vec<T> {
        let tree = std::mem::take(self);
        tree.apart.into_iter().chain(tree.waiting.into_iter().flatten()).chain(tree.spare).collect()
    }

    fn held(&self) -> usize {
        self.apart.len() + self.spare.len() + self.waiting.iter().flatten().count()
    }

    /// Takes the sum of all out, and starts anew. `None` where nothing was added.
    pub fn take(&mut self, mut merge: impl FnMut(&mut T, T) -> T) -> Option<T> {
        let parts = std::mem::take(self).waiting.into_iter().flatten();
        parts.reduce(|part, mut larger| {
            drop(merge(&mut larger, part));
            larger
        })
    }

    /// Takes the sums of [`Stretch::parts`] out, in their order, and starts anew.
    pub fn take_parts(&mut self) -> Vec<T> {
        let tree = std::mem::take(self);
        tree.apart.into_iter().chain(tree.waiting.into_iter().rev().flatten()).collect()
    }
}

/// The most parts that wait after a micro-batch, and those that are left at the end.
fn held_between(stretch: &Stretch, at_once: usize) -> usize {
    waiting(stretch, fullest(stretch, at_once)).max(stretch.parts().len()).max(1)
}

fn waiting(stretch: &Stretch, added: usize) -> usize {
    stretch.first(added).parts().len()
}

/// After how many samples, at the end of a micro-batch that is not the last, the most parts wait; the last such number.
pub fn fullest(stretch: &Stretch, at_once: usize) -> usize {
    let borders = (0..stretch.samples.len()).step_by(at_once.max(1));
    borders.max_by_key(|added| waiting(stretch, *added)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(into: &mut String, from: String) -> String {
        *into = format!("({into}{from})");
        String::new()
    }

    /// How many samples are added, and the most sums at a time, those of a sample included.
    fn tree(samples: usize, at_once: usize) -> (String, usize) {
        let mut tree = SumTree::of(Stretch::whole(samples), at_once);
        let (mut made, mut freed, mut most) = (0usize, 0usize, 0);
        for sample in 0..samples {
            let mut leaf = tree.leaf().unwrap_or_else(|| {
                made += 1;
                String::new()
            });
            most = most.max(made - freed);
            leaf.replace_range(.., &char::from(b'a' + sample as u8).to_string());
            tree.add(leaf, merge, |_| freed += 1);
            assert_eq!(tree.held(), made - freed);
            if (sample + 1) % at_once == 0 {
                assert!(tree.held() <= tree.keep(), "{samples} {at_once}");
            }
        }
        (tree.take(merge).unwrap(), most)
    }

    #[test]
    fn the_tree_is_over_the_samples_numbers() {
        for (samples, expected) in
            [(1, "a"), (2, "(ab)"), (3, "((ab)c)"), (5, "(((ab)(cd))e)"), (7, "(((ab)(cd))((ef)g))")]
        {
            for at_once in 1..=samples {
                assert_eq!(tree(samples, at_once).0, expected, "{at_once} at once");
            }
        }
    }

    #[test]
    fn few_sums_are_held() {
        for (samples, most) in [(1, 1), (2, 2), (3, 2), (4, 3), (8, 4), (16, 5)] {
            assert_eq!(tree(samples, 1).1, most, "{samples} samples");
        }
        let between = |samples, at_once| held_between(&Stretch::whole(samples), at_once);
        assert_eq!([between(2, 1), between(2, 2), between(4, 2), between(8, 1), between(8, 4)], [1, 1, 1, 3, 1]);
    }

    #[test]
    fn without_a_number_of_samples_the_order_is_the_same() {
        let mut tree = SumTree::default();
        "abcdefg".chars().for_each(|leaf| tree.add(leaf.to_string(), merge, drop));
        assert_eq!(tree.take(merge).unwrap(), "(((ab)(cd))((ef)g))");
        assert_eq!(tree.take(merge), None);
    }

    fn named(numbers: Range<usize>) -> Vec<String> {
        numbers.map(|sample| char::from(b'a' + sample as u8).to_string()).collect()
    }

    /// Samples dealt out in stretches of any length come to the same tree.
    #[test]
    fn stretches_join_to_the_tree_of_all() {
        for of in 1..20usize {
            let (expected, _) = tree(of, 1);
            for first in 0..=of {
                for second in first..=of {
                    let mut parts = Vec::new();
                    for samples in [0..first, first..second, second..of] {
                        let stretch = Stretch { samples: samples.clone(), of };
                        for at_once in 1..=samples.len() {
                            let mut sums = SumTree::of(stretch.clone(), at_once);
                            for (added, leaf) in named(samples.clone()).into_iter().enumerate() {
                                assert!(!sums.is_complete());
                                drop(sums.leaf());
                                sums.add(leaf, merge, drop);
                                let held = sums.held();
                                assert!(
                                    (added + 1) % at_once != 0 || held <= sums.keep(),
                                    "{stretch:?} {at_once} {added}"
                                );
                            }
                            assert!(sums.is_complete());
                            let sums = sums.take_parts();
                            assert_eq!(sums.len(), stretch.parts().len(), "{stretch:?}");
                            if at_once == 1 {
                                parts.extend(stretch.parts().into_iter().zip(sums));
                            }
                        }
                    }
                    let joined = join(parts, of, |into, from| *into = format!("({into}{from})"));
                    assert_eq!(joined.as_deref(), Some(&expected[..]), "{of} in 0, {first}, {second}");
                }
            }
        }
    }

    #[test]
    fn what_is_missing_makes_no_sum() {
        let sum = |parts: &[Range<usize>]| join(parts.iter().map(|part| (part.clone(), part.len())), 6, |a, b| *a += b);
        assert_eq!(sum(&[0..3, 3..6]), None, "no parts of the tree");
        assert_eq!(sum(&[0..2, 2..4]), None);
        assert_eq!(sum(&[2..4, 4..6]), None);
        assert_eq!(sum(&[0..2, 2..3, 3..4, 4..6]), Some(6));
    }

    /// The memory model walks over a few samples of many.
    #[test]
    fn as_many_parts_wait_as_if_samples_had_been_added() {
        for (samples, of) in [(0..13, 13), (3..11, 16), (5..8, 8)] {
            let stretch = Stretch { samples, of };
            for added in 0..stretch.samples.len() {
                let mut tree = SumTree::of(stretch.clone(), 1);
                (0..8).for_each(|_| tree.put(()));
                tree.skip_to(added);
                assert_eq!(tree.held(), 8);
                assert_eq!(tree.held() - tree.spare.len(), waiting(&stretch, added), "{stretch:?} {added}");
            }
        }
    }
}
