//! The dataset of a training: opened, looked through, and what becomes of cases that cannot be used.
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::TrainError;
use super::held_out::HeldOut;
use super::manifest::{LeftOut, Manifest};
use super::names::Names;
use super::session::Options;
use super::told::{Event, Observer};
use crate::config::{Experiment, OnBadCase, resolve};
use crate::dataset::check::{self, Finding};
use crate::dataset::fingerprint::{self, Fingerprint};
use crate::dataset::split::Patients;
use crate::dataset::store::default_root;
use crate::dataset::{DEFAULT_MEMORY, Dataset, DatasetError, Fault, Remap};

/// The dataset, opened and looked through.
pub(super) struct Data {
    /// The cases that are used.
    pub dataset: Dataset,
    /// The same with the names that others may read.
    pub shown: Dataset,
    pub fingerprint: Fingerprint,
    pub cache: PathBuf,
    pub left_out: Vec<LeftOut>,
    pub names: Names,
    pub held_out: HeldOut,
    /// `--max-time` counts from here, over all folds and seeds.
    pub deadline: Option<Instant>,
}

impl Data {
    /// # Errors
    /// Every fault that would end the training later, all at once; with `data.on_bad_case = "skip"` only those that are no
    /// single case's.
    pub fn open(options: &Options, observer: &dyn Observer, stop: &AtomicBool) -> Result<Self, TrainError> {
        let deadline = options.max_time.and_then(|limit| Instant::now().checked_add(limit));
        let root = &options.dataset;
        let split_file = HeldOut::read(&options.config)?;
        let (found, faults) = Dataset::look(root, &options.config.experiment.data.remap);
        let names = match (options.anonymous_cases, &found) {
            (false, _) => Names::default(),
            (true, found) => {
                let cases = found.as_ref().map_or(&[][..], |dataset| &dataset.cases);
                Names::numbered(root, cases, &check::findings(root, &faults))
            }
        };
        if let Some(Dataset { name, cases, .. }) = &found {
            observer.event(Event::Notice(format!("dataset {name}: {} cases", cases.len())));
        }
        let teller = Teller { root, names: &names, observer };
        let cache = default_root();
        let opened = usable(found, faults, &options.config.experiment, &cache, &teller, stop);
        let (dataset, fingerprint, left_out) = opened.map_err(|error| names.hide_in(error))?;
        let held_out = HeldOut::new(split_file, Patients::of(&dataset, &options.config.experiment.data.group));
        Ok(Self { shown: names.shown(&dataset), dataset, fingerprint, cache, left_out, names, held_out, deadline })
    }
}

/// The dataset of a run that was made before, without the cases that it left out; and the same by the names it wrote.
///
/// # Errors
/// A folder that holds no such dataset, and faults of cases where the run left none out.
pub(crate) fn as_recorded(root: &Path, remap: &Remap, manifest: &Manifest) -> Result<(Dataset, Dataset), DatasetError> {
    let (found, faults) = Dataset::look(root, remap);
    let names = match (manifest.anonymous_cases, &found) {
        (true, Some(dataset)) => Names::numbered(root, &dataset.cases, &check::findings(root, &faults)),
        _ => Names::default(),
    };
    let mut dataset = match found {
        Some(dataset) if !manifest.left_out_cases.is_empty() => dataset,
        _ => Dataset::open_as(root, remap)?,
    };
    dataset.cases.retain(|case| !manifest.left_out_cases.iter().any(|left| left.case == names.of(&case.id)));
    let shown = names.shown(&dataset);
    Ok((dataset, shown))
}

/// As [`Data::open`], for what only plans; what is wrong goes to the log.
///
/// # Errors
/// As [`Data::open`].
pub(super) fn open_to_plan(
    root: &Path,
    experiment: &Experiment,
    stop: &AtomicBool,
) -> Result<(Dataset, Fingerprint), TrainError> {
    struct Log;
    impl Observer for Log {
        fn event(&self, event: Event<'_>) {
            if let Event::Warning(text) = event {
                tracing::warn!("{text}");
            }
        }
    }
    let (found, faults) = Dataset::look(root, &experiment.data.remap);
    let teller = Teller { root, names: &Names::default(), observer: &Log };
    let (dataset, fingerprint, _) = usable(found, faults, experiment, &default_root(), &teller, stop)?;
    Ok((dataset, fingerprint))
}

