//! Keeping the largest connected part only, where validation showed that it helps: nnU-Net's rule.
//!
//! First of all foreground together, then of each class in turn. Whether to do it is decided over held-out cases, from the
//! Dice that each choice gives; what is done to a new case is [`Rule::apply`].
mod counts;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use counts::{CaseDice, ClassDice, case_dice, region_case_dice};

use super::PredictError;
use crate::files::read_at_most;
use crate::volume::components::{self, RowsMut};
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

/// A choice, and the mean Dice without and with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The class; `None` of all foreground.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<u16>,
    /// Mean Dice over held-out cases without it; none where nothing is defined.
    pub before: Option<f64>,
    /// The same with it.
    pub after: Option<f64>,
    /// Whether it is done to new cases.
    pub chosen: bool,
    /// Of all foreground: the classes that would lose by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worse: Vec<u16>,
}

/// What to do with new cases, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What is done to new cases.
    pub rule: Rule,
    /// Whether the largest part of all foreground is kept.
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
    /// From the cases below, by [`decide`].
    pub decision: Decision,
    /// In the order of validation.
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
    /// What is done; nothing where it is empty.
    #[serde(flatten)]
    pub rule: Rule,
    /// A sentence.
    pub because: String,
}

impl Postprocessing {
    /// Label maps stay as they are, for this reason.
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
