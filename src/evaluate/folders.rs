//! Two folders of label maps, paired by name.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::extent::Extent;
use super::{
    CaseFigures, DEFAULT_TOLERANCE_MM, EvaluateError, LabelClass, Summary, case_figures, peak_bytes, region_figures,
};
use crate::dataset::{DEFAULT_MEMORY, Region, Remap, parallel, regions_of};
use crate::files::read_at_most;
use crate::memory::machine;
use crate::ranks::Ranks;
use crate::volume::{self, GridDifference, Labels, VolumeError};

/// Two grids are one where no corner is further apart than this many voxels: other programs round what they write,
/// and less than a tenth of a voxel changes no voxel's meaning.
pub const GRID_TOLERANCE_VOXELS: f64 = 0.1;

/// Bytes of a `dataset.json`, as datasets may have them.
const MAX_DESCRIPTION: u64 = 16 << 20;

/// How folders are evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct FolderOptions {
    /// NSD's, in mm.
    pub tolerance_mm: f64,
    /// Names and classes to list though no case has them; None takes them from a `dataset.json` in the folder of
    /// labels or in the one above it, where there is one.
    pub classes: Option<Vec<LabelClass>>,
    /// Voxels of this label are left out; None takes it from the same `dataset.json`.
    pub ignore: Option<u16>,
    /// What values of labels, not of predictions, become before they are compared.
    pub remap: Remap,
    /// Those that share the cases; each gets the figures of all.
    pub ranks: Ranks,
}

impl Default for FolderOptions {
    fn default() -> Self {
        let (remap, ranks) = (Remap::default(), Ranks::alone());
        Self { tolerance_mm: DEFAULT_TOLERANCE_MM, classes: None, ignore: None, remap, ranks }
    }
}

/// Evaluates every prediction against the label of its name (`CASE.nii` or `CASE.nii.gz`); each of the two may also
/// be a single file, then the names of two files need not agree. Labels without a prediction are left out and listed
/// in [`Summary::without_prediction`]. `progress` is told how many cases are done, and of how many.
///
/// # Errors
/// A folder without label maps, a prediction without a label, two files of one case, a file that is not a label map,
/// a prediction on another grid than its label.
pub fn evaluate_folders(
    predictions: &Path,
    labels: &Path,
    options: &FolderOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Summary, EvaluateError> {
    if !options.tolerance_mm.is_finite() || options.tolerance_mm < 0.0 {
        return Err(EvaluateError::Tolerance(options.tolerance_mm));
    }
    let (mut pairs, without_prediction) = pair(predictions, labels)?;
    let go_on = || Ok::<_, EvaluateError>(());
    let cases: Vec<&str> = pairs.iter().map(|pair| pair.case.as_str()).collect();
    let revision = env!("VOXFIT_GIT_REVISION");
    let items = [("version of voxfit", format!("{} {revision}", crate::VERSION)), ("list of cases", cases.join(" "))];
    if let Some(said) = options.ranks.disagreement(&items, go_on)? {
        let cure = "start every rank with the same voxfit and command, on folders that all of them see";
        return Err(EvaluateError::Ranks(format!("{said}; {cure}")));
    }
    let mut number = 0..;
    pairs.retain(|_| number.next().is_some_and(|number| options.ranks.place().takes(number)));
    let described = describe(labels, &options.remap);
    let regions = if options.classes.is_some() { Vec::new() } else { described.regions };
    let classes = options.classes.clone().unwrap_or(described.classes);
    let ignore = options.ignore.or(described.ignore);
    let done = AtomicUsize::new(0);
    progress(0, pairs.len());
    // As many at a time as memory is set aside for, and of the faults met the first by name is the one told.
    let cost = |file: &Path| cost(file, !regions.is_empty());
    let costs: Vec<u64> = pairs.iter().map(|pair| cost(&pair.prediction).max(cost(&pair.label))).collect();
    let memory = machine::memory().available.map_or(DEFAULT_MEMORY, |free| free / 2);
    let cases = parallel::run(&costs, memory, |index| {
        let figures = evaluate(&pairs[index], &classes, &regions, ignore, options)?;
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, pairs.len());
        Ok::<_, EvaluateError>(figures)
    })?;
    let cases = options.ranks.gather_all_of(cases, go_on, EvaluateError::Ranks)?;
    Ok(Summary { without_prediction, ..Summary::new(cases, &classes, options.tolerance_mm).with_intervals() })
}

