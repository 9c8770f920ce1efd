//! Predicting many cases with the networks of a run folder.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::networks::Source;
use super::{InputCase, Memory, PredictError, Predictor, PredictorSettings, case, find_cases, memory, tile, warnings};
use crate::config::{Auto, ByteSize, Device};
use crate::exchange::Member;
use crate::files::write_bytes;
use crate::memory::budget;
use crate::network::UNet;
use crate::ops::cpu::pool;
use crate::train::LoadedRun;
use crate::volume;

/// Which weights of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointName {
    /// Of the highest mean Dice in validation.
    Best,
    /// Of the last step.
    Last,
}

impl CheckpointName {
    pub fn folder(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Last => "last",
        }
    }
}

/// The arguments of a prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// A run folder, one that holds those of several folds, or a model file.
    pub run: PathBuf,
    /// Files and folders; at least one.
    pub inputs: Vec<PathBuf>,
    /// A folder, or a `.nii`/`.nii.gz` file where there is one case.
    pub output: PathBuf,
    pub checkpoint: CheckpointName,
    pub tta: bool,
    /// 0 to 0.9.
    pub overlap: f64,
    pub device: Device,
    pub probabilities: bool,
    /// The most that the process may hold; `Auto` is what the system has to give.
    pub memory: Auto<ByteSize>,
}

/// Told of progress.
pub trait Observer {
    /// `done` of `total` cases are written.
    fn case(&self, done: usize, total: usize, id: &str);
    /// Something to be said.
    fn warning(&self, text: &str);
}

/// `predict.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub voxfit: String,
    pub run: PathBuf,
    pub checkpoint: CheckpointName,
    /// One per network that was averaged.
    pub weights_sha256: Vec<String>,
    pub steps: Vec<u64>,
    pub device: String,
    pub tta: bool,
    pub overlap: f64,
    /// By label value.
    pub classes: Vec<String>,
    pub cases: Vec<CaseRecord>,
}

/// One case of `predict.json`.
#[derive(Clone, Debug, Serialize)]
pub struct CaseRecord {
    pub case: String,
    pub files: Vec<PathBuf>,
    pub output: PathBuf,
    pub warnings: Vec<String>,
}

/// Predicts every case of `options.inputs` and writes label maps and `predict.json`.
///
/// # Errors
/// The first fault; what was written before it stays, each file whole.
pub fn run(options: &Options, observer: &dyn Observer, stop: &AtomicBool) -> Result<Record, PredictError> {
    let (source, plan) = Source::open(&options.run)?;
    let cases = find_cases(&options.inputs, plan.channels.len())?;
    let outputs = output_paths(&options.output, &cases)?;
    refuse_to_overwrite(&cases, &outputs)?;
    let device = crate::device::open(options.device).map_err(PredictError::Run)?;
    let budget = budget(options);
    let mirror = plan.mirror_axes.map(|trained| trained && options.tta);
    let passes = (source.count(), tile::mirrorings(mirror).len());
    let files = cases.iter().map(|case| (case.id.as_str(), case.files.as_slice()));
    memory::check(budget, &plan, passes, files, options.probabilities)?;
    // What reading them takes beside their weights goes back to the system, whatever lies between.
    let keep = pool::Keep::new();
    let (networks, read): (Vec<UNet>, Vec<Member>) =
        source.networks(options.checkpoint, &plan, &device)?.into_iter().unzip();
    drop(keep);
    let predictor = Predictor {
        networks: networks.iter().collect(),
        preparation: &plan.preparation,
        settings: PredictorSettings {
            patch: plan.patch,
            classes: plan.network.classes,
            paint: plan.paint(),
            activations: crate::device::float_type(plan.activations),
            device,
            overlap: options.overlap,
            mirror,
        },
        memory: Memory::new(budget, folder_of(&options.output)),
    };
    let mut records = Vec::new();
    for (done, (case, output)) in cases.iter().zip(outputs).enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Err(PredictError::Stopped);
        }
        let warnings = predict_case(&predictor, &plan, case, &output, options.probabilities)?;
        for warning in &warnings {
            observer.warning(&format!("{}: {warning}", case.id));
        }
        records.push(CaseRecord { case: case.id.clone(), files: case.files.clone(), output, warnings });
        observer.case(done + 1, cases.len(), &case.id);
    }
    let record = Record {
        voxfit: crate::VERSION.to_owned(),
        run: options.run.clone(),
        checkpoint: source.checkpoint(options.checkpoint),
        weights_sha256: read.iter().map(|network| network.weights_sha256.clone()).collect(),
        steps: read.iter().map(|network| network.step).collect(),
        device: options.device.to_string(),
        tta: options.tta,
        overlap: options.overlap,
        classes: plan.classes.clone(),
        cases: records,
    };
    let path = record_path(&options.output);
    let text = serde_json::to_string_pretty(&record).unwrap_or_default() + "\n";
    write_bytes(&path, text.as_bytes()).map_err(|source| PredictError::Io { path, source })?;
    Ok(record)
}

