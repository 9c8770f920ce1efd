//! Figures of many cases, and their means.
use std::collections::BTreeSet;

use ndarray::ArrayView3;
use serde::{Deserialize, Serialize};

use super::extent::Extent;
use super::interval::{Intervals, intervals};
use super::{ClassFigures, figures_within};

/// A foreground class: its label value and what the dataset calls it (empty where nobody said).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelClass {
    /// Label value, from 1; of regions their number.
    pub class: u16,
    /// As the dataset calls it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

impl LabelClass {
    /// The name, or the value where there is none.
    pub fn title(&self) -> String {
        if self.name.is_empty() { self.class.to_string() } else { format!("{} {}", self.class, self.name) }
    }
}

/// One case: a figure for every class of the summary, in the same order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseFigures {
    /// The case's id.
    pub case: String,
    /// By label value, as in [`Summary::classes`].
    pub classes: Vec<ClassOfCase>,
}

/// One class of one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassOfCase {
    /// Label value.
    pub class: u16,
    /// Dice, distances and volumes of it.
    #[serde(flatten)]
    pub figures: ClassFigures,
}

/// Means over what is defined; NaN (null in JSON) where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Means {
    /// 0 to 1.
    #[serde(with = "super::null")]
    pub dice: f64,
    /// mm.
    #[serde(with = "super::null")]
    pub hd95: f64,
    /// 0 to 1.
    #[serde(with = "super::null")]
    pub nsd: f64,
}

/// One class over all cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMeans {
    /// Which class it is.
    #[serde(flatten)]
    pub class: LabelClass,
    /// Over the cases where each is defined.
    pub mean: Means,
    /// Of the mean; see [`Summary::with_intervals`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Intervals>,
    /// Cases that have the class in the label or in the prediction; the others are in no mean.
    pub cases: usize,
    /// Cases that have the class in one of the two alone: Dice and NSD are 0, HD95 is not defined and not in its mean.
    pub hd95_undefined: usize,
}

/// All cases, and their means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// NSD's, in mm.
    pub tolerance_mm: f64,
    /// Mean over classes of [`ClassMeans::mean`], classes without a defined value left out: nnU-Net's
    /// `foreground_mean` (first over the cases of a class, then over classes).
    pub foreground_mean: Means,
    /// Of that mean; see [`Summary::with_intervals`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreground_interval: Option<Intervals>,
    /// Sum over classes of [`ClassMeans::hd95_undefined`].
    pub hd95_undefined: usize,
    /// The case of the lowest mean Dice over its defined classes (the first by name of equals).
    pub worst_case: Option<String>,
    /// By label value.
    pub classes: Vec<ClassMeans>,
    /// By name.
    pub cases: Vec<CaseFigures>,
    /// Labels that no prediction was given for.
    #[serde(default)]
    pub without_prediction: Vec<String>,
}

/// Figures of every class that occurs in either map (`[z, y, x]`), and of every class in `classes`; `spacing` in mm,
/// z, y, x; `tolerance` in mm. Voxels where `label` is `ignore` are left out.
///
/// # Panics
/// Where the two maps differ in size; compare the grids first.
pub fn case_figures(
    case: &str,
    prediction: ArrayView3<'_, u16>,
    label: ArrayView3<'_, u16>,
    classes: &[u16],
    ignore: Option<u16>,
    spacing: [f64; 3],
    tolerance: f64,
) -> CaseFigures {
    let extents = Extent::of_all(prediction, label, ignore);
    let wanted: BTreeSet<u16> = extents.keys().chain(classes).copied().collect();
    let classes = wanted
        .into_iter()
        .filter(|&class| class != 0 && Some(class) != ignore)
        .map(|class| ClassOfCase {
            class,
            figures: match extents.get(&class) {
                Some(extent) => figures_within(prediction, label, class, ignore, extent, spacing, tolerance),
                None => ClassFigures::absent(),
            },
        })
        .collect();
    CaseFigures { case: case.to_owned(), classes }
}

impl ClassFigures {
    /// Of a class that is in neither map.
    pub fn absent() -> Self {
        Self {
            dice: f64::NAN,
            hd95: f64::NAN,
            nsd: f64::NAN,
            volume_prediction: 0.0,
            volume_label: 0.0,
            components_prediction: 0,
            components_label: 0,
        }
    }
}

impl CaseFigures {
    /// Mean Dice over the classes where it is defined; NaN where it is in none.
    pub fn mean_dice(&self) -> f64 {
        mean(self.classes.iter().map(|class| class.figures.dice))
    }
}