/// A prediction and its label.
struct Pair {
    case: String,
    prediction: PathBuf,
    label: PathBuf,
}

fn evaluate(
    pair: &Pair,
    classes: &[LabelClass],
    regions: &[Region],
    ignore: Option<u16>,
    options: &FolderOptions,
) -> Result<CaseFigures, EvaluateError> {
    let prediction = volume::read_labels(&pair.prediction)?;
    let mut label = volume::read_labels(&pair.label)?;
    options.remap.apply(&mut label.data);
    if let Some(difference) = prediction.geometry.difference(&label.geometry, GRID_TOLERANCE_VOXELS) {
        let difference = match difference {
            GridDifference::Size { a, b } => format!("{} voxels against {}", times(a), times(b)),
            GridDifference::Position { mm, voxels } => {
                format!("corners lie up to {mm:.3} mm ({voxels:.2} voxels) apart")
            }
        };
        let (prediction, label) = (pair.prediction.clone(), pair.label.clone());
        return Err(EvaluateError::Grid { prediction, label, difference });
    }
    refuse_too_large(&pair.label, &prediction, &label, ignore)?;
    let values: Vec<u16> = classes.iter().map(|class| class.class).collect();
    let spacing = crate::zyx(label.geometry.spacing());
    let (found, truth, tolerance) = (prediction.data.view(), label.data.view(), options.tolerance_mm);
    Ok(match regions {
        [] => case_figures(&pair.case, found, truth, &values, ignore, spacing, tolerance),
        _ => region_figures(&pair.case, found, truth, regions, ignore, spacing, Some(tolerance)),
    })
}

/// Bytes that comparing a label map with one of its size takes; 0 where its header cannot be read, which reading it will
/// report.
fn cost(file: &Path, regions: bool) -> u64 {
    volume::read_header(file).map_or(0, |header| {
        let [x, y, z] = header.geometry.size;
        // With regions a mask of each map too.
        let maps = if regions { 4 } else { 2 } * size_of::<u16>() as u64;
        let maps = [x, y, z].iter().fold(maps, |all, edge| all.saturating_mul(*edge as u64));
        maps.saturating_add(peak_bytes([z, y, x]))
    })
}

/// Refuses label maps whose figures memory does not hold, once both are in it: those of the largest box that a class of
/// both is in.
fn refuse_too_large(file: &Path, prediction: &Labels, label: &Labels, ignore: Option<u16>) -> Result<(), VolumeError> {
    let Some(free) = machine::memory().available else { return Ok(()) };
    let (z, y, x) = label.data.dim();
    if peak_bytes([z, y, x]) <= free {
        return Ok(());
    }
    let extents = Extent::of_all(prediction.data.view(), label.data.view(), ignore);
    let compared = extents.values().filter(|extent| extent.prediction > 0 && extent.label > 0);
    let box_of = |extent: &Extent| std::array::from_fn(|axis| extent.high[axis] - extent.low[axis] + 1);
    match compared.map(|extent| peak_bytes(box_of(extent))).max() {
        Some(needed) if needed > free => Err(VolumeError::Invalid {
            path: file.to_owned(),
            field: "dim".into(),
            problem: format!("its figures need up to {} MiB, {} MiB are free", needed.div_ceil(1 << 20), free >> 20),
            cure: "crop the label maps, or use a machine with more memory".into(),
        }),
        _ => Ok(()),
    }
}

fn times([x, y, z]: [usize; 3]) -> String {
    format!("{x} x {y} x {z}")
}