/// The cases that can be used, and what they have in common.
fn usable(
    found: Option<Dataset>,
    mut faults: Vec<Fault>,
    experiment: &Experiment,
    cache: &Path,
    teller: &Teller<'_>,
    stop: &AtomicBool,
) -> Result<(Dataset, Fingerprint, Vec<LeftOut>), TrainError> {
    let skip = experiment.data.on_bad_case == OnBadCase::Skip;
    let of_the_whole = faults.iter().any(|(case, _)| case.is_empty());
    let Some(mut dataset) = found else { return Err(teller.refuse(faults)) };
    if of_the_whole || (!skip && !faults.is_empty()) {
        // A person who must mend something wants to know all of it.
        faults.extend(check::unusable(&dataset, stop)?);
        return Err(teller.refuse(faults));
    }
    loop {
        dataset.cases.retain(|case| !faults.iter().any(|(id, _)| *id == case.id));
        if dataset.cases.is_empty() {
            return Err(teller.refuse(faults));
        }
        let more = match fingerprint::remembered_until(&dataset, cache, DEFAULT_MEMORY, stop) {
            Ok(fingerprint) => {
                let more = if skip { unpreparable(&dataset, experiment, &fingerprint) } else { Vec::new() };
                if more.is_empty() {
                    return Ok((dataset, fingerprint, teller.leave_out(faults)));
                }
                more
            }
            Err(DatasetError::Stopped) => return Err(DatasetError::Stopped.into()),
            Err(error) => match check::unusable(&dataset, stop)? {
                more if more.is_empty() => return Err(error.into()),
                more => more,
            },
        };
        faults.extend(more);
        if !skip {
            return Err(teller.refuse(faults));
        }
    }
}

/// Cases that are sound and cannot be brought to the plan's grid.
fn unpreparable(dataset: &Dataset, experiment: &Experiment, fingerprint: &Fingerprint) -> Vec<Fault> {
    // What is wrong with the plan itself is said when it is made in earnest.
    let Ok(resolved) = resolve(experiment, fingerprint, dataset) else { return Vec::new() };
    check::unpreparable(dataset, &resolved.preparation)
}

/// Says what is wrong, by the names that may be shown.
struct Teller<'a> {
    root: &'a Path,
    names: &'a Names,
    observer: &'a dyn Observer,
}

impl Teller<'_> {
    fn warn(&self, text: String) {
        self.observer.event(Event::Warning(self.names.hide(text)));
    }

    /// Names every fault, a line each; the error itself is one sentence with the first and all cases.
    fn refuse(&self, mut faults: Vec<Fault>) -> TrainError {
        let mut cases: Vec<&str> = faults.iter().map(|(case, _)| self.names.of(case)).collect();
        cases.retain(|case| !case.is_empty());
        cases.dedup();
        let (cases, others) = (cases.join(", "), faults.len().saturating_sub(1));
        if others > 0 {
            for finding in check::findings(self.root, &faults) {
                let Finding { case, file, field, problem, cure, .. } = finding;
                let case = if case.is_empty() { String::new() } else { format!("{}: ", self.names.of(&case)) };
                self.warn(format!("{case}{file}: {field}: {problem}; {cure}"));
            }
        }
        match faults.is_empty() {
            true => DatasetError::no_case(self.root).into(),
            false if others == 0 => faults.remove(0).1.into(),
            false => TrainError::Faults { first: Box::new(faults.remove(0).1), others, cases },
        }
    }

    /// Says which cases are not used, and why.
    fn leave_out(&self, faults: Vec<Fault>) -> Vec<LeftOut> {
        let mut left_out: Vec<LeftOut> = Vec::new();
        let folder = format!("{}{}", self.root.display(), std::path::MAIN_SEPARATOR);
        for Finding { case, field, problem, .. } in check::findings(self.root, &faults) {
            let case = self.names.of(&case).to_owned();
            // Where the data lies is nobody's business.
            let reason = self.names.hide(format!("{field}: {problem}")).replace(&folder, "");
            match left_out.iter_mut().find(|known| known.case == case) {
                Some(known) => known.reason = format!("{}; {reason}", known.reason),
                None => left_out.push(LeftOut { case, reason }),
            }
        }
        left_out.sort_by(|a, b| a.case.cmp(&b.case));
        for LeftOut { case, reason } in &left_out {
            self.warn(format!("left out, as data.on_bad_case = \"skip\" says: {case}: {reason}"));
        }
        left_out
    }
}
