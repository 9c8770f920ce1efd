//! How far a mean over cases would move with other cases: the percentile bootstrap.
//!
//! As many cases as there are, drawn from them with replacement, [`RESAMPLES`] times; the middle 95 % of the means are the
//! interval. Whole cases are drawn, so that what the classes of a case have in common stays together, and it never leaves
//! the range that a figure has, as one from a normal distribution would: Dice is skewed and ends at 1.
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::surface::percentile;
use super::{CaseFigures, ClassFigures, null};
use crate::random;

/// How often cases are drawn.
pub const RESAMPLES: u64 = 10_000;

/// Share of means that lie in an interval.
pub const LEVEL: f64 = 0.95;

/// Cases below which the bootstrap is known to promise too much.
pub const FEW: usize = 20;

/// From `low` to `high`; NaN (null in JSON) where fewer than two cases have a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Below it lie 2.5 % of the means.
    #[serde(with = "null")]
    pub low: f64,
    /// Above it lie 2.5 % of the means.
    #[serde(with = "null")]
    pub high: f64,
}

/// One for each figure that has a mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Of the mean Dice, 0 to 1.
    pub dice: Interval,
    /// mm.
    pub hd95: Interval,
    /// Of the mean NSD, 0 to 1.
    pub nsd: Interval,
}

/// Figures that have a mean.
const FIGURES: [fn(&ClassFigures) -> f64; 3] = [|of| of.dice, |of| of.hd95, |of| of.nsd];

/// Of the means of each of `classes` classes, and of the mean over classes. Every case has every class, in one order.
pub fn intervals(cases: &[CaseFigures], classes: usize) -> (Vec<Intervals>, Intervals) {
    let drawn: Vec<Vec<u32>> = (0..RESAMPLES).into_par_iter().map(|number| draw(cases.len(), number)).collect();
    // One figure at a time, so that no more means are held than there are draws of it.
    let [dice, hd95, nsd] = FIGURES.map(|figure| of_figure(cases, classes, figure, &drawn));
    let together = |place: usize| Intervals { dice: dice[place], hd95: hd95[place], nsd: nsd[place] };
    ((0..classes).map(together).collect(), together(classes))
}

/// How often each case is drawn.
fn draw(cases: usize, number: u64) -> Vec<u32> {
    let mut random = random::stream(0, "evaluate interval", number, 0);
    let mut times = vec![0; cases];
    for _ in 0..cases {
        // A 64-bit number times the count, its upper half: off by less than one in 2^64 / count.
        let case = (u128::from(random.next_u64()) * cases as u128) >> 64;
        times[case as usize] += 1;
    }
    times
}

/// The intervals of each class, and last that of their mean.
fn of_figure(
    cases: &[CaseFigures],
    classes: usize,
    figure: fn(&ClassFigures) -> f64,
    drawn: &[Vec<u32>],
) -> Vec<Interval> {
    let values: Vec<Vec<f64>> =
        (0..classes).map(|class| cases.iter().map(|case| figure(&case.classes[class].figures)).collect()).collect();
    let mut foreground: Vec<(f64, u32)> = vec![(0.0, 0); drawn.len()];
    let mut found = Vec::with_capacity(classes + 1);
    for values in &values {
        let means: Vec<f64> = drawn.par_iter().map(|times| weighted_mean(values, times)).collect();
        for ((sum, count), mean) in foreground.iter_mut().zip(&means).filter(|(_, mean)| !mean.is_nan()) {
            *sum += mean;
            *count += 1;
        }
        found.push(middle(means, values.iter().filter(|value| !value.is_nan()).count()));
    }
    let means = foreground.iter().map(|(sum, count)| sum / f64::from(*count)).collect();
    let with_value = (0..cases.len()).filter(|&case| values.iter().any(|values| !values[case].is_nan())).count();
    found.push(middle(means, with_value));
    found
}

/// Mean of what is not NaN, each as often as it was drawn; NaN of nothing.
fn weighted_mean(values: &[f64], times: &[u32]) -> f64 {
    let drawn = values.iter().zip(times).filter(|(value, _)| !value.is_nan());
    let (sum, count) =
        drawn.fold((0.0, 0u64), |(sum, n), (value, &times)| (sum + value * f64::from(times), n + u64::from(times)));
    sum / count as f64
}

