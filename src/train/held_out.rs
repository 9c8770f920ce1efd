//! Which cases of a training are held out, by what rule, and who is told.
use serde::{Deserialize, Serialize};

use super::TrainError;
use super::data::Data;
use super::told::{Event, Observer};
use crate::config::{Config, ConfigError, Experiment, SplitBy};
use crate::dataset::split::{Deal, Patients, Split, SplitFile, TooFewPatients};

/// The name of a run's own copy of the file that says what is held out.
pub(super) const SPLIT_FILE: &str = "splits_final.json";

/// Names of cases in one sentence.
const NAMED: usize = 10;

/// How it was decided which cases are held out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// `nnunet`, `stratified` or `file`.
    pub rule: String,
    /// Parts that the cases were dealt into.
    pub folds: usize,
    /// Of the shuffle; none where a file decided.
    pub seed: Option<u64>,
    /// Of the file of splits; none where a rule decided.
    pub file_sha256: Option<String>,
    /// Where it was read which cases are one patient's: `data.group` or `dataset.json`; none where every case is a
    /// patient.
    pub groups: Option<String>,
    /// How many there are; none where every case is one.
    pub patients: Option<usize>,
}

/// What decides, the same for all folds and seeds.
pub(super) struct HeldOut {
    file: Option<SplitFile>,
    patients: Option<Patients>,
}

impl HeldOut {
    /// What a file says is not looked at yet.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(config: &Config) -> Result<Option<SplitFile>, TrainError> {
        Ok(config.split_file()?.map(|path| SplitFile::read(&path)).transpose()?)
    }

    pub fn new(file: Option<SplitFile>, patients: Option<Patients>) -> Self {
        Self { file, patients }
    }

    /// How many folds there are.
    pub fn folds(&self, experiment: &Experiment) -> usize {
        self.file.as_ref().map_or(experiment.data.folds, SplitFile::folds)
    }

    /// Whether a file says what is held out: then it does for few cases too.
    pub fn by_file(&self) -> bool {
        self.file.is_some()
    }

    /// The file with the names that others may read, for the run folder.
    pub fn file(&self, data: &Data) -> Option<Vec<u8>> {
        self.file.as_ref().map(|file| file.renamed(|name| data.names.of(name).to_owned()))
    }

    /// With `fold` held out (`None`: nothing), and what the manifest says of it.
    ///
    /// # Errors
    /// A file that does not fit the dataset; fewer patients than folds.
    pub fn split(
        &self,
        data: &Data,
        experiment: &Experiment,
        fold: Option<usize>,
        observer: &dyn Observer,
    ) -> Result<(Split, SplitRecord), TrainError> {
        let ids: Vec<&str> = data.dataset.cases.iter().map(|case| case.id.as_str()).collect();
        let shown: Vec<&str> = data.shown.cases.iter().map(|case| case.id.as_str()).collect();
        let named = |cases: &[usize]| listed(cases.iter().map(|&case| shown[case]));
        let warn = |text: String| observer.event(Event::Warning(text));
        let patients = self.patients.as_ref();
        if let Some(Patients { from, unmatched, .. }) = patients.filter(|patients| !patients.unmatched.is_empty()) {
            let named = listed(unmatched.iter().map(|id| data.names.of(id)));
            warn(format!("{from} names no patient of {named}: each of them is taken for a patient by itself"));
        }
        let mut record = SplitRecord {
            rule: "file".into(),
            folds: self.folds(experiment),
            groups: patients.map(|patients| patients.from.to_owned()),
            patients: patients.map(Patients::count),
            ..SplitRecord::default()
        };
        let Some(file) = &self.file else {
            let deal = Deal {
                ids: &ids,
                patients: patients.map(|patients| patients.of_case.as_slice()),
                traits: (experiment.data.split == SplitBy::Stratified).then_some(data.fingerprint.classes.as_slice()),
                folds: experiment.data.folds,
                seed: experiment.split_seed(),
            };
            if let Some(patients) = patients {
                let text = format!("{} cases of {} patients, by {}", ids.len(), patients.count(), patients.from);
                observer.event(Event::Notice(text));
            }
            record.rule = experiment.data.split.name().to_owned();
            record.seed = Some(experiment.split_seed());
            let too_few = |TooFewPatients { patients }| ConfigError::Rule {
                key: "data.folds",
                problem: format!("{} folds, but the cases are of {patients} patients", deal.folds),
                cure: "write fewer folds, or correct who is one patient (data.group, or `groups` in dataset.json)"
                    .into(),
            };
            return Ok((deal.split(fold).map_err(too_few)?, record));
        };
        let left_out = |name: &str| data.left_out.iter().any(|left| left.case == data.names.of(name));
        let (split, unlisted) = file.split(fold, (&ids, &shown), &left_out)?;
        if !unlisted.is_empty() {
            warn(format!("data.split: the file does not name {}: they are not used", named(&unlisted)));
        }
        if let Some(patients) = patients {
            let both = patients.on_both_sides(&split);
            if !both.is_empty() {
                let named = named(&both);
                warn(format!("data.split: {named} are held out, but other cases of these patients are trained on"));
            }
        }
        record.file_sha256 = Some(file.sha256.clone());
        Ok((split, record))
    }
}

/// The first of `names`, and how many more there are.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.take(NAMED).collect::<Vec<_>>().join(", ") + &rest
}
