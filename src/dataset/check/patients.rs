//! Whether several cases are one patient's, and whether that was said.
use std::collections::{BTreeMap, BTreeSet};

use super::Severity;
use crate::dataset::split::{Patients, compile_group};
use crate::dataset::{Dataset, DatasetError, layout};

/// How ids are written where a patient has several cases: what is before is the patient. None of them has a character
/// that TOML would want escaped.
const SUSPECT: [&str; 3] = [
    "^(.+?)[-_](?i:ses|visit|scan|time|tp|v|t)[-_]?[0-9]+([-_].*)?$",
    "^(.+)[-_](?i:pre|post|baseline|before|after|followup|follow-up|fu|left|right)$",
    "^(.+)[-_][0-9]+$",
];
/// More cases than this under one name are a hospital's or a study's, not a patient's.
const MOST: usize = 10;
/// Names in a sentence.
const NAMED: usize = 3;

pub(super) fn look(dataset: &Dataset, complete: bool, group: &str) -> Vec<(Severity, DatasetError)> {
    let file = dataset.root.join(layout::DESCRIPTION);
    let warning = |field: &str, problem: String, cure: String| {
        vec![(Severity::Warning, DatasetError::invalid(&file, field, problem, cure))]
    };
    let Some(Patients { from, unmatched, .. }) = Patients::of(dataset, group) else {
        let Some((group, example, groups)) = suspected(dataset) else { return Vec::new() };
        let more = if groups > 1 { format!(", and {} more such groups", groups - 1) } else { String::new() };
        let problem = format!("{} look like one patient's{more}", listed(&example));
        let cure = format!("if they are, write `group = \"{group}\"` under [data], so that they are held out together");
        return warning("patients", problem, cure);
    };
    let mut found = Vec::new();
    if !unmatched.is_empty() {
        let problem = format!("{from} names no patient of {}", listed(&unmatched));
        let cure = "name one, or leave it so: each is then a patient by itself";
        found.extend(warning("patients", problem, cure.into()));
    }
    if complete && from != "data.group" {
        let ids: BTreeSet<&str> = dataset.cases.iter().map(|case| case.id.as_str()).collect();
        let unknown: Vec<String> = dataset.groups.keys().filter(|id| !ids.contains(id.as_str())).cloned().collect();
        if !unknown.is_empty() {
            let problem = format!("names {}, which the dataset has not", listed(&unknown));
            found.extend(warning("groups", problem, "write the ids as they are: file names without ending".into()));
        }
    }
    found
}

/// The first of the expressions by which several cases are one patient's, an example and the number of such patients.
fn suspected(dataset: &Dataset) -> Option<(&'static str, Vec<String>, usize)> {
    SUSPECT.into_iter().find_map(|group| {
        let expression = compile_group(group)?;
        let mut patients: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for case in &dataset.cases {
            let name = expression
                .captures(&case.id)
                .and_then(|found| found.get(1))
                .map_or(case.id.as_str(), |name| name.as_str());
            patients.entry(name).or_default().push(case.id.clone());
        }
        let several = patients.values().filter(|cases| cases.len() > 1).count();
        let plausible = patients.len() > 1 && patients.values().all(|cases| cases.len() <= MOST);
        let example = patients.into_values().find(|cases| cases.len() > 1)?;
        plausible.then_some((group, example, several))
    })
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>();
    match (more, shown.split_last()) {
        (0, Some((last, rest))) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        (0, _) => shown.concat(),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}
