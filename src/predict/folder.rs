//! Predicting many cases with the networks of a run folder.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::{InputCase, PredictError, Predictor, PredictorSettings, find_cases};
use crate::config::Device;
use crate::dataset::prepare;
use crate::files::write_bytes;
use crate::network::UNet;
use crate::train::{
    LoadedRun,
    checkpoint::{self, State},
    load_run,
};
use crate::volume::{self, normalise::Normalisation};

/// Which weights of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
    let folders = members(&options.run)?;
    let plan = read_plan(&folders[0])?;
    let cases = find_cases(&options.inputs, plan.channels.len())?;
    let outputs = output_paths(&options.output, &cases)?;
    refuse_to_overwrite(&cases, &outputs)?;
    let device = crate::device::open(options.device).map_err(PredictError::Run)?;
    let mut networks = Vec::new();
    let mut states = Vec::new();
    for folder in &folders {
        if read_plan(folder)?.network != plan.network {
            let text = format!("{}: its network is not that of {}", folder.display(), folders[0].display());
            return Err(PredictError::Run(format!("{text}; predict with each alone")));
        }
        let (network, state) = read_network(folder, options.checkpoint, &plan, &device)?;
        networks.push(network);
        states.push(state);
    }
    let predictor = Predictor {
        networks: networks.iter().collect(),
        preparation: &plan.preparation,
        settings: PredictorSettings {
            patch: plan.patch,
            classes: plan.classes.len(),
            activations: crate::device::float_type(plan.activations),
            device,
            overlap: options.overlap,
            mirror: plan.mirror_axes.map(|trained| trained && options.tta),
        },
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
        checkpoint: options.checkpoint,
        weights_sha256: states.iter().map(|state| state.weights_sha256.clone()).collect(),
        steps: states.iter().map(|state| state.step).collect(),
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

/// The run folder itself, or its folds.
fn members(run: &Path) -> Result<Vec<PathBuf>, PredictError> {
    if run.join("plan.toml").is_file() {
        return Ok(vec![run.to_owned()]);
    }
    let folds: Vec<PathBuf> = (0..1000)
        .map(|fold| run.join(format!("fold_{fold}")))
        .take_while(|folder| folder.join("plan.toml").is_file())
        .collect();
    if folds.is_empty() {
        let text = format!("{}: no run in this folder (no plan.toml)", run.display());
        return Err(PredictError::Run(format!("{text}; give the run folder of a training")));
    }
    Ok(folds)
}

fn read_plan(folder: &Path) -> Result<LoadedRun, PredictError> {
    load_run(folder).map_err(|error| PredictError::Run(error.to_string()))
}

fn read_network(
    folder: &Path,
    name: CheckpointName,
    plan: &LoadedRun,
    device: &burn::tensor::Device,
) -> Result<(UNet, State), PredictError> {
    let path = crate::train::checkpoint_path(folder, name.folder());
    if !path.is_file() {
        let cure = match name {
            CheckpointName::Best => "predict with --checkpoint last, or train with validation",
            CheckpointName::Last => "train longer than one checkpoint, or wait for the first",
        };
        return Err(PredictError::Run(format!("{}: no such checkpoint; {cure}", path.display())));
    }
    let failed = |error: crate::train::TrainError| PredictError::Run(error.to_string());
    let mut checkpoint = checkpoint::load(&path).map_err(failed)?;
    let mut network = UNet::new(&plan.network, 0, device);
    checkpoint.restore_weights(&mut network, &path).map_err(failed)?;
    Ok((network, checkpoint.state))
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
    let folder = if is_volume(output) { output.parent().unwrap_or(Path::new("")) } else { output };
    folder.join("predict.json")
}

fn predict_case(
    predictor: &Predictor<'_>,
    plan: &LoadedRun,
    case: &InputCase,
    output: &Path,
    probabilities: bool,
) -> Result<Vec<String>, PredictError> {
    let header = volume::read_header(&case.files[0])?;
    let image = prepare::image(&case.files, predictor.preparation)?;
    let warnings = warnings(plan, header.geometry.spacing(), &image.data);
    let mut scores = predictor.scores(&image.data);
    if probabilities {
        softmax(&mut scores);
        for (class, name) in plan.classes.iter().enumerate() {
            let class_scores = scores.index_axis(ndarray::Axis(0), class);
            let full = prepare::restore_scores(class_scores, &image.origin, if class == 0 { 1.0 } else { 0.0 });
            let path = probability_path(output, name);
            volume::write_image(&path, full.view(), &image.origin.native)?;
        }
    }
    let prediction = predictor.restore(&scores, image);
    volume::write_labels(output, prediction.labels.view(), &prediction.native)?;
    Ok(warnings)
}

/// `CASE_probability_NAME.nii.gz` beside the label map.
fn probability_path(output: &Path, class: &str) -> PathBuf {
    let name = output.file_name().and_then(|name| name.to_str()).unwrap_or("case");
    let stem = name.trim_end_matches(".gz").trim_end_matches(".nii");
    let class: String = class.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    output.with_file_name(format!("{stem}_probability_{class}.nii.gz"))
}

fn softmax(scores: &mut ndarray::Array4<f32>) {
    for mut voxel in scores.lanes_mut(ndarray::Axis(0)) {
        let largest = voxel.fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        voxel.mapv_inplace(|score| libm::expf(score - largest));
        let sum: f32 = voxel.sum();
        voxel.mapv_inplace(|score| score / sum);
    }
}

/// What of a case lies outside of what was trained on; spacing in mm, x, y, z.
fn warnings(plan: &LoadedRun, spacing: [f64; 3], image: &ndarray::Array4<f32>) -> Vec<String> {
    let mut warnings = Vec::new();
    let [low, high] = plan.spacing_range;
    for (axis, name) in ["x", "y", "z"].into_iter().enumerate() {
        // 10 % beyond is within what rotation and scaling show the network.
        if spacing[axis] < low[axis] * 0.9 || spacing[axis] > high[axis] * 1.1 {
            warnings.push(format!(
                "spacing {:.3} mm along {name} is outside the {:.3} to {:.3} mm trained on",
                spacing[axis], low[axis], high[axis]
            ));
        }
    }
    for (channel, normalisation) in plan.preparation.normalisation.iter().enumerate() {
        let data = image.index_axis(ndarray::Axis(0), channel);
        if let Normalisation::Ct { low, high, mean, deviation } = normalisation {
            let bounds = [low, high].map(|bound| ((bound - mean) / deviation.max(1e-8)) as f32);
            let inside = data.iter().filter(|v| **v > bounds[0] && **v < bounds[1]).count();
            if (inside as f64) < 0.01 * data.len() as f64 {
                warnings.push(format!(
                    "channel {channel}: fewer than 1 % of voxels lie within the {low:.0} to {high:.0} HU trained on"
                ));
            }
        } else if data.iter().all(|value| *value == 0.0) {
            warnings.push(format!("channel {channel} is constant"));
        }
    }
    warnings
}
