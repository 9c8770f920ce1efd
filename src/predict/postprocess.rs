//! Keeping the largest connected part only, where validation showed that it helps: nnU-Net's rule.
//!
//! First of all foreground together, then of each class in turn. Whether to do it is decided over held-out cases, from the
//! Dice that each choice gives; what is done to a new case is [`Rule::apply`].
use std::io;
use std::path::Path;

use ndarray::{Array3, ArrayView3};
use serde::{Deserialize, Serialize};

use super::PredictError;
use crate::dataset::Region;
use crate::evaluate::region_figures;
use crate::files::read_at_most;
use crate::volume::components::{self, Parts, RowsMut};
use crate::volume::planes::Storage;

/// In a run folder: what was found at its end.
pub const FILE: &str = "validation/postprocessing.json";

/// Bytes of such a file; ten thousand cases of fifty classes take less.
const MAX_FILE: u64 = 128 << 20;

/// What is kept of a label map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Of all foreground, taken as one, the largest part.
    pub foreground: bool,
    /// After that, of these classes the largest part of each.
    pub classes: Vec<u16>,
}

impl Rule {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        !self.foreground && self.classes.is_empty()
    }

    /// Makes background of what is not kept. Parts of equal size are all kept.
    ///
    /// # Errors
    /// Those of the map and of the storage.
    pub fn apply(&self, labels: &mut impl RowsMut, storage: &Storage) -> io::Result<()> {
        if self.foreground {
            components::keep_largest(labels, foreground, storage)?;
        }
        if !self.classes.is_empty() {
            let chosen = |label| if self.classes.contains(&label) { label } else { 0 };
            components::keep_largest(labels, chosen, storage)?;
        }
        Ok(())
    }
}

fn foreground(label: u16) -> u16 {
    u16::from(label > 0)
}

/// Dice of one class of one held-out case, `None` where the class is neither in the prediction nor in the label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassDice {
    pub class: u16,
    /// As predicted.
    pub plain: Option<f64>,
    /// With the largest part of the class only.
    pub largest: Option<f64>,
    /// With the largest part of all foreground only.
    pub foreground: Option<f64>,
    /// With that, and of what it leaves the largest part of the class only.
    pub foreground_largest: Option<f64>,
}

/// One held-out case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseDice {
    pub case: String,
    pub classes: Vec<ClassDice>,
}

/// Takes the Dice of every class `1..classes` of a case under every choice; voxels where `truth` is `ignore` are left out.
/// `prediction` is changed.
///
/// # Errors
/// Those of the storage.
///
/// # Panics
/// Where the two maps differ in size; compare the grids first.
pub fn case_dice(
    case: &str,
    prediction: &mut Array3<u16>,
    truth: ArrayView3<'_, u16>,
    classes: usize,
    ignore: Option<u16>,
    storage: &Storage,
) -> io::Result<CaseDice> {
    assert_eq!(prediction.dim(), truth.dim(), "prediction and label differ in size");
    let mut labelled = vec![0u64; classes];
    for &label in truth.iter().filter(|label| Some(**label) != ignore) {
        labelled.get_mut(usize::from(label)).into_iter().for_each(|count| *count += 1);
    }
    let [plain, largest] = counts(prediction, truth, classes, ignore, storage)?;
    components::keep_largest(prediction, foreground, storage)?;
    let [foreground, foreground_largest] = counts(prediction, truth, classes, ignore, storage)?;
    let dice = |found: &[Count], class: usize| {
        let total = found[class].predicted + labelled[class];
        (total > 0).then(|| 2.0 * found[class].both as f64 / total as f64)
    };
    let classes = (1..classes).map(|class| ClassDice {
        class: class as u16,
        plain: dice(&plain, class),
        largest: dice(&largest, class),
        foreground: dice(&foreground, class),
        foreground_largest: dice(&foreground_largest, class),
    });
    Ok(CaseDice { case: case.to_owned(), classes: classes.collect() })
}

/// The same of regions, by their number from 1. Of a single region no part is taken away, for others may be painted over
/// it: there is the choice about all foreground alone.
///
/// # Errors
/// Those of the storage.
pub fn region_case_dice(
    case: &str,
    prediction: &mut Array3<u16>,
    truth: ArrayView3<'_, u16>,
    regions: &[Region],
    ignore: Option<u16>,
    storage: &Storage,
) -> io::Result<CaseDice> {
    let dice = |prediction: &Array3<u16>| -> Vec<Option<f64>> {
        let figures = region_figures(case, prediction.view(), truth, regions, ignore, [1.0; 3], None);
        figures.classes.iter().map(|class| Some(class.figures.dice).filter(|dice| dice.is_finite())).collect()
    };
    let plain = dice(prediction);
    components::keep_largest(prediction, foreground, storage)?;
    let classes = (1..=u16::MAX).zip(plain.into_iter().zip(dice(prediction))).map(|(class, (plain, foreground))| {
        ClassDice { class, plain, largest: plain, foreground, foreground_largest: foreground }
    });
    Ok(CaseDice { case: case.to_owned(), classes: classes.collect() })
}

