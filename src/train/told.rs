//! What is told of a training: while it runs, and how it ended.
use std::path::PathBuf;

use super::folds::FoldsSummary;
use super::seeds::SeedsSummary;
use super::validation::ValidationResult;
use crate::config::Resolved;
use crate::dataset::split::Split;

/// What a person is told while a training runs.
pub enum Event<'a> {
    /// One sentence.
    Notice(String),
    /// One sentence about what is not as it should be.
    Warning(String),
    /// Cases brought to the plan's grid.
    Preparing {
        /// Cases that are ready.
        done: usize,
        /// Cases in all.
        total: usize,
    },
    /// Everything is decided; the first step follows.
    Start {
        /// Every value of the run.
        resolved: &'a Resolved,
        /// Learnt numbers.
        parameters: usize,
        /// Which cases are held out.
        split: &'a Split,
        /// Complete steps: 0, or those of the checkpoint that is gone on from.
        step: u64,
        /// Of the whole run.
        steps: u64,
    },
    /// A step is complete.
    Step(&'a StepReport),
    /// Validation cases done.
    Validating {
        /// Cases that are done.
        done: usize,
        /// Cases in all.
        total: usize,
    },
    /// A validation is done; `last` at the end of the run.
    Validation {
        /// Dice by class, and their mean.
        result: &'a ValidationResult,
        /// There were fewer cases than folds: the figures are no measure of unseen cases.
        on_training_cases: bool,
        /// Over all held-out cases, at the end.
        last: bool,
    },
    /// All seeds are done.
    Seeds(&'a SeedsSummary),
    /// All folds are done.
    Folds(&'a FoldsSummary),
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StepReport {
    /// Complete steps.
    pub step: u64,
    /// Mean over the effective batch.
    pub loss: f64,
    /// Of this step.
    pub learning_rate: f64,
    /// From the first sample to the updated weights.
    pub seconds: f64,
    /// Samples of the effective batch over `seconds`.
    pub samples_per_second: f64,
    /// Peak resident memory of the step.
    pub peak_bytes: Option<u64>,
    /// Peak resident memory of the process so far.
    pub run_peak_bytes: Option<u64>,
    /// Of the weights after the step: a quick digest, by which two runs are held against each other step by step.
    pub weights_digest: String,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// f16 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// The gradient was not finite: no update was made, the loss scale was halved.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// Told of progress; called from one thread but for [`Event::Preparing`].
pub trait Observer: Sync {
    /// Something happened; what takes time here holds the training up.
    fn event(&self, event: Event<'_>);
}

/// How a training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps are done, and so is the final validation.
    Finished {
        /// Over the weights of the last step.
        weights_sha256: String,
        /// Of the final validation; none where nothing is defined or held out.
        mean_dice: Option<f64>,
    },
    /// In order, after `step` complete steps, which the checkpoint holds.
    Stopped {
        /// Complete steps.
        step: u64,
        /// Of the whole run.
        steps: u64,
        /// None where the stop came before the first step and there is no run folder yet.
        run: Option<PathBuf>,
        /// Ranks whose end was the reason, by number, process and machine, as far as it can be seen from here.
        gone: Vec<String>,
    },
}
