//! nnU-Net's `splits_final.json`: `[{"train": [ids], "val": [ids]}, ...]`, one entry per fold.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Split;
use crate::dataset::DatasetError;
use crate::files::{read_at_most, sha256_hex};
use crate::shown as display;

/// A hundred thousand cases in five folds take half of it.
const MAX_BYTES: u64 = 16 << 20;
const MAX_FOLDS: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    train: Vec<String>,
    val: Vec<String>,
}

/// A file that says which cases are held out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitFile {
    path: PathBuf,
    folds: Vec<Entry>,
    /// Of the file's bytes.
    pub sha256: String,
}

impl SplitFile {
    /// # Errors
    /// A file that is not there, is too large or is not of this form.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        const CURE: &str = "give a file as nnU-Net writes it: [{\"train\": [\"case_1\"], \"val\": [\"case_2\"]}, ...]";
        let invalid = |problem: String| DatasetError::invalid(path, "data.split", problem, CURE);
        let bytes = read_at_most(path, MAX_BYTES).map_err(|error| invalid(error.to_string()))?;
        let sha256 = sha256_hex(&bytes);
        let parsed = serde_json::from_slice::<Vec<Entry>>(&bytes);
        let folds = parsed.map_err(|error| invalid(display::line(&display::short(&error.to_string(), 200))))?;
        if folds.is_empty() || folds.len() > MAX_FOLDS {
            return Err(invalid(format!("has {} folds", folds.len())));
        }
        Ok(Self { path: path.to_owned(), folds, sha256 })
    }

    /// How many folds there are.
    pub fn folds(&self) -> usize {
        self.folds.len()
    }

    /// The split that `fold` names (`None`: all cases that it names anywhere are trained on), and the cases that it does
    /// not name. `ids` are those of the dataset's cases; a case may go by its `shown` name too, and only by this where
    /// others read it. Names that are `left_out` of the training are passed over.
    ///
    /// # Errors
    /// A fold that there is not, an id that is no case, a case named twice, nothing to train on.
    pub fn split(
        &self,
        fold: Option<usize>,
        (ids, shown): (&[&str], &[&str]),
        left_out: &dyn Fn(&str) -> bool,
    ) -> Result<(Split, Vec<usize>), DatasetError> {
        if let Some(fold) = fold.filter(|fold| *fold >= self.folds.len()) {
            let problem = format!("is {fold}, but the file has {} folds, counted from 0", self.folds.len());
            return Err(self.fault("data.fold".into(), problem, "write one of them"));
        }
        let by_name: BTreeMap<&str, usize> =
            shown.iter().enumerate().chain(ids.iter().enumerate()).map(|(case, name)| (*name, case)).collect();
        let mut held: Vec<Option<bool>> = vec![None; ids.len()];
        for (number, entry) in self.folds.iter().enumerate() {
            if fold.is_some_and(|fold| fold != number) {
                continue;
            }
            let mut seen: BTreeMap<usize, &str> = BTreeMap::new();
            let lists = [("train", &entry.train), ("val", &entry.val)];
            for (list, at, name) in
                lists.into_iter().flat_map(|(list, names)| names.iter().enumerate().map(move |(at, id)| (list, at, id)))
            {
                let place = || format!("fold {number}, {list}");
                let Some(&case) = by_name.get(name.as_str()) else {
                    if left_out(name) {
                        continue;
                    }
                    let named = match ids == shown {
                        true => format!("{:?}", display::short(name, 80)),
                        false => format!("entry {at}"),
                    };
                    let problem = format!("{named} is no case of the dataset");
                    return Err(self.fault(
                        place(),
                        problem,
                        "name cases by their ids: file names without channel and ending",
                    ));
                };
                if let Some(other) = seen.insert(case, list) {
                    let problem = format!("{:?} is in {other} already", display::short(shown[case], 80));
                    return Err(self.fault(place(), problem, "name every case once in a fold"));
                }
                held[case] = Some(fold.is_some() && list == "val");
            }
        }
        let of = |wanted: Option<bool>| (0..ids.len()).filter(|&case| held[case] == wanted).collect::<Vec<_>>();
        let split = Split { train: of(Some(false)), validation: of(Some(true)), validates_on_training_cases: false };
        if split.train.is_empty() {
            let place = fold.map_or_else(|| "all folds".into(), |fold| format!("fold {fold}, train"));
            return Err(self.fault(place, "names no case that is there".into(), "name the cases to train on"));
        }
        Ok((split, of(None)))
    }

    /// The same file with other names for cases.
    pub fn renamed(&self, name: impl Fn(&str) -> String) -> Vec<u8> {
        let renamed = |names: &[String]| names.iter().map(|id| name(id)).collect();
        let folds: Vec<Entry> =
            self.folds.iter().map(|entry| Entry { train: renamed(&entry.train), val: renamed(&entry.val) }).collect();
        let text = serde_json::to_string_pretty(&folds).unwrap_or_default();
        (text + "\n").into_bytes()
    }

    /// One of this file.
    pub(in crate::dataset) fn fault(&self, field: String, problem: String, cure: &str) -> DatasetError {
        DatasetError::invalid(&self.path, field, display::line(&problem), cure)
    }
}
