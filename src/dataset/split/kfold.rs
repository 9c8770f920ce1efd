//! The shuffled k-fold of scikit-learn, `KFold(folds, shuffle=True, random_state=seed)`, which nnU-Net deals its cases
//! by: numpy's `RandomState(seed).shuffle` of 0, 1, 2, ..., cut into stretches of equal length.

/// 0..`count` in numpy's order: Fisher and Yates from the last on, every draw by masking and rejecting, as numpy's
/// `random_interval` does.
pub(super) fn shuffled(count: usize, seed: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut twister = Twister::new(seed);
    for last in (1..count).rev() {
        order.swap(last, twister.up_to(last));
    }
    order
}

/// The fold of each of the `shuffled` things: the first `count % folds` folds take one more than the others.
pub(super) fn dealt(shuffled: &[usize], folds: usize) -> Vec<usize> {
    let (least, more) = (shuffled.len() / folds, shuffled.len() % folds);
    let mut dealt = vec![0; shuffled.len()];
    let mut rest = shuffled.iter();
    for fold in 0..folds {
        rest.by_ref().take(least + usize::from(fold < more)).for_each(|&thing| dealt[thing] = fold);
    }
    dealt
}

const WORDS: usize = 624;
const AHEAD: usize = 397;

/// MT19937 (Matsumoto and Nishimura 1998), seeded by its `init_genrand`.
struct Twister {
    state: [u32; WORDS],
    next: usize,
}

impl Twister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; WORDS];
        for index in 1..WORDS {
            let before = state[index - 1];
            state[index] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index as u32);
        }
        Self { state, next: WORDS }
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for index in 0..WORDS {
            let mixed = (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % WORDS] & 0x7fff_ffff);
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + AHEAD) % WORDS] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// A whole number from 0 to `most`; a dataset has fewer cases than 2^32.
    fn up_to(&mut self, most: usize) -> usize {
        let mask = u32::MAX.checked_shr((most as u32).leading_zeros()).unwrap_or(0);
        loop {
            let drawn = (self.word() & mask) as usize;
            if drawn <= most {
                return drawn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Twister, dealt, shuffled};
    use serde_json::Value;

    /// `tests/data/kfold.py` has the recipe.
    fn recorded() -> Value {
        serde_json::from_str(include_str!("../../../tests/data/kfold.json")).unwrap()
    }

    #[test]
    fn words_are_numpys() {
        for entry in recorded()["words"].as_array().unwrap() {
            let mut twister = Twister::new(u32::try_from(entry["seed"].as_u64().unwrap()).unwrap());
            let words: Vec<u64> = (0..1304).map(|_| u64::from(twister.word())).collect();
            assert_eq!(entry["first"], serde_json::json!(words[..4]));
            assert_eq!(entry["from_1300"], serde_json::json!(words[1300..]));
        }
    }

    #[test]
    fn folds_are_scikit_learns() {
        let recorded = recorded();
        let splits = recorded["splits"].as_array().unwrap();
        assert!(splits.len() > 30);
        for entry in splits {
            let folds = entry["folds"].as_array().unwrap();
            let seed = u32::try_from(entry["seed"].as_u64().unwrap()).unwrap();
            let cases = entry["cases"].as_u64().unwrap() as usize;
            let found = dealt(&shuffled(cases, seed), folds.len());
            for (fold, expected) in folds.iter().enumerate() {
                let tested: Vec<usize> = (0..cases).filter(|&case| found[case] == fold).collect();
                assert_eq!(expected, &serde_json::json!(tested), "{cases} cases, fold {fold}, seed {seed}");
            }
        }
    }
}