impl Summary {
    /// Puts cases together. `classes` gives names, and classes to list though no case has them; a class that only a
    /// case has is added without a name. Every case is given every class, and cases are put in order of name.
    pub fn new(mut cases: Vec<CaseFigures>, classes: &[LabelClass], tolerance_mm: f64) -> Self {
        cases.sort_by(|a, b| a.case.cmp(&b.case));
        let values: BTreeSet<u16> = (cases.iter().flat_map(|case| case.classes.iter().map(|class| class.class)))
            .chain(classes.iter().map(|class| class.class))
            .filter(|&class| class != 0)
            .collect();
        for case in &mut cases {
            let found = std::mem::take(&mut case.classes);
            case.classes = values
                .iter()
                .map(|&class| match found.iter().find(|found| found.class == class) {
                    Some(found) => found.clone(),
                    None => ClassOfCase { class, figures: ClassFigures::absent() },
                })
                .collect();
        }
        let classes: Vec<ClassMeans> = values
            .iter()
            .enumerate()
            .map(|(place, &class)| {
                let name = classes.iter().find(|named| named.class == class).map(|named| named.name.clone());
                let figures = || cases.iter().map(move |case| &case.classes[place].figures);
                ClassMeans {
                    class: LabelClass { class, name: name.unwrap_or_default() },
                    mean: Means {
                        dice: mean(figures().map(|figures| figures.dice)),
                        hd95: mean(figures().map(|figures| figures.hd95)),
                        nsd: mean(figures().map(|figures| figures.nsd)),
                    },
                    interval: None,
                    cases: figures().filter(|figures| !figures.dice.is_nan()).count(),
                    hd95_undefined: figures().filter(|figures| figures.hd95.is_nan() && !figures.dice.is_nan()).count(),
                }
            })
            .collect();
        let over_classes = |of: fn(&Means) -> f64| mean(classes.iter().map(|class| of(&class.mean)));
        let worst = cases
            .iter()
            .filter(|case| !case.mean_dice().is_nan())
            .min_by(|a, b| a.mean_dice().total_cmp(&b.mean_dice()));
        Self {
            tolerance_mm,
            foreground_mean: Means {
                dice: over_classes(|means| means.dice),
                hd95: over_classes(|means| means.hd95),
                nsd: over_classes(|means| means.nsd),
            },
            foreground_interval: None,
            hd95_undefined: classes.iter().map(|class| class.hd95_undefined).sum(),
            worst_case: worst.map(|case| case.case.clone()),
            classes,
            cases,
            without_prediction: Vec::new(),
        }
    }

    /// Adds the intervals of the means over cases: [`super::LEVEL`] of the means of as many cases drawn from them.
    pub fn with_intervals(mut self) -> Self {
        let (classes, foreground) = intervals(&self.cases, self.classes.len());
        for (class, interval) in self.classes.iter_mut().zip(classes) {
            class.interval = Some(interval);
        }
        self.foreground_interval = Some(foreground);
        self
    }

    /// Cases from the lowest mean Dice up, those without any last, equals by name.
    pub fn worst_first(&self) -> Vec<&CaseFigures> {
        let mut cases: Vec<(&CaseFigures, f64)> = self.cases.iter().map(|case| (case, case.mean_dice())).collect();
        // NaN, which mean() gives with a sign that nobody promised, is put behind all numbers.
        cases.sort_by(|(_, a), (_, b)| a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(b)));
        cases.into_iter().map(|(case, _)| case).collect()
    }

    /// JSON, indented; what is not defined is null.
    ///
    /// # Errors
    /// None that is known; the type is serde's.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Mean of what is not NaN, in the order given; NaN of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) =
        values.filter(|value| !value.is_nan()).fold((0.0, 0_usize), |(sum, n), value| (sum + value, n + 1));
    if count == 0 { f64::NAN } else { sum / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, dice: &[(u16, f64, f64)]) -> CaseFigures {
        let classes = dice.iter().map(|&(class, dice, hd95)| {
            let figures = ClassFigures { dice, hd95, nsd: dice, ..ClassFigures::absent() };
            ClassOfCase { class, figures }
        });
        CaseFigures { case: name.to_owned(), classes: classes.collect() }
    }

    #[test]
    fn means_leave_out_what_is_not_defined() {
        let nan = f64::NAN;
        let cases = vec![
            case("b", &[(1, 0.5, 3.0), (2, 0.0, nan)]),
            case("a", &[(1, 0.9, 1.0), (2, nan, nan)]),
            case("c", &[(1, 0.7, 2.0)]),
        ];
        let names = [LabelClass { class: 1, name: "liver".into() }, LabelClass { class: 3, name: "never".into() }];
        let summary = Summary::new(cases, &names, 1.0);
        assert_eq!(summary.cases.iter().map(|case| case.case.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(
            summary.classes.iter().map(|class| class.class.title()).collect::<Vec<_>>(),
            ["1 liver", "2", "3 never"]
        );
        assert!((summary.classes[0].mean.dice - 0.7).abs() < 1e-15);
        assert_eq!(
            (summary.classes[1].mean.dice, summary.classes[1].cases, summary.classes[1].hd95_undefined),
            (0.0, 1, 1)
        );
        assert!(summary.classes[1].mean.hd95.is_nan() && summary.classes[2].mean.dice.is_nan());
        // over classes 1 and 2; HD95 over class 1 alone
        assert!((summary.foreground_mean.dice - 0.35).abs() < 1e-15);
        assert_eq!((summary.foreground_mean.hd95, summary.hd95_undefined), (2.0, 1));
        assert_eq!(summary.worst_case.as_deref(), Some("b"));
    }

    #[test]
    fn the_worst_comes_first_and_what_has_no_figure_last() {
        let nan = f64::NAN;
        let cases = vec![
            case("a", &[(1, 0.9, nan)]),
            case("b", &[(1, nan, nan)]),
            case("c", &[(1, 0.5, nan), (2, 0.5, nan)]),
            case("d", &[(1, 0.5, nan)]),
            case("e", &[(1, 1.0, nan), (2, -nan, nan), (3, -0.5, nan)]),
        ];
        let summary = Summary::new(cases, &[], 1.0);
        let order: Vec<&str> = summary.worst_first().iter().map(|case| case.case.as_str()).collect();
        assert_eq!(order, ["e", "c", "d", "a", "b"]);
        assert_eq!(summary.worst_case.as_deref(), Some("e"));
    }

    #[test]
    fn json_has_null_for_nan_and_reads_back() {
        let summary = Summary::new(vec![case("a", &[(1, 0.25, f64::NAN)])], &[], 1.0);
        let json = summary.to_json().unwrap();
        assert!(json.contains("\"hd95\": null"), "{json}");
        let back: Summary = serde_json::from_str(&json).unwrap();
        assert_eq!(back.cases[0].classes[0].figures.dice, 0.25);
        assert!(back.cases[0].classes[0].figures.hd95.is_nan());
    }
}
