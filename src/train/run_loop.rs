//! The loop over steps: gradient, update, and now and then a validation and a checkpoint.
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::folder::{LoadedRun, RunFolder};
use super::manifest::Manifest;
use super::optimizer::{Optimizer, clip_factor, global_norm, learning_rate};
use super::precision::LossScale;
use super::recovery::{StepSupply, Watch};
use super::reported::Scalars;
use super::step::{self, Known, StepSettings};
use super::told::{Event, Observer, Outcome, StepReport};
use super::{Samples, TrainError, checkpoint};
use crate::config::Resolved;
use crate::dataset::Dataset;
use crate::dataset::split::Split;
use crate::memory::meter;
use crate::network::UNet;
use crate::ops::cpu::pool::{self, Keep};
use crate::ranks::Peer;

/// Steps in a row that may be skipped for overflow before the run is given up.
const MAX_SKIPPED: u32 = 40;

/// Everything a run has between its steps.
pub(super) struct Loop<'a> {
    pub observer: &'a dyn Observer,
    pub stop: &'a AtomicBool,
    pub folder: RunFolder,
    pub dataset: &'a Dataset,
    pub resolved: &'a Resolved,
    pub split: &'a Split,
    pub samples: Samples<'a>,
    pub settings: StepSettings,
    /// The number after that of the last of a step's samples that are computed here.
    pub end: usize,
    pub network: UNet,
    pub optimizer: Optimizer,
    pub scale: LossScale,
    pub manifest: Manifest,
    /// Complete steps.
    pub step: u64,
    /// Best mean Dice and its step.
    pub best: Option<(f64, u64)>,
    /// The network has the average of its weights for the time being.
    pub averaged: bool,
    pub config_sha256: String,
    /// Where there is a byte model: on the processor.
    pub watch: Option<Watch>,
    /// While steps run, what they free stays for the next.
    pub keep: Option<Keep>,
    /// The most that the process held so far, in bytes.
    pub run_peak: Option<u64>,
    /// When to stop in order.
    pub deadline: Option<Instant>,
    /// Whether the page about the run shows pictures of cases.
    pub images: bool,
    /// Where scalars go, too.
    pub scalars: Option<Scalars>,
}

