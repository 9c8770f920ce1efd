//! Uniform draws written out here, so that an update of a random-number crate cannot change a run.
use rand::Rng;

/// A multiple of 2^-53 in [0, 1).
pub fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Uniform in `[low, high]`; takes one number from `rng` even where both ends are equal.
pub fn uniform(rng: &mut impl Rng, [low, high]: [f64; 2]) -> f64 {
    (low + (high - low) * unit(rng)).min(high)
}

/// True with probability `p`: never at 0, always at 1.
pub fn chance(rng: &mut impl Rng, p: f64) -> bool {
    unit(rng) < p
}

/// An index in `0..count`; `0` where there is none. The bias is below `count` / 2^64.
pub fn below(rng: &mut impl Rng, count: usize) -> usize {
    ((u128::from(rng.next_u64()) * count as u128) >> 64) as usize
}

/// A factor from a range round 1: below and above 1 equally often, uniform within each part (nnU-Net's `BGContrast`,
/// so that 0.7..1.5 darkens as often as it brightens). A range on one side of 1 is drawn uniformly.
pub fn factor(rng: &mut impl Rng, [low, high]: [f64; 2]) -> f64 {
    let lower_part = chance(rng, 0.5);
    match (low < 1.0 && high > 1.0, lower_part) {
        (false, _) => uniform(rng, [low, high]),
        (true, true) => uniform(rng, [low, 1.0]),
        (true, false) => uniform(rng, [1.0, high]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    #[test]
    fn every_index_is_drawn_about_equally_often_and_none_outside() {
        let mut rng = stream(3, "test", 0, 0);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[below(&mut rng, 7)] += 1;
        }
        // 5 standard deviations of a binomial with n = 70000, p = 1/7
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 463), "{counts:?}");
        assert_eq!(below(&mut rng, 1), 0);
        assert_eq!(below(&mut rng, 0), 0);
    }

    #[test]
    fn a_factor_is_as_often_below_one_as_above() {
        let mut rng = stream(4, "test", 0, 0);
        let drawn: Vec<f64> = (0..10_000).map(|_| factor(&mut rng, [0.7, 1.5])).collect();
        assert!(drawn.iter().all(|&value| (0.7..=1.5).contains(&value)));
        assert!(drawn.iter().filter(|&&value| value < 1.0).count().abs_diff(5_000) < 250);
        assert!((0..1000).map(|_| factor(&mut rng, [1.2, 1.5])).all(|value| (1.2..=1.5).contains(&value)));
        assert!((0..1000).map(|_| factor(&mut rng, [0.2, 0.5])).all(|value| (0.2..=0.5).contains(&value)));
    }

    #[test]
    fn a_chance_of_zero_never_comes_and_of_one_always() {
        let mut rng = stream(5, "test", 0, 0);
        assert!((0..1000).all(|_| !chance(&mut rng, 0.0) && chance(&mut rng, 1.0)));
    }
}