/// Voxels of a class in the prediction, and in label and prediction both.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    predicted: u64,
    both: u64,
}

/// By class: of all voxels, and of those of the largest part.
fn counts(
    prediction: &mut Array3<u16>,
    truth: ArrayView3<'_, u16>,
    classes: usize,
    ignore: Option<u16>,
    storage: &Storage,
) -> io::Result<[Vec<Count>; 2]> {
    let [mut all, mut largest] = [(); 2].map(|()| vec![Count::default(); classes]);
    let mut parts = Parts::find(prediction, |label| label, storage)?;
    parts.visit(
        prediction,
        |label| label,
        |_, z, y, runs| {
            for (run, is_largest) in runs {
                let class = usize::from(run.key);
                if class >= classes {
                    continue;
                }
                for x in run.x() {
                    let truth = truth[[z, y, x]];
                    if Some(truth) == ignore {
                        continue;
                    }
                    let one = |count: &mut Count| {
                        count.predicted += 1;
                        count.both += u64::from(truth == run.key);
                    };
                    one(&mut all[class]);
                    if *is_largest {
                        one(&mut largest[class]);
                    }
                }
            }
            Ok(())
        },
    )?;
    Ok([all, largest])
}

/// A choice, and the mean Dice without and with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The class; `None` of all foreground.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<u16>,
    pub before: Option<f64>,
    pub after: Option<f64>,
    pub chosen: bool,
    /// Of all foreground: the classes that would lose by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worse: Vec<u16>,
}

/// What to do with new cases, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub rule: Rule,
    pub foreground: Choice,
    /// Each beside what the choice about all foreground leaves; of a single class there is nothing to choose any more.
    pub classes: Vec<Choice>,
}

/// Decides as nnU-Net does: the largest part of all foreground where the mean over classes of the mean Dice over cases
/// rises and that of no class falls; then of each class where its mean rises.
pub fn decide(cases: &[CaseDice]) -> Decision {
    let mut values: Vec<u16> = cases.iter().flat_map(|case| case.classes.iter().map(|class| class.class)).collect();
    values.sort_unstable();
    values.dedup();
    let of_class = |class: u16, of: fn(&ClassDice) -> Option<f64>| {
        mean(cases.iter().flat_map(|case| case.classes.iter().filter(|found| found.class == class)).map(of))
    };
    let over = |of: fn(&ClassDice) -> Option<f64>| mean(values.iter().map(|class| of_class(*class, of)));
    let (before, after) = (over(|dice| dice.plain), over(|dice| dice.foreground));
    let lower = |class: &u16| falls(of_class(*class, |dice| dice.plain), of_class(*class, |dice| dice.foreground));
    let worse: Vec<u16> = values.iter().copied().filter(lower).collect();
    let chosen = rises(before, after) && worse.is_empty();
    let foreground = Choice { class: None, before, after, chosen, worse };
    let classes: Vec<Choice> = match values.len() {
        // Of one class all foreground is the class.
        0 | 1 => Vec::new(),
        _ => values
            .iter()
            .map(|&class| {
                let (before, after) = match foreground.chosen {
                    true => (of_class(class, |dice| dice.foreground), of_class(class, |dice| dice.foreground_largest)),
                    false => (of_class(class, |dice| dice.plain), of_class(class, |dice| dice.largest)),
                };
                Choice { class: Some(class), before, after, chosen: rises(before, after), worse: Vec::new() }
            })
            .collect(),
    };
    let chosen = classes.iter().filter(|choice| choice.chosen).filter_map(|choice| choice.class).collect();
    Decision { rule: Rule { foreground: foreground.chosen, classes: chosen }, foreground, classes }
}

fn rises(before: Option<f64>, after: Option<f64>) -> bool {
    matches!((before, after), (Some(before), Some(after)) if after > before)
}

fn falls(before: Option<f64>, after: Option<f64>) -> bool {
    matches!((before, after), (Some(before), Some(after)) if after < before)
}

fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, count) = values.flatten().fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// [`FILE`]: what a run found on the cases that it held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Neighbours of a voxel: across faces, edges and corners.
    pub neighbours: u8,
    /// The cases were trained on: nothing is concluded from them.
    pub on_training_cases: bool,
    pub decision: Decision,
    pub cases: Vec<CaseDice>,
}

impl Findings {
    /// Of a run's held-out cases.
    pub fn new(cases: Vec<CaseDice>, on_training_cases: bool) -> Self {
        let mut decision = decide(&cases);
        if on_training_cases {
            decision.rule = Rule::default();
        }
        Self { neighbours: 26, on_training_cases, decision, cases }
    }

    /// What it means for predictions, for a person; `None` where they stay as they are. `names` are those of the classes
    /// by label value.
    pub fn sentence(&self, names: &[String]) -> Option<String> {
        let Rule { foreground, classes } = &self.decision.rule;
        let named = classes.iter().map(|class| match names.get(usize::from(*class)) {
            Some(name) => name.clone(),
            None => class.to_string(),
        });
        let kept: Vec<String> =
            foreground.then(|| "all foreground together".to_owned()).into_iter().chain(named).collect();
        let kept = kept.join(", ");
        (!kept.is_empty()).then(|| format!("keeping only the largest part raises Dice: predict will, of {kept}"))
    }
}

/// What is done to the label maps of a prediction, and the reason, as in `predict.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postprocessing {
    #[serde(flatten)]
    pub rule: Rule,
    pub because: String,
}

impl Postprocessing {
    pub fn none(because: impl Into<String>) -> Self {
        Self { rule: Rule::default(), because: because.into() }
    }
}

/// Decides over the held-out cases of all of a run's folds together.
///
/// # Errors
/// A file that is damaged.
pub fn of_run(folders: &[impl AsRef<Path>]) -> Result<Postprocessing, PredictError> {
    let mut cases = Vec::new();
    for folder in folders {
        let Some(findings) = read(&folder.as_ref().join(FILE))? else {
            return Ok(Postprocessing::none("the run has no postprocessing.json: it validated nothing, or is older"));
        };
        if findings.on_training_cases {
            return Ok(Postprocessing::none("validation was on training cases, which shows nothing"));
        }
        cases.extend(findings.cases);
    }
    let rule = decide(&cases).rule;
    let found = if rule.is_empty() { "no choice raised" } else { "it raised" };
    Ok(Postprocessing { rule, because: format!("{found} the mean Dice of {} held-out case(s)", cases.len()) })
}