impl Loop<'_> {
    pub(super) fn total(&self) -> u64 {
        self.resolved.experiment.train.steps
    }

    /// Whether it is time to stop, on all ranks alike.
    fn is_to_stop(&self) -> Result<bool, TrainError> {
        let mut out_of_time = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if self.deadline.is_some() {
            let said = self.settings.ranks.gather(vec![u8::from(out_of_time)], || self.together())?;
            out_of_time = said.iter().any(|said| said == &[1]);
        }
        Ok(out_of_time || self.stop.load(Ordering::Relaxed))
    }

    /// Writes what is known before the first step.
    pub fn begin(&self, plan: &LoadedRun) -> Result<(), TrainError> {
        let config = self.resolved.to_toml().map_err(|error| {
            TrainError::run(self.folder.path(), error.to_string(), "give train.seed a smaller number")
        })?;
        let plan = toml::to_string(plan)
            .map_err(|error| TrainError::run(self.folder.path(), error.to_string(), "report this as a fault"))?;
        self.folder.write("plan.toml", plan.as_bytes())?;
        self.folder.write_json("manifest.json", &self.manifest)?;
        self.folder.write("config.toml", config.as_bytes())?;
        let parameters = self.network.parameter_count();
        let (resolved, split) = (self.resolved, self.split);
        self.write_page();
        self.observer.event(Event::Start { resolved, parameters, split, step: self.step, steps: self.total() });
        Ok(())
    }

    /// All steps that are left. Where a file cannot be read any more, what was learnt by then is kept.
    pub fn steps(mut self) -> Result<Outcome, TrainError> {
        let outcome = self.all_steps();
        if let Err(TrainError::Dataset(_) | TrainError::Predict(_)) = &outcome
            && let Err(error) = self.save("last", false)
        {
            tracing::warn!("{error}");
        }
        outcome
    }

    fn all_steps(&mut self) -> Result<Outcome, TrainError> {
        let (mut metrics, validated) = self.folder.metrics(self.step, self.total())?;
        // Rank 0 has the file, and says it to all.
        let said = match self.settings.ranks.gather(vec![u8::from(validated)], || self.together()) {
            Err(TrainError::Stopped) => return self.stopped(),
            other => other?,
        };
        let validated = said.first().is_some_and(|said| said == &[1]);
        self.settle();
        let mut trained = Duration::ZERO;
        let mut skipped = 0;
        let train = self.resolved.experiment.train.clone();
        if self.step > 0 && self.step < self.total() && self.step.is_multiple_of(train.validate_every) && !validated {
            // The stop came during this validation.
            match self.validate(&mut metrics) {
                Err(TrainError::Stopped) => return self.stopped(),
                other => other?,
            }
        }
        while self.step < self.total() {
            match self.is_to_stop() {
                Ok(true) | Err(TrainError::Stopped) => return self.stopped(),
                other => drop(other?),
            }
            let clock = Instant::now();
            let report = match self.one_step() {
                Err(TrainError::Stopped) => return self.stopped(),
                other => other?,
            };
            trained += clock.elapsed();
            skipped = if report.skipped { skipped + 1 } else { 0 };
            if skipped == MAX_SKIPPED {
                return Err(self.diverged(self.step - 1, "the gradient overflows at every loss scale"));
            }
            metrics.add(&report)?;
            self.scalars_of_step(&report);
            self.observer.event(Event::Step(&report));
            let last = self.step == self.total();
            if self.step.is_multiple_of(train.validate_every) && !last {
                match self.validate(&mut metrics) {
                    Err(TrainError::Stopped) => return self.stopped(),
                    other => other?,
                }
            }
            if self.step.is_multiple_of(train.checkpoint_every) && !last {
                self.save("last", false)?;
            }
        }
        self.finish(&mut metrics, trained)
    }

    /// One effective batch: gradient, unscale, clip, update.
    fn one_step(&mut self) -> Result<StepReport, TrainError> {
        let clock = Instant::now();
        self.run_peak = self.run_peak.max(meter::peak_of(&self.settings.device));
        meter::reset_peak();
        self.settings.loss_scale = self.scale.scale as f32;
        let mut known = Known::default();
        let found = loop {
            let together = self.settings.ranks.are_several();
            let supply = StepSupply::new(&self.samples, self.stop, self.watch.as_ref(), self.step, self.end);
            match step::gradient_knowing(&self.network, &self.settings, supply.together(together), &mut known) {
                Err(error) => {
                    // Half a gradient is in the sinks; a later step of this process must not find it.
                    self.network.parameters.iter().for_each(|parameter| drop(parameter.take_gradient()));
                    let TrainError::OverBudget { budget } = error else { return Err(error) };
                    self.shrink(budget)?;
                }
                Ok(found) => break found,
            }
        };
        let train = &self.resolved.experiment.train;
        let norm = global_norm(&found.gradients) / self.scale.scale;
        let finite = norm.is_finite();
        let dynamic = self.scale.dynamic;
        if (!finite && !dynamic) || (!found.loss.is_finite() && finite) {
            drop(found.gradients);
            return Err(self.diverged(self.step, "the loss or its gradient is not a number"));
        }
        let rate = learning_rate(train.schedule, train.learning_rate, self.step, train.steps, train.warmup);
        if finite {
            let factor = clip_factor(norm, train.clip_norm) / self.scale.scale;
            self.optimizer.update(&mut self.network.parameters, found.gradients, factor, rate);
            self.network.remember(&found.statistics);
        } else {
            drop(found.gradients);
            self.warn_of_skipped(found.loss);
        }
        let loss_scale = dynamic.then_some(self.scale.scale);
        self.scale.observe(finite);
        self.step += 1;
        let weights_digest = self.network.weights_digest();
        let seconds = clock.elapsed().as_secs_f64();
        let peak_bytes = meter::peak_of(&self.settings.device);
        self.run_peak = self.run_peak.max(peak_bytes);
        Ok(StepReport {
            step: self.step,
            loss: found.loss,
            learning_rate: rate,
            seconds,
            samples_per_second: self.settings.effective as f64 / seconds,
            peak_bytes,
            run_peak_bytes: self.run_peak,
            weights_digest,
            gradient_norm: norm,
            loss_scale,
            skipped: !finite,
        })
    }

    /// Puts what stays from step to step into a pool of its own.
    fn settle(&mut self) {
        self.keep = None;
        if self.optimizer.has_state() {
            // Out of the old pool, so that it can go.
            self.optimizer.reserve(&self.network.parameters);
        }
        pool::release();
        if let Some(watch) = &self.watch {
            pool::set_arena(watch.fit.step.arena);
        }
        self.keep = Some(Keep::new());
        self.optimizer.reserve(&self.network.parameters);
    }

    /// Less in memory at once from now on, as `budget` bytes have room for.
    fn shrink(&mut self, budget: u64) -> Result<(), TrainError> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        match watch.shrink(self.resolved, self.step + 1, budget) {
            Ok(Some(text)) => {
                self.settings.micro = watch.fit.levers.micro;
                self.settings.recompute = watch.fit.levers.recompute;
                self.observer.event(Event::Notice(text));
                self.settle();
            }
            Ok(None) => {
                let text =
                    "memory: less is free than a step holds, and there is no smaller step; going on all the same";
                self.observer.event(Event::Notice(text.into()));
            }
            Err(error) => {
                self.save("last", false)?;
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn save(&mut self, name: &str, finished: bool) -> Result<(), TrainError> {
        if !self.folder.is_taken() {
            return Ok(());
        }
        self.with_averages(|run| run.save_here(name, finished))
    }

    /// Does what the average of the weights is for, where there is one: predict, and keep. Steps go on from the weights.
    pub(super) fn with_averages<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        if self.averaged {
            return work(self);
        }
        self.optimizer.exchange_averages(&mut self.network.parameters);
        self.averaged = true;
        let done = work(self);
        self.averaged = false;
        self.optimizer.exchange_averages(&mut self.network.parameters);
        done
    }

    fn save_here(&self, name: &str, finished: bool) -> Result<(), TrainError> {
        let state = checkpoint::State {
            step: self.step,
            steps: self.total(),
            updates: self.optimizer.updates,
            loss_scale: self.scale.scale,
            clean_steps: self.scale.clean_steps,
            best: self.best,
            finished,
            config_sha256: self.config_sha256.clone(),
            weights_sha256: self.network.weights_sha256(),
        };
        let optimizer = (name == "last").then_some(&self.optimizer);
        checkpoint::save(&self.folder.checkpoint(name), &self.network, optimizer, &state)
    }

    pub(super) fn stopped(&mut self) -> Result<Outcome, TrainError> {
        let ranks = self.settings.ranks.clone();
        let gone = ranks.gone().iter().map(Peer::name).collect();
        self.save("last", false)?;
        // All ranks have the same weights and state: where the one that writes is gone, the next does.
        if !self.folder.is_taken() && ranks.stands_in() && self.folder.path().is_dir() {
            self.with_averages(|run| run.save_here("last", false))?;
        }
        self.write_page();
        let run = Some(self.folder.path().to_owned());
        Ok(Outcome::Stopped { step: self.step, steps: self.total(), run, gone })
    }
}
