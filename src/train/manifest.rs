//! `manifest.json`: what a run was made of, enough to say whether another is the same.
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::TrainError;
use super::held_out::SplitRecord;
use super::session::Options;
use crate::config::{Auto, NormDecision, OnBadCase, Resolved, SplitBy};
use crate::dataset::split::{self, Split};
use crate::dataset::{Contents, Dataset, Remap, VolumeDigests};
use crate::files::sha256_hex;
use crate::memory::fit::Fit;

/// Written at the start, again at the end with the digest of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the program.
    pub voxfit: String,
    /// Commit that it was built from, `unknown` without one.
    pub git_revision: String,
    /// What computed, as in `cpu`.
    pub device: String,
    /// The processor's instruction set that the inner loops used.
    pub instruction_set: String,
    /// Threads that computed; no bit depends on them on the processor.
    pub threads: usize,
    /// Processes that shared the samples.
    pub ranks: usize,
    /// Samples of a step that each of them computed, in their order.
    #[serde(default)]
    pub samples_per_rank: Vec<usize>,
    /// `bitwise` where the same configuration gives the same bits; what is promised for which device is in
    /// docs/reproducibility.md.
    pub determinism: String,
    /// Type of what passes between layers.
    pub activations: String,
    /// Samples of a step.
    pub effective_batch: usize,
    /// Samples in memory at once.
    pub micro_batch: usize,
    /// Learnt numbers.
    pub parameters: usize,
    /// The norm that is used, and why.
    pub norm: NormDecision,
    /// `train.seed`.
    pub seed: u64,
    /// As `dataset.json` says.
    #[serde(default)]
    pub dataset_name: String,
    /// Of the configuration in what can change the weights.
    pub config_sha256: String,
    /// Of descriptions and volumes ([`Dataset::digest`](crate::dataset::Dataset::digest)).
    pub data_sha256: String,
    /// Of the ids of held-out cases and those trained on.
    pub split_sha256: String,
    /// What values of label maps became.
    #[serde(default, skip_serializing_if = "Remap::is_empty")]
    pub remap: Remap,
    /// By what rule cases are held out.
    #[serde(default)]
    pub split: SplitRecord,
    /// SHA-256 of the file of every volume of the dataset, by case and channel.
    #[serde(default)]
    pub volumes_sha256: VolumeDigests,
    /// From the run folder to the dataset, where there is such a path; the digests tell whether it is the right one.
    #[serde(default)]
    pub dataset_from_run: Option<String>,
    /// Of the weights that `--weights` started from; none where the seed drew them.
    #[serde(default)]
    pub start_weights_sha256: Option<String>,
    /// By id, or by number where `anonymous_cases` is set.
    pub train_cases: Vec<String>,
    /// Held out; by id or number.
    pub validation_cases: Vec<String>,
    /// Whether cases go by numbers here.
    #[serde(default)]
    pub anonymous_cases: bool,
    /// Cases that cannot be used and were to be skipped.
    #[serde(default)]
    pub left_out_cases: Vec<LeftOut>,
    /// True where there were fewer cases than folds: figures are then on training cases.
    pub validation_on_training_cases: bool,
    /// Of the whole run.
    pub steps: u64,
    /// Of the last step; empty until it is done.
    pub weights_sha256: String,
    /// Mean foreground Dice of the final validation.
    pub mean_dice: Option<f64>,
    /// The most that the plan said steps would hold, in bytes; on the processor.
    #[serde(default)]
    pub planned_peak_bytes: Option<u64>,
    /// What that is made of.
    #[serde(default)]
    pub planned_parts: Vec<PlannedPart>,
    /// The most that the process which ended the run held, in bytes.
    #[serde(default)]
    pub run_peak_bytes: Option<u64>,
    /// Seconds of training steps in the process that ended the run.
    pub train_seconds: Option<f64>,
}

/// A share of the memory that steps were said to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPart {
    /// As `voxfit plan` calls it.
    pub part: String,
    /// How many of the total.
    pub bytes: u64,
}

impl PlannedPart {
    /// As `voxfit plan` lists them.
    pub fn all(fit: &Fit) -> Vec<Self> {
        let part = |name: &str, bytes| Self { part: name.to_owned(), bytes };
        let mut parts = vec![part("program and its data", fit.around()), part("weights", fit.step.weights)];
        parts.extend(fit.step.parts.iter().map(|(of, bytes)| part(of.name(), *bytes)));
        parts.push(part("free between blocks", fit.step.between()));
        parts
    }
}

/// A case that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The case's id, or its number.
    pub case: String,
    /// A sentence.
    pub reason: String,
}

/// Keys that came after the first digests, at their defaults: a digest is what it was before there were such keys.
const LATER_KEYS: [&str; 10] = [
    "kind = \"plain\"\n",
    "split = \"nnunet\"\n",
    "split_seed = \"auto\"\n",
    "group = \"\"\n",
    "on_bad_case = \"stop\"\n",
    "batch_dice = false\n",
    "schedule = \"poly\"\n",
    "warmup = 0\n",
    "ema_decay = 0.0\n",
    "\n[predict]\nmirror = false\n",
];

/// Ids of the cases that indices stand for.
pub fn ids(dataset: &Dataset, cases: &[usize]) -> Vec<String> {
    cases.iter().filter_map(|case| dataset.cases.get(*case)).map(|case| case.id.clone()).collect()
}