fn read(path: &Path) -> Result<Option<Findings>, PredictError> {
    let damaged = |problem: String| PredictError::Input {
        path: path.to_owned(),
        problem,
        cure: "restore the file, or predict with --no-postprocessing".to_owned(),
    };
    let bytes = match read_at_most(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(error.to_string())),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(classes: &[[f64; 4]]) -> CaseDice {
        let classes = (1..).zip(classes).map(|(class, dice)| {
            let [plain, largest, foreground, foreground_largest] = dice.map(|dice| dice.is_finite().then_some(dice));
            ClassDice { class, plain, largest, foreground, foreground_largest }
        });
        CaseDice { case: "a".into(), classes: classes.collect() }
    }

    fn rule(cases: &[CaseDice]) -> (bool, Vec<u16>) {
        let Rule { foreground, classes } = decide(cases).rule;
        (foreground, classes)
    }

    #[test]
    fn what_is_chosen_raises_the_mean_and_lowers_no_class() {
        // All foreground: class 1 gains, class 2 stays; then class 2 alone gains of what is left, class 1 loses.
        assert_eq!(rule(&[case(&[[0.5, 0.6, 0.7, 0.6], [0.8, 0.9, 0.8, 0.85]])]), (true, vec![2]));
        // The mean rises, but class 2 falls: classes are looked at as predicted.
        assert_eq!(rule(&[case(&[[0.5, 0.6, 0.9, 0.9], [0.8, 0.8, 0.79, 0.9]])]), (false, vec![1]));
        // It is the mean over cases that counts.
        let cases = [case(&[[0.5, 0.9, 0.5, 0.5], [0.8; 4]]), case(&[[0.9, 0.4, 0.9, 0.9], [0.8; 4]])];
        assert_eq!(rule(&cases), (false, vec![]));
        // The same is not better.
        assert_eq!(rule(&[case(&[[0.5; 4], [0.6; 4]])]), (false, vec![]));
        // What is not defined is in no mean: class 2 is nowhere once its stray part is gone.
        let nan = f64::NAN;
        assert_eq!(rule(&[case(&[[0.5, 0.5, 0.6, 0.6], [0.0, 0.0, nan, nan]])]), (true, vec![]));
        // Of one class, all foreground is the class.
        assert_eq!(rule(&[case(&[[0.5, 0.6, 0.6, 0.6]])]), (true, vec![]));
        assert_eq!(rule(&[]), (false, vec![]));
        assert!(Findings::new(vec![case(&[[0.5, 0.6, 0.6, 0.6]])], true).decision.rule.is_empty());
    }

    /// Two classes in a row of voxels, counted by hand.
    #[test]
    fn a_case_is_counted_under_every_choice() {
        let row = |labels: &[u16]| Array3::from_shape_vec((1, 1, labels.len()), labels.to_vec()).unwrap();
        //                          the largest of all is the middle; 9 is ignored
        let mut prediction = row(&[1, 0, 1, 1, 2, 1, 2, 2, 0, 2, 2, 2, 0, 1]);
        let truth = row(&[0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 9, 0, 9]);
        let found = case_dice("a", &mut prediction, truth.view(), 3, Some(9), &Storage::unbounded()).unwrap();
        assert_eq!(prediction, row(&[0, 0, 1, 1, 2, 1, 2, 2, 0, 0, 0, 0, 0, 0]));
        let some = |a: u32, b: u32| Some(f64::from(a) / f64::from(b));
        // Class 1: 2 of 3 voxels found; 4 predicted, of its largest part 2, with the foreground's largest 3.
        let [one, two] = &found.classes[..] else { panic!("{found:?}") };
        let of = |dice: &ClassDice| [dice.plain, dice.largest, dice.foreground, dice.foreground_largest];
        assert_eq!(of(one), [some(4, 7), some(4, 5), some(4, 6), some(4, 5)]);
        // Class 2: its largest part is the stray one, of which two voxels count.
        assert_eq!(of(two), [some(4, 8), some(0, 5), some(4, 6), some(4, 5)]);
    }

    #[test]
    fn a_rule_is_applied_in_its_order() {
        let row = |labels: &[u16]| Array3::from_shape_vec((1, 1, labels.len()), labels.to_vec()).unwrap();
        let map = row(&[1, 1, 1, 0, 1, 2, 1, 1, 0, 2, 2]);
        let applied = |foreground, classes: &[u16]| {
            let mut map = map.clone();
            Rule { foreground, classes: classes.to_vec() }.apply(&mut map, &Storage::unbounded()).unwrap();
            map.into_raw_vec_and_offset().0
        };
        assert_eq!(applied(false, &[]), map.as_slice().unwrap());
        assert_eq!(applied(true, &[]), [0, 0, 0, 0, 1, 2, 1, 1, 0, 0, 0]);
        assert_eq!(applied(false, &[1]), [1, 1, 1, 0, 0, 2, 0, 0, 0, 2, 2]);
        assert_eq!(applied(true, &[1, 2]), [0, 0, 0, 0, 0, 2, 1, 1, 0, 0, 0]);
        assert_eq!(applied(false, &[2]), [1, 1, 1, 0, 1, 0, 1, 1, 0, 2, 2]);
        // Equals stay.
        let mut equals = row(&[1, 0, 1, 0, 1]);
        Rule { foreground: true, classes: vec![1] }.apply(&mut equals, &Storage::unbounded()).unwrap();
        assert_eq!(equals, row(&[1, 0, 1, 0, 1]));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(of_run(&[folder.path()]).unwrap().rule.is_empty());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let cases = vec![case(&[[0.5, 0.6, 0.7, 0.6], [0.8, 0.9, 0.8, 0.85]])];
        std::fs::write(&path, serde_json::to_vec(&Findings::new(cases, false)).unwrap()).unwrap();
        assert_eq!(of_run(&[folder.path()]).unwrap().rule, Rule { foreground: true, classes: vec![2] });
        // Two folds decide together; one alone would have chosen otherwise.
        let other = tempfile::tempdir().unwrap();
        std::fs::create_dir(other.path().join("validation")).unwrap();
        let cases = vec![case(&[[0.9, 0.9, 0.6, 0.6], [0.8, 0.6, 0.8, 0.8]])];
        std::fs::write(other.path().join(FILE), serde_json::to_vec(&Findings::new(cases, false)).unwrap()).unwrap();
        assert_eq!(of_run(&[folder.path(), other.path()]).unwrap().rule, Rule { foreground: false, classes: vec![1] });
        std::fs::write(&path, b"{\"neighbours\": 26").unwrap();
        let said = of_run(&[folder.path()]).unwrap_err().to_string();
        assert!(said.contains("postprocessing.json") && said.contains("--no-postprocessing"), "{said}");
    }
}