/// The pairs in order of name, and the labels that no prediction is there for.
fn pair(predictions: &Path, labels: &Path) -> Result<(Vec<Pair>, Vec<String>), EvaluateError> {
    let (found, mut wanted) = (listed(predictions, "predictions")?, listed(labels, "labels")?);
    let single =
        |cases: &BTreeMap<String, PathBuf>, path: &Path| cases.values().next().is_some_and(|file| file == path);
    match (single(&found, predictions), single(&wanted, labels)) {
        // two files are a pair by being named on one command line
        (true, true) => {
            let pairs = found
                .into_iter()
                .zip(wanted)
                .map(|((case, prediction), (_, label))| Pair { case, prediction, label })
                .collect();
            return Ok((pairs, Vec::new()));
        }
        (true, false) => wanted.retain(|case, _| found.contains_key(case)),
        (false, true) => {
            let Some((case, label)) = wanted.into_iter().next() else {
                return Ok((Vec::new(), Vec::new()));
            };
            return match found.get(&case) {
                Some(prediction) => Ok((vec![Pair { case, prediction: prediction.clone(), label }], Vec::new())),
                None => Err(EvaluateError::NoPrediction { path: label, predictions: predictions.to_owned() }),
            };
        }
        (false, false) => {}
    }
    let mut pairs = Vec::with_capacity(found.len());
    for (case, prediction) in found {
        match wanted.remove(&case) {
            Some(label) => pairs.push(Pair { case, prediction, label }),
            None => return Err(EvaluateError::NoLabel { path: prediction, labels: labels.to_owned() }),
        }
    }
    Ok((pairs, wanted.into_keys().collect()))
}

/// The label maps of a folder by case, or the one that `path` itself is. At least one.
fn listed(path: &Path, role: &'static str) -> Result<BTreeMap<String, PathBuf>, EvaluateError> {
    let io = |source| EvaluateError::Io { path: path.to_owned(), source };
    let mut cases = BTreeMap::new();
    if !fs::metadata(path).map_err(io)?.is_dir() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let case = case_name(&name).map(str::to_owned).unwrap_or(name);
        return Ok(BTreeMap::from([(case, path.to_owned())]));
    }
    for entry in fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // some systems leave a hidden `._CASE.nii.gz` beside every file
        let Some(case) = case_name(&name).filter(|_| !name.starts_with('.') && file.is_file()) else { continue };
        if let Some(first) = cases.insert(case.to_owned(), file.clone()) {
            let (first, second) = if first < file { (first, file) } else { (file, first) };
            return Err(EvaluateError::Twice { first, second, case: case.to_owned() });
        }
    }
    if cases.is_empty() {
        return Err(EvaluateError::Empty { path: path.to_owned(), role });
    }
    Ok(cases)
}

/// The file name without `.nii` or `.nii.gz`; None of any other file.
fn case_name(name: &str) -> Option<&str> {
    name.strip_suffix(".nii.gz").or_else(|| name.strip_suffix(".nii")).filter(|case| !case.is_empty())
}

/// What a `dataset.json` says of the classes.
#[derive(Debug, Default, PartialEq)]
struct Described {
    classes: Vec<LabelClass>,
    ignore: Option<u16>,
    /// Where figures are of regions: then classes are their numbers.
    regions: Vec<Region>,
}

impl Described {
    /// As they are after `remap`.
    fn exchanged(self, remap: &Remap) -> Self {
        let foreground = self.classes.iter().map(|class| (class.class, class.name.as_str()));
        let named: Vec<_> = [(0, "background")]
            .into_iter()
            .chain(foreground)
            .chain(self.ignore.map(|value| (value, "ignore")))
            .collect();
        let mut described = Self::default();
        for (class, name) in remap.classes(&named) {
            match name.as_str() {
                "ignore" => described.ignore = Some(class),
                _ if class != 0 => described.classes.push(LabelClass { class, name }),
                _ => {}
            }
        }
        described
    }
}

/// Looks for a `dataset.json` beside the labels and one folder above. Names are a courtesy: where there is none, or
/// none that can be read, figures are the same and classes go by their value.
fn describe(labels: &Path, remap: &Remap) -> Described {
    let folder = if labels.is_dir() { Some(labels) } else { labels.parent() };
    let mut folders = folder.into_iter().chain(folder.and_then(Path::parent));
    folders
        .find_map(|folder| {
            let bytes = read_at_most(&folder.join("dataset.json"), MAX_DESCRIPTION).ok()?;
            if let Some((regions, ignore)) = regions_of(&bytes, remap) {
                let named = (1..=u16::MAX).zip(&regions);
                let classes = named.map(|(class, region)| LabelClass { class, name: region.name.clone() }).collect();
                return Some(Described { classes, ignore, regions });
            }
            Some(described(&serde_json::from_slice(&bytes).ok()?).exchanged(remap))
        })
        .unwrap_or_default()
}