fn is_volume(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(".nii.gz") || path.ends_with(".nii"))
}

fn output_paths(output: &Path, cases: &[InputCase]) -> Result<Vec<PathBuf>, PredictError> {
    if !is_volume(output) {
        return Ok(cases.iter().map(|case| output.join(format!("{}.nii.gz", case.id))).collect());
    }
    if cases.len() != 1 {
        let problem = format!("one file for {} cases", cases.len());
        let cure = "give a folder with -o".to_owned();
        return Err(PredictError::Input { path: output.to_owned(), problem, cure });
    }
    Ok(vec![output.to_owned()])
}

/// A label map in the place of a patient's image would be the end of that image.
fn refuse_to_overwrite(cases: &[InputCase], outputs: &[PathBuf]) -> Result<(), PredictError> {
    let inputs: Vec<PathBuf> =
        cases.iter().flat_map(|case| &case.files).filter_map(|file| file.canonicalize().ok()).collect();
    match outputs.iter().find(|output| output.canonicalize().is_ok_and(|output| inputs.contains(&output))) {
        Some(output) => Err(PredictError::Input {
            path: output.clone(),
            problem: "the output would overwrite an input".to_owned(),
            cure: "give another place with -o".to_owned(),
        }),
        None => Ok(()),
    }
}

/// `predict.json` in the output folder, or beside the output file.
fn record_path(output: &Path) -> PathBuf {
    folder_of(output).join("predict.json")
}

fn folder_of(output: &Path) -> &Path {
    if is_volume(output) { output.parent().unwrap_or(Path::new("")) } else { output }
}

/// Bytes that the process may hold. On a graphics card the networks are elsewhere, and nothing is held to.
fn budget(options: &Options) -> Option<u64> {
    match options.memory {
        _ if options.device != Device::Cpu => None,
        Auto::Value(budget) => Some(budget.0),
        Auto::Auto => budget::automatic(),
    }
}

fn predict_case(
    predictor: &Predictor<'_>,
    plan: &LoadedRun,
    case: &InputCase,
    output: &Path,
    probabilities: bool,
) -> Result<Vec<String>, PredictError> {
    let paths = probabilities
        .then(|| plan.outputs().into_iter().map(|name| probability_path(output, name)).collect::<Vec<_>>());
    let found = case::predict(predictor, &case.files, paths.as_deref())?;
    volume::write_label_boxes(output, &found.labels(), found.largest, &found.origin.native)?;
    let mut warnings = warnings::of_spacing(plan, crate::xyz(found.origin.spacing));
    warnings.extend(found.warnings);
    Ok(warnings)
}

/// `CASE_probability_NAME.nii.gz` beside the label map.
fn probability_path(output: &Path, class: &str) -> PathBuf {
    let name = output.file_name().and_then(|name| name.to_str()).unwrap_or("case");
    let stem = name.trim_end_matches(".gz").trim_end_matches(".nii");
    let class: String = class.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    output.with_file_name(format!("{stem}_probability_{class}.nii.gz"))
}
