//! Which cases are of one patient.
use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};

use super::Split;
use crate::dataset::Dataset;

/// Bytes of a compiled expression, and of an expression.
const MAX_COMPILED: usize = 1 << 20;
const MAX_WRITTEN: usize = 1000;

/// The patient of every case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patients {
    /// In the dataset's order of cases.
    pub of_case: Vec<String>,
    /// Where they were read: `data.group` or `dataset.json`.
    pub from: &'static str,
    /// Cases that the rule says nothing of: each is a patient by itself.
    pub unmatched: Vec<String>,
}

impl Patients {
    /// Of `dataset` by `group` (a regular expression over ids, whose first group or else whole match is the patient), or
    /// where it is empty by what `dataset.json` says; none where neither says anything.
    pub fn of(dataset: &Dataset, group: &str) -> Option<Self> {
        let ids = || dataset.cases.iter().map(|case| case.id.as_str());
        let (named, from): (Vec<Option<&str>>, _) = if !group.is_empty() {
            // What is no expression was refused with the configuration.
            let expression = compile(group)?;
            (ids().map(|id| patient(&expression, id)).collect(), "data.group")
        } else if !dataset.groups.is_empty() {
            (ids().map(|id| dataset.groups.get(id).map(String::as_str)).collect(), "dataset.json")
        } else {
            return None;
        };
        let unmatched = ids().zip(&named).filter(|(_, named)| named.is_none()).map(|(id, _)| id.to_owned()).collect();
        let of_case = ids().zip(&named).map(|(id, named)| named.unwrap_or(id).to_owned()).collect();
        Some(Self { of_case, from, unmatched })
    }

    /// Cases that `split` holds out though others of their patients are trained on.
    pub fn on_both_sides(&self, split: &Split) -> Vec<usize> {
        let trained: BTreeSet<&String> = split.train.iter().filter_map(|case| self.of_case.get(*case)).collect();
        let leaks = |case: &usize| self.of_case.get(*case).is_some_and(|patient| trained.contains(patient));
        split.validation.iter().copied().filter(leaks).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.of_case.iter().collect::<BTreeSet<_>>().len()
    }
}

/// The expression of `data.group`; none where it is not one, or one too large.
pub fn compile(group: &str) -> Option<Regex> {
    if group.len() > MAX_WRITTEN {
        return None;
    }
    RegexBuilder::new(group).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build().ok()
}

fn patient<'a>(expression: &Regex, id: &'a str) -> Option<&'a str> {
    let found = expression.captures(id)?;
    let named = found.get(1).or_else(|| found.get(0))?.as_str();
    (!named.is_empty()).then_some(named)
}

#[cfg(test)]
mod tests {
    use super::{compile, patient};

    #[test]
    fn the_first_group_or_the_whole_match_is_the_patient() {
        let of = |group: &str, id: &'static str| patient(&compile(group).unwrap(), id);
        assert_eq!(of("^(.*)_[0-9]+$", "prostate_001_2"), Some("prostate_001"));
        assert_eq!(of("^[^_-]+", "P07-pre"), Some("P07"));
        assert_eq!(of("^sub-([0-9]+)_ses", "sub-12_ses-1"), Some("12"));
        // A group that takes no part, a match of nothing, and none at all.
        assert_eq!(of("^a(b)?", "ac"), Some("a"));
        assert_eq!(of("x*", "abc"), None);
        assert_eq!(of("^P", "Q1"), None);
        for wrong in ["(", "[a", "(?<=a)b", "a{1000}{1000}{1000}", &"a".repeat(1001)] {
            assert!(compile(wrong).is_none(), "{wrong}");
        }
    }
}