/// `labels` the way of the Medical Segmentation Decathlon, `{"1": "liver"}`, or nnU-Net's, `{"liver": 1}`.
fn described(dataset: &Value) -> Described {
    let mut described = Described::default();
    for (key, value) in dataset.get("labels").and_then(Value::as_object).into_iter().flatten() {
        let number = value.as_u64().and_then(|value| u16::try_from(value).ok());
        let (class, name) = match (value.as_str(), number) {
            (Some(name), _) => match key.parse() {
                Ok(class) => (class, name),
                Err(_) => continue,
            },
            (None, Some(class)) => (class, key.as_str()),
            (None, None) => continue,
        };
        match name {
            "ignore" => described.ignore = Some(class),
            _ if class != 0 => described.classes.push(LabelClass { class, name: name.to_owned() }),
            _ => {}
        }
    }
    described.classes.sort_by_key(|class| class.class);
    described.classes.dedup_by_key(|class| class.class);
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        folder
    }

    #[test]
    fn files_pair_by_case_whatever_the_ending() {
        let predictions = folder(&["b.nii", "a.nii.gz", "predict.json", "._a.nii.gz"]);
        let labels = folder(&["a.nii", "b.nii.gz", "c.nii.gz"]);
        let (pairs, without) = pair(predictions.path(), labels.path()).unwrap();
        assert_eq!(pairs.iter().map(|pair| pair.case.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(without, ["c"]);
        let (pairs, without) = pair(&predictions.path().join("b.nii"), labels.path()).unwrap();
        assert_eq!((pairs.len(), without.len()), (1, 0));
        assert_eq!(pairs[0].label, labels.path().join("b.nii.gz"));
        let (pairs, _) = pair(predictions.path(), &labels.path().join("a.nii")).unwrap();
        assert_eq!(pairs[0].prediction, predictions.path().join("a.nii.gz"));
        let (pairs, _) = pair(&predictions.path().join("b.nii"), &labels.path().join("c.nii.gz")).unwrap();
        assert_eq!((pairs.len(), pairs[0].case.as_str()), (1, "b"));
    }

    #[test]
    fn what_does_not_pair_is_named() {
        let predictions = folder(&["a.nii", "x.nii"]);
        let labels = folder(&["a.nii", "c.nii"]);
        let error = |predictions: &Path, labels: &Path| pair(predictions, labels).err().unwrap().to_string();
        assert!(error(predictions.path(), labels.path()).contains("x.nii: no label of this name"));
        assert!(error(predictions.path(), &labels.path().join("c.nii")).contains("c.nii: no prediction of this name"));
        assert!(error(&predictions.path().join("x.nii"), labels.path()).contains("x.nii: no label"));
        assert!(error(folder(&[]).path(), labels.path()).contains("predictions"));
        assert!(error(folder(&["a.nii", "a.nii.gz"]).path(), labels.path()).contains("both case a"));
        assert!(error(Path::new("/nowhere/at all"), labels.path()).contains("/nowhere/at all"));
    }

    #[test]
    fn classes_are_read_in_both_layouts() {
        let classes = [LabelClass { class: 1, name: "liver".into() }, LabelClass { class: 2, name: "spleen".into() }];
        let decathlon = serde_json::json!({"labels": {"0": "background", "2": "spleen", "1": "liver"}});
        assert_eq!(described(&decathlon), Described { classes: classes.to_vec(), ..Described::default() });
        let nnunet = serde_json::json!({"labels": {"background": 0, "spleen": 2, "liver": 1, "ignore": 3}});
        assert_eq!(described(&nnunet), Described { classes: classes.to_vec(), ignore: Some(3), regions: Vec::new() });
        assert_eq!(described(&serde_json::json!([1])), Described::default());
    }
}
