//! A loss or gradient that is no number: which sample brought it about, and what is kept.
use std::ops::Range;

use super::TrainError;
use super::recovery::StepSupply;
use super::run_loop::Loop;
use super::step::{self, StepSettings};
use super::told::Event;
use crate::config::NormName;

impl Loop<'_> {
    /// The end of a run at step `step` (complete steps before it). Its micro-batches are computed once more, one sample at
    /// a time, to find the first that is at fault.
    pub(super) fn diverged(&mut self, step: u64, problem: &str) -> TrainError {
        if !self.settings.ranks.is_first() {
            // All ranks have found the same; rank 0 looks for the sample, says it and ends the job.
            let _ = self.settings.ranks.meet(|| self.together());
        }
        let found = self.first_not_finite(step);
        let sample = match &found {
            Some(samples) => format!(", first of {}", self.name(step, samples)),
            None => String::new(),
        };
        let look = if found.is_some() { "look at the case, " } else { "" };
        // Weights that are no numbers themselves must not take the place of those that are.
        let sound = self.network.parameters.iter().all(|parameter| parameter.values().iter().all(|w| w.is_finite()));
        let kept = match step == self.step && sound && self.save("last", false).is_ok() {
            true => format!("the weights of step {step} are in checkpoints/last"),
            false => "the last checkpoint is kept".to_owned(),
        };
        let cure = format!("{look}lower train.learning_rate, or set precision.activations = \"f32\"; {kept}");
        TrainError::Diverged { step: step + 1, problem: format!("{problem}{sample}"), cure }
    }

    /// Names the sample of a step that is skipped where more than a gradient overflowed: the loss scale, which acts on the
    /// way back alone, mends no loss that is no number.
    pub(super) fn warn_of_skipped(&self, loss: f64) {
        if loss.is_finite() {
            return;
        }
        if let Some(samples) = self.first_not_finite(self.step) {
            let name = self.name(self.step, &samples);
            let text = format!("step {} is skipped: the loss is not a number, first of {name}", self.step + 1);
            self.observer.event(Event::Warning(text));
        }
    }

    fn name(&self, step: u64, samples: &Range<usize>) -> String {
        let case = |sample: usize| {
            let case = self.dataset.cases.get(self.samples.case(step, sample as u64));
            case.map_or("?", |case| case.id.as_str())
        };
        let all = self.settings.effective;
        match samples.len() {
            1 => format!("sample {} of {all} (case {})", samples.end, case(samples.start)),
            _ => {
                let cases: Vec<&str> = samples.clone().map(case).collect();
                format!("samples {} to {} of {all} (cases {})", samples.start + 1, samples.end, cases.join(", "))
            }
        }
    }

    fn first_not_finite(&self, step: u64) -> Option<Range<usize>> {
        // With BatchNorm a sample is what it is by the others of its micro-batch.
        let batch_norm = self.resolved.norm.used == NormName::Batch;
        let micro = if batch_norm { self.settings.micro } else { 1 };
        let settings = StepSettings { micro, ..self.settings.clone() };
        let supply = StepSupply::new(&self.samples, self.stop, None, step, settings.effective);
        // What cannot be read again, or a stop, leaves it unnamed.
        let found = step::first_not_finite(&self.network, &settings, supply).ok().flatten();
        self.network.parameters.iter().for_each(|parameter| drop(parameter.take_gradient()));
        found
    }
}