/// The digest of a configuration's meaning: its written form without what cannot change the result.
///
/// # Errors
/// A configuration that cannot be written.
pub fn config_sha256(resolved: &Resolved) -> Result<String, TrainError> {
    let mut experiment = resolved.experiment.clone();
    // Neither where the data lies, nor how much memory there was, nor how often was looked and saved.
    experiment.data.dataset = String::new();
    experiment.memory = crate::config::Memory::default();
    experiment.train.checkpoint_every = 0;
    experiment.train.validate_every = 0;
    experiment.train.validate_cases = 0;
    let batch_norm = resolved.norm.used == crate::config::NormName::Batch;
    if !batch_norm {
        experiment.batch.micro = Auto::Auto;
    }
    // Which cases are used, and which are held out, is in digests of their own.
    experiment.data.on_bad_case = OnBadCase::Stop;
    if experiment.split_seed() == split::SEED {
        experiment.data.split_seed = Auto::Auto;
    }
    if let SplitBy::File(_) = experiment.data.split {
        experiment.data.split = SplitBy::File("of the run".into());
    }
    let mut text = experiment.to_toml().map_err(|error| {
        TrainError::run("config.toml", error.to_string(), "report this: a resolved configuration must be writable")
    })?;
    for line in LATER_KEYS {
        text = text.replacen(line, "", 1);
    }
    Ok(sha256_hex(text.as_bytes()))
}

impl Manifest {
    /// At the start of a run.
    ///
    /// # Errors
    /// A configuration that cannot be written.
    pub fn new(
        options: &Options,
        resolved: &Resolved,
        dataset: &Dataset,
        contents: &Contents,
        split: &Split,
        parameters: usize,
    ) -> Result<Self, TrainError> {
        let (train, validation) = (ids(dataset, &split.train), ids(dataset, &split.validation));
        let split_sha256 = sha256_hex(format!("{train:?}{validation:?}").as_bytes());
        // By the names that are shown, which are in the order of the ids.
        let ids = dataset.cases.iter().map(|case| case.id.clone());
        let volumes = ids.zip(contents.volumes.values().cloned()).collect();
        let on_processor = options.device == crate::config::Device::Cpu;
        Ok(Self {
            voxfit: crate::VERSION.to_owned(),
            git_revision: env!("VOXFIT_GIT_REVISION").to_owned(),
            device: options.device.to_string(),
            instruction_set: crate::ops::cpu::isa::isa().name().to_owned(),
            threads: rayon::current_num_threads(),
            ranks: options.ranks.place().count,
            samples_per_rank: Vec::new(),
            determinism: if on_processor { "bitwise" } else { "tolerance" }.to_owned(),
            activations: resolved.activations.to_string(),
            effective_batch: resolved.experiment.batch.effective,
            micro_batch: resolved.micro,
            parameters,
            norm: resolved.norm.clone(),
            seed: resolved.experiment.train.seed,
            dataset_name: dataset.name.clone(),
            config_sha256: config_sha256(resolved)?,
            data_sha256: contents.digest.clone(),
            split_sha256,
            remap: dataset.remap.clone(),
            split: SplitRecord::default(),
            volumes_sha256: volumes,
            dataset_from_run: None,
            start_weights_sha256: None,
            train_cases: train,
            validation_cases: validation,
            anonymous_cases: options.anonymous_cases,
            left_out_cases: Vec::new(),
            validation_on_training_cases: split.validates_on_training_cases,
            steps: resolved.experiment.train.steps,
            weights_sha256: String::new(),
            mean_dice: None,
            planned_peak_bytes: None,
            planned_parts: Vec::new(),
            run_peak_bytes: None,
            train_seconds: None,
        })
    }
}

/// The way from one folder to another by their names alone, with `/` between; `None` where they have nothing but the
/// root in common, since the way would then name the place itself, and where it names a folder that is not `written` in
/// the configuration: folders can be called after patients.
pub fn way(from: &Path, to: &Path, written: &str) -> Option<String> {
    let (from, to) = (from.canonicalize().ok()?, to.canonicalize().ok()?);
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if !from[..common].iter().any(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let up = from[common..].iter().map(|_| Some(".."));
    let named = |name: &&str| written.split(['/', '\\']).any(|part| part == *name);
    let down = to[common..].iter().map(|part| part.as_os_str().to_str().filter(named));
    Some(up.chain(down).collect::<Option<Vec<_>>>()?.join("/"))
}

#[cfg(test)]
mod tests {
    use super::way;

    #[test]
    fn the_way_to_a_dataset_is_found_from_the_run() {
        let lab = tempfile::tempdir().unwrap();
        let [run, data] = ["runs/a", "volumes/phantom"].map(|name| lab.path().join(name));
        [&run, &data].iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        let written = "../volumes/phantom";
        assert_eq!(way(&run, &data, written).unwrap(), "../../volumes/phantom");
        assert_eq!(way(&run, &data, "${DATA}/phantom"), None);
        assert_eq!(way(&run, &run.join("../../volumes/phantom/"), written).unwrap(), "../../volumes/phantom");
        assert_eq!(way(&data, &data, written).unwrap(), "");
        assert_eq!(way(&run, &run.join("missing"), written), None);
        #[cfg(unix)]
        assert_eq!(way(&run, std::path::Path::new("/"), written), None);
    }
}
