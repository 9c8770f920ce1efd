//! The order in which the gradients of an effective batch are added up: a binary tree over the samples' numbers.
//!
//! Samples 2k and 2k + 1 are added, then pairs of pairs, and so on; what is left over of a number that is no power of two
//! is added from the smallest part to the largest. The tree depends on the samples' numbers alone, so neither the
//! micro-batch nor who computes which sample can change a bit: whole parts of the tree can be computed anywhere.
//!
//! A part waits until its other half is there, so at most ceil(log2 N) sums are held for N samples: one for two samples.
//! The alternative, sums in 64-bit fixed point, takes the bytes of two whatever N is: more where memory is scarcest, for
//! large networks are trained with two samples a step, and less only from eight on.

/// The parts that wait for their other half; `T` is a sum.
#[derive(Debug)]
pub struct SumTree<T> {
    /// Part of 2^level samples, by level.
    waiting: Vec<Option<T>>,
    /// Emptied sums, for use again.
    spare: Vec<T>,
    added: usize,
    expected: Option<usize>,
    /// Sums that are kept for use again while they hold nothing.
    keep: usize,
}

impl<T> Default for SumTree<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), spare: Vec::new(), added: 0, expected: None, keep: 0 }
    }
}

impl<T> SumTree<T> {
    /// For so many samples, of which `at_once` are added together.
    pub fn of(expected: usize, at_once: usize) -> Self {
        Self { expected: Some(expected), keep: held_between(expected, at_once), ..Self::default() }
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

    /// Adds the next sample's gradient. `merge` adds the second sum to the first and gives back the second, emptied;
    /// what is not kept for use again goes to `free`.
    pub fn add(&mut self, leaf: T, mut merge: impl FnMut(&mut T, T) -> T, mut free: impl FnMut(T)) {
        self.added += 1;
        let last = self.expected == Some(self.added);
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
        let mut sums: Vec<T> = std::mem::take(&mut self.waiting).into_iter().flatten().collect();
        sums.append(&mut self.spare);
        let levels = usize::BITS - added.leading_zeros();
        let waits = |level: u32| added >> level & 1 == 1;
        self.waiting = (0..levels).map(|level| if waits(level) { sums.pop() } else { None }).collect();
        self.spare = sums;
        self.added = added;
    }

    /// Gives up all sums that are held.
    pub fn end(&mut self) -> Vec<T> {
        let tree = std::mem::take(self);
        tree.waiting.into_iter().flatten().chain(tree.spare).collect()
    }

    fn held(&self) -> usize {
        self.spare.len() + self.waiting.iter().flatten().count()
    }

    /// Takes the sum of all out, and starts anew. `None` where nothing was added.
    pub fn take(&mut self, mut merge: impl FnMut(&mut T, T) -> T) -> Option<T> {
        let parts = std::mem::take(self).waiting.into_iter().flatten();
        parts.reduce(|part, mut larger| {
            drop(merge(&mut larger, part));
            larger
        })
    }
}

/// The most parts that wait after a micro-batch, and the one that is left at the end.
fn held_between(samples: usize, at_once: usize) -> usize {
    (fullest(samples, at_once).count_ones() as usize).max(1)
}

/// After how many samples, at the end of a micro-batch that is not the last, the most parts wait; the last such number.
pub fn fullest(samples: usize, at_once: usize) -> usize {
    (0..samples).step_by(at_once.max(1)).max_by_key(|added| added.count_ones()).unwrap_or(0)
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
        let mut tree = SumTree::of(samples, at_once);
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
        let between = |samples, at_once| held_between(samples, at_once);
        assert_eq!([between(2, 1), between(2, 2), between(4, 2), between(8, 1), between(8, 4)], [1, 1, 1, 3, 1]);
    }

    #[test]
    fn without_a_number_of_samples_the_order_is_the_same() {
        let mut tree = SumTree::default();
        "abcdefg".chars().for_each(|leaf| tree.add(leaf.to_string(), merge, drop));
        assert_eq!(tree.take(merge).unwrap(), "(((ab)(cd))((ef)g))");
        assert_eq!(tree.take(merge), None);
    }
}
