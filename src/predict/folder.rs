//! Predicting many cases with the networks of a run folder.
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::networks::Source;
use super::postprocess::{Postprocessing, Rule};
use super::record::{self, Book, CaseRecord, Failure, Record};
use super::{InputCase, Memory, PredictError, Predictor, PredictorSettings, case, find_cases, memory, tile, warnings};
use crate::config::{Auto, ByteSize, Device};
use crate::dataset::DatasetError;
use crate::exchange::Member;
use crate::memory::budget;
use crate::network::UNet;
use crate::ops::cpu::pool;
use crate::ranks::{Item, Ranks};
use crate::train::LoadedRun;
use crate::volume::{self, VolumeError};

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
    /// Its folder under `checkpoints`.
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
    /// Which weights of the run.
    pub checkpoint: CheckpointName,
    /// Whether scores are averaged over all mirrorings along the axes that training mirrored; `None`: as the run's
    /// configuration says.
    pub tta: Option<bool>,
    /// 0 to 0.9.
    pub overlap: f64,
    /// What computes.
    pub device: Device,
    /// Whether scores are written beside each label map, one file a case.
    pub probabilities: bool,
    /// Remove what the run's validation showed to be better removed.
    pub postprocessing: bool,
    /// Predict cases whose label maps are there, too.
    pub again: bool,
    /// The most that the process may hold; `Auto` is what the system has to give.
    pub memory: Auto<ByteSize>,
    /// Those that share the cases.
    pub ranks: Ranks,
}

/// Told of progress.
pub trait Observer: Sync {
    /// `wanted` of `all` cases are to be predicted; the others are there.
    fn start(&self, wanted: usize, all: usize);
    /// `done` of the `total` wanted cases are done, and of the next the share `part`, 0 to 1.
    fn part(&self, done: usize, total: usize, part: f64);
    /// Something to be said.
    fn warning(&self, text: &str);
}

/// Predicts every case of `options.inputs` and writes label maps and, after each, `predict.json`. Cases whose label maps are
/// there already, made of the same files in the same way, are left as they are. Of several cases one at fault does not
/// keep the others from being predicted: it is in [`Record::failed`].
///
/// # Errors
/// What concerns all cases, or the only one; what was written before it stays, each file whole.
pub fn run(options: &Options, observer: &dyn Observer, stop: &AtomicBool) -> Result<Record, PredictError> {
    let (source, plan) = Source::open(&options.run)?;
    let cases = find_cases(&options.inputs, plan.channels.len())?;
    let outputs = output_paths(&options.output, &cases)?;
    refuse_to_overwrite(&cases, &outputs)?;
    let postprocessing = match options.postprocessing {
        true => source.postprocessing()?,
        false => Postprocessing::none("--no-postprocessing"),
    };
    let device = crate::device::open(options.device).map_err(PredictError::Run)?;
    let budget = budget(options);
    let mirror = plan.mirrored(options.tta);
    let passes = (source.count(), tile::mirrorings(mirror).len());
    let files = cases.iter().map(|case| (case.id.as_str(), case.files.as_slice()));
    memory::check(budget, &plan, passes, files, options.probabilities)?;
    // What reading them takes beside their weights goes back to the system, whatever lies between.
    let keep = pool::Keep::new();
    let (networks, read): (Vec<UNet>, Vec<Member>) =
        source.networks(options.checkpoint, &plan, &device)?.into_iter().unzip();
    drop(keep);
    let record = record(options, &source, &plan, &read, &postprocessing);
    let ranks = &options.ranks;
    let go_on = || if stop.load(Ordering::Relaxed) { Err(PredictError::Stopped) } else { Ok(()) };
    let inputs: Vec<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    let items: [Item; 3] = [
        ("version of voxfit", format!("{} {}", record.voxfit, record.git_revision)),
        ("weights", record.weights_sha256.join(" ")),
        ("list of cases", inputs.join(" ")),
    ];
    if let Some(said) = ranks.disagreement(&items, go_on)? {
        let cure = "start every rank with the same voxfit and command, on folders that all of them see";
        return Err(PredictError::Run(format!("{said}; {cure}")));
    }
    let mut book = Book::open(record_path(&options.output), record);
    let mut wanted: Vec<(InputCase, PathBuf)> = cases.into_iter().zip(outputs).collect();
    let all = wanted.len();
    let there = wanted.iter().map(|(case, output)| u8::from(!options.again && book.has(case, output))).collect();
    // Rank 0 keeps the book, and begins to write in it soon.
    let there = ranks.gather(there, go_on)?.swap_remove(0);
    let mut number = 0..;
    wanted.retain(|_| number.next().and_then(|number| there.get(number)) != Some(&1));
    observer.start(wanted.len(), all);
    let mut number = 0..;
    wanted.retain(|_| number.next().is_some_and(|number| ranks.place().takes(number)));
    // Of the other ranks, for the book.
    let (mut made_here, mut failed_here) = (Vec::new(), Vec::new());
    let place = AtomicUsize::new(0);
    let tiles = |done: usize, total: usize| {
        observer.part(place.load(Ordering::Relaxed), wanted.len(), done as f64 / total.max(1) as f64);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let predictor = Predictor {
        networks: networks.iter().collect(),
        preparation: &plan.preparation,
        settings: PredictorSettings { overlap: options.overlap, mirror, ..PredictorSettings::of(&plan, device) },
        memory: Memory::new(budget, folder_of(&options.output)),
        tiles: Some(&tiles),
    };
    for (done, (case, output)) in wanted.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Err(PredictError::Stopped);
        }
        place.store(done, Ordering::Relaxed);
        match predict_case(&predictor, &plan, &postprocessing.rule, case, output, options.probabilities) {
            Ok(made) => {
                for warning in &made.warnings {
                    observer.warning(&format!("{}: {warning}", case.id));
                }
                if ranks.is_first() { book.done(made)? } else { made_here.push(made) }
            }
            Err(error @ PredictError::Stopped) => return Err(error),
            Err(error) if all == 1 || is_of_all(&error, case) => return Err(error),
            Err(error) => {
                let left = if output.exists() { "; the label map that is there is an earlier one" } else { "" };
                let error = format!("{error}{left}");
                observer.warning(&format!("{}: not predicted: {error}", case.id));
                let failure = Failure { case: case.id.clone(), files: case.files.clone(), error };
                if ranks.is_first() { book.failed(failure)? } else { failed_here.push(failure) }
            }
        }
        observer.part(done + 1, wanted.len(), 0.0);
    }
    let made = ranks.gather_all_of(made_here, go_on, PredictError::Run)?;
    let failed = ranks.gather_all_of(failed_here, go_on, PredictError::Run)?;
    if ranks.is_first() {
        made.into_iter().try_for_each(|made| book.done(made))?;
        failed.into_iter().try_for_each(|failure| book.failed(failure))?;
        // With nothing to do, too: it says how what is there was made.
        book.write()?;
    }
    Ok(book.close())
}

