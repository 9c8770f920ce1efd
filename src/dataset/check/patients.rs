//! Whether several cases are one patient's, and whether that was said.
use std::collections::{BTreeMap, BTreeSet};

use super::{Asked, Severity};
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

pub(super) fn look(dataset: &Dataset, complete: bool, asked: &Asked) -> Vec<(Severity, DatasetError)> {
    let patients = Patients::of(dataset, &asked.group);
    let mut found = held_out(dataset, complete, asked, patients.as_ref());
    let mut warn = |field: &str, problem: String, cure: String| {
        let file = dataset.root.join(layout::DESCRIPTION);
        found.push((Severity::Warning, DatasetError::invalid(file, field, problem, cure)));
    };
    let Some(Patients { from, unmatched, .. }) = patients else {
        if let Some((group, example, groups)) = suspected(dataset) {
            let more = if groups > 1 { format!(", and {} more such groups", groups - 1) } else { String::new() };
            let problem = format!("{} look like one patient's{more}", listed(&example));
            let cure =
                format!("if they are, write `group = \"{group}\"` under [data], so that they are held out together");
            warn("patients", problem, cure);
        }
        return found;
    };
    if !unmatched.is_empty() {
        let problem = format!("{from} names no patient of {}", listed(&unmatched));
        warn("patients", problem, "name one, or leave it so: each is then a patient by itself".into());
    }
    if complete && from != "data.group" {
        let ids: BTreeSet<&str> = dataset.cases.iter().map(|case| case.id.as_str()).collect();
        let unknown: Vec<String> = dataset.groups.keys().filter(|id| !ids.contains(id.as_str())).cloned().collect();
        if !unknown.is_empty() {
            let problem = format!("names {}, which the dataset has not", listed(&unknown));
            warn("groups", problem, "write the ids as they are: file names without ending".into());
        }
    }
    found
}

/// What is wrong with a file that says what is held out.
fn held_out(
    dataset: &Dataset,
    complete: bool,
    asked: &Asked,
    patients: Option<&Patients>,
) -> Vec<(Severity, DatasetError)> {
    let ids: Vec<&str> = dataset.cases.iter().map(|case| case.id.as_str()).collect();
    let mut found = Vec::new();
    // Where files are missing, so are cases that it names.
    let Some(file) = asked.split.as_ref().filter(|_| complete) else { return found };
    for fold in 0..file.folds() {
        let (split, unlisted) = match file.split(Some(fold), (&ids, &ids), &|_| false) {
            Ok(split) => split,
            Err(fault) => {
                found.push((Severity::Fault, fault));
                continue;
            }
        };
        let both = patients.map(|patients| patients.on_both_sides(&split)).unwrap_or_default();
        for (cases, what, cure) in [
            (both, "holds out", "hold out all cases of a patient together: others of these patients are trained on"),
            (unlisted, "does not name", "add them, or leave it so: they are not used"),
        ] {
            let named: Vec<String> = cases.into_iter().map(|case| ids[case].to_owned()).collect();
            if !named.is_empty() {
                let problem = format!("{what} {}", listed(&named));
                found.push((Severity::Warning, file.fault(format!("fold {fold}"), problem, cure)));
            }
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
