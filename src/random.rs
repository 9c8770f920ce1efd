//! Counter-based random streams: any sample of any step can be drawn alone, by any thread, on resume.
//!
//! There is no generator that advances through a run. A stream is named by what it is for, and its name is
//! hashed into the key of a ChaCha8 generator; the same name gives the same numbers for ever.
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The stream named `(seed, purpose, step, sample)`; `purpose` keeps the draws of different parts apart.
pub fn stream(seed: u64, purpose: &str, step: u64, sample: u64) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(b"voxfit stream 1\0");
    hash.update(seed.to_le_bytes());
    hash.update((purpose.len() as u64).to_le_bytes());
    hash.update(purpose.as_bytes());
    hash.update(step.to_le_bytes());
    hash.update(sample.to_le_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::stream;
    use rand::Rng;

    #[test]
    fn every_part_of_the_name_changes_the_stream() {
        let first = |seed, purpose, step, sample| stream(seed, purpose, step, sample).next_u64();
        let base = first(1, "patch", 2, 3);
        assert_eq!(base, first(1, "patch", 2, 3));
        for other in
            [first(2, "patch", 2, 3), first(1, "augment", 2, 3), first(1, "patch", 3, 3), first(1, "patch", 2, 4)]
        {
            assert_ne!(base, other);
        }
    }
}