fn record(
    options: &Options,
    source: &Source,
    plan: &LoadedRun,
    read: &[Member],
    postprocessing: &Postprocessing,
) -> Record {
    Record {
        notice: crate::RESEARCH_USE.to_owned(),
        voxfit: crate::VERSION.to_owned(),
        git_revision: env!("VOXFIT_GIT_REVISION").to_owned(),
        run: options.run.clone(),
        checkpoint: source.checkpoint(options.checkpoint),
        weights_sha256: read.iter().map(|network| network.weights_sha256.clone()).collect(),
        plan_sha256: record::digests(&source.plans()),
        steps: read.iter().map(|network| network.step).collect(),
        device: options.device.to_string(),
        tta: options.tta.unwrap_or(plan.mirror),
        overlap: options.overlap,
        probabilities: options.probabilities,
        postprocessing: postprocessing.clone(),
        classes: plan.classes.clone(),
        cases: Vec::new(),
        failed: Vec::new(),
    }
}

/// Whether the fault would meet every other case, too: the output or its disk, not the case's own files.
fn is_of_all(error: &PredictError, case: &InputCase) -> bool {
    match error {
        PredictError::Io { .. } => true,
        PredictError::Volume(VolumeError::Io { path, .. })
        | PredictError::Dataset(DatasetError::Volume(VolumeError::Io { path, .. })) => !case.files.contains(path),
        _ => false,
    }
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
    rule: &Rule,
    case: &InputCase,
    output: &Path,
    probabilities: bool,
) -> Result<CaseRecord, PredictError> {
    let clock = Instant::now();
    // Before they are read: where a file changes meanwhile it is not taken for done the next time.
    let files_sha256 = record::digests(&case.files);
    let paths = probabilities
        .then(|| plan.outputs().into_iter().map(|name| probability_path(output, name)).collect::<Vec<_>>());
    let mut found = case::predict(predictor, &case.files, paths.as_deref())?;
    found.keep(rule).map_err(predictor.memory.failed())?;
    volume::write_label_boxes(output, &found.labels(), found.largest, &found.origin.native)?;
    let mut warnings = warnings::of_spacing(plan, crate::xyz(found.origin.spacing));
    warnings.extend(found.warnings);
    let written: Vec<PathBuf> = [output.to_owned()].into_iter().chain(paths.into_iter().flatten()).collect();
    let names = written.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    Ok(CaseRecord {
        case: case.id.clone(),
        files: case.files.clone(),
        files_sha256,
        output: output.to_owned(),
        outputs_sha256: names.zip(record::digests(&written)).collect(),
        warnings,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

/// `CASE_probability_NAME.nii.gz` beside the label map.
fn probability_path(output: &Path, class: &str) -> PathBuf {
    let name = output.file_name().and_then(|name| name.to_str()).unwrap_or("case");
    let stem = name.trim_end_matches(".gz").trim_end_matches(".nii");
    let class: String = class.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    output.with_file_name(format!("{stem}_probability_{class}.nii.gz"))
}