/// The middle of the means that are defined, of which `cases` cases have a part.
fn middle(means: Vec<f64>, cases: usize) -> Interval {
    if cases < 2 {
        return Interval { low: f64::NAN, high: f64::NAN };
    }
    let defined: Vec<f64> = means.into_iter().filter(|mean| !mean.is_nan()).collect();
    let tail = (1.0 - LEVEL) / 2.0;
    Interval { low: percentile(defined.clone(), tail), high: percentile(defined, 1.0 - tail) }
}

#[cfg(test)]
mod tests {
    use super::super::ClassOfCase;
    use super::*;

    fn cases(dice: &[&[f64]]) -> Vec<CaseFigures> {
        let case = |(number, dice): (usize, &&[f64])| CaseFigures {
            case: number.to_string(),
            classes: (1..)
                .zip(*dice)
                .map(|(class, &dice)| ClassOfCase { class, figures: ClassFigures { dice, ..ClassFigures::absent() } })
                .collect(),
        };
        dice.iter().enumerate().map(case).collect()
    }

    const NAN: f64 = f64::NAN;

    // scipy 1.17.1: r = scipy.stats.bootstrap((values,), numpy.mean, confidence_level=0.95, n_resamples=1_000_000,
    //   method="percentile", batch=10_000, rng=0).confidence_interval
    #[test]
    fn intervals_are_those_of_scipy() {
        for (values, [low, high]) in RECORDED {
            let rows: Vec<[f64; 1]> = values.iter().map(|value| [*value]).collect();
            let rows: Vec<&[f64]> = rows.iter().map(|row| &row[..]).collect();
            let (classes, foreground) = intervals(&cases(&rows), 1);
            let Interval { low: found_low, high: found_high } = classes[0].dice;
            // Both draw at random: the standard error of a 2.5 % quantile of 10,000 means is about 0.027 of their
            // deviation, which is about a quarter of the interval's length.
            let near = |a: f64, b: f64| (a - b).abs() < 0.03 * (high - low);
            assert!(near(found_low, *low) && near(found_high, *high), "{found_low} {found_high}, {low} {high}");
            assert_eq!(foreground.dice, classes[0].dice);
        }
    }

    const RECORDED: &[(&[f64], [f64; 2])] = &[
        (&[0.91, 0.88, 0.95, 0.79, 0.93, 0.42, 0.9, 0.86, 0.94, 0.89], [0.7429999999999999, 0.9149999999999998]),
        (&[0.5, 0.7, 0.9], [0.5, 0.9]),
        (
            &[1.2, 3.4, 2.2, 18.5, 2.9, 4.1, 2.0, 1.0, 7.7, 2.5, 3.1, 2.8, 1.9, 2.4, 40.0, 2.2, 3.3, 1.7, 2.6, 2.1],
            [2.4550000000000005, 9.845],
        ),
    ];

    // Two classes, one of them not in every case: numpy, cases drawn with numpy.random.default_rng(0).integers(0, 6, (1_000_000, 6)),
    //   numpy.nanpercentile(numpy.nanmean(numpy.nanmean(values[drawn], 1), 1), [2.5, 97.5])
    #[test]
    fn whole_cases_are_drawn_and_what_is_not_defined_is_left_out() {
        let values: [&[f64]; 6] = [&[0.9, 0.5], &[0.8, NAN], &[0.95, 0.7], &[0.4, 0.2], &[0.85, NAN], &[0.7, 0.9]];
        let (classes, foreground) = intervals(&cases(&values), 2);
        let [low, high] = TOGETHER;
        let near = |a: f64, b: f64| (a - b).abs() < 0.03 * (high - low);
        assert!(near(foreground.dice.low, low) && near(foreground.dice.high, high), "{foreground:?}");
        assert!(classes[1].dice.high <= 0.9 && classes[1].dice.low >= 0.2);
        assert!(classes[0].hd95.low.is_nan(), "nobody has one");
        // The same whenever it is asked.
        assert_eq!(intervals(&cases(&values), 2).1.dice, foreground.dice);
    }

    const TOGETHER: [f64; 2] = [0.475, 0.8166666666666667];

    #[test]
    fn one_case_has_no_interval() {
        let (classes, foreground) = intervals(&cases(&[&[0.5], &[NAN]]), 1);
        assert!(classes[0].dice.low.is_nan() && classes[0].dice.high.is_nan() && foreground.dice.low.is_nan());
        let (classes, foreground) = intervals(&[], 0);
        assert!(classes.is_empty() && foreground.nsd.high.is_nan());
    }
}
