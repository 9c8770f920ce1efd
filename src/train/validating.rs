//! Looks at held-out cases between steps, and at all of them at the end.
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::TrainError;
use super::folder::Metrics;
use super::recovery::Watch;
use super::run_loop::Loop;
use super::told::{Event, Outcome};
use super::validation::{self, Looked, ValidationResult, label_classes};
use crate::evaluate::{CaseFigures, DEFAULT_TOLERANCE_MM, Summary};
use crate::memory::meter;
use crate::ops::cpu::pool::{self, Arena, Keep};
use crate::predict::postprocess::{self, Findings};
use crate::predict::{Memory, Predictor, PredictorSettings};

impl Loop<'_> {
    /// A look at the fixed list of validation cases; a better mean becomes `best`.
    pub(super) fn validate(&mut self, metrics: &mut Metrics) -> Result<(), TrainError> {
        let count = self.resolved.experiment.train.validate_cases.min(self.split.validation.len());
        if count == 0 {
            return Ok(());
        }
        let clock = Instant::now();
        let split = self.split;
        let cases = self.with_averages(|run| run.look_at(&split.validation[..count], false))?;
        let cases: Vec<CaseFigures> = cases.into_iter().map(|case| case.figures).collect();
        let result = validation::summarise(self.dataset, &cases, self.step, clock.elapsed().as_secs_f64());
        self.report(&result, metrics, false)?;
        self.keep_best(&result)?;
        self.beside_steps(|run| run.write_page());
        Ok(())
    }

    fn keep_best(&mut self, result: &ValidationResult) -> Result<(), TrainError> {
        let Some(mean) = result.mean_dice else { return Ok(()) };
        if self.best.is_none_or(|(best, _)| mean > best) {
            self.best = Some((mean, self.step));
            self.save("best", self.step == self.total())?;
        }
        Ok(())
    }

    fn report(&mut self, result: &ValidationResult, metrics: &mut Metrics, last: bool) -> Result<(), TrainError> {
        metrics.add(&serde_json::json!({
            "step": result.step, "dice": result.classes, "mean_dice": result.mean_dice,
            "validation_cases": result.cases, "validation_seconds": result.seconds,
        }))?;
        self.scalars_of_validation(result);
        let on_training_cases = self.split.validates_on_training_cases;
        self.observer.event(Event::Validation { result, on_training_cases, last });
        Ok(())
    }

    fn look_at(&mut self, cases: &[usize], with_surfaces: bool) -> Result<Vec<Looked>, TrainError> {
        self.beside_steps(|run| run.looks_at(cases, with_surfaces))
    }

    /// Does what is no step. A step's buffers are not those of a prediction: without keepers they go back to the system.
    pub(super) fn beside_steps<T>(&mut self, work: impl FnOnce(&Self) -> T) -> T {
        self.keep = None;
        pool::set_arena(Arena::NONE);
        let done = work(self);
        pool::release();
        if let Some(watch) = &self.watch {
            pool::set_arena(watch.fit.step.arena);
        }
        self.keep = Some(Keep::new());
        done
    }

    /// The network as it is, to predict with.
    pub(super) fn predictor(&self) -> Predictor<'_> {
        Predictor {
            networks: vec![&self.network],
            preparation: &self.resolved.preparation,
            settings: PredictorSettings {
                patch: self.resolved.patch,
                classes: self.dataset.outputs(),
                paint: self.dataset.paint(),
                activations: self.settings.activations,
                device: self.settings.device.clone(),
                overlap: 0.5,
                mirror: self.resolved.experiment.mirrored(),
            },
            memory: Memory::new(self.watch.as_ref().and_then(Watch::budget), self.folder.path()),
            tiles: None,
        }
    }

    /// Ranks share the cases, and each gets the figures of all.
    fn looks_at(&self, cases: &[usize], with_surfaces: bool) -> Result<Vec<Looked>, TrainError> {
        let predictor = self.predictor();
        let ranks = &self.settings.ranks;
        let mut looked = Vec::new();
        for (number, case) in cases.iter().enumerate().filter(|(number, _)| ranks.place().takes(*number)) {
            if self.stop.load(Ordering::Relaxed) {
                return Err(TrainError::Stopped);
            }
            looked.push(validation::case(&predictor, self.dataset, &self.dataset.cases[*case], with_surfaces)?);
            let done = (number + 1).max(ranks.place().count * looked.len()).min(cases.len());
            self.observer.event(Event::Validating { done, total: cases.len() });
        }
        let found = ranks.gather_all_of(
            looked,
            || self.together(),
            |said| TrainError::run(self.folder.path(), said, "then --resume"),
        )?;
        Ok(found)
    }

    /// The end: all validation cases with every figure, the last checkpoint, the digest.
    pub(super) fn finish(&mut self, metrics: &mut Metrics, trained: Duration) -> Result<Outcome, TrainError> {
        self.with_averages(|run| run.finish_with(metrics, trained))
    }

    fn finish_with(&mut self, metrics: &mut Metrics, trained: Duration) -> Result<Outcome, TrainError> {
        // First of all the weights: a stop during the validation below loses nothing.
        self.save("last", false)?;
        let clock = Instant::now();
        let split = self.split;
        let looked = match self.look_at(&split.validation, true) {
            Err(TrainError::Stopped) => return self.stopped(),
            other => other?,
        };
        let (figures, kept): (Vec<CaseFigures>, Vec<_>) =
            looked.into_iter().map(|case| (case.figures, case.kept)).unzip();
        let (mut mean_dice, mut summary) = (None, None);
        if !figures.is_empty() {
            let seconds = clock.elapsed().as_secs_f64();
            let result = validation::summarise(self.dataset, &figures, self.step, seconds);
            self.report(&result, metrics, true)?;
            mean_dice = result.mean_dice;
            let found =
                Summary::new(figures.clone(), &label_classes(self.dataset), DEFAULT_TOLERANCE_MM).with_intervals();
            self.folder.write_json("validation/summary.json", &found)?;
            let findings = Findings::new(kept.into_iter().flatten().collect(), split.validates_on_training_cases);
            self.folder.write_json(postprocess::FILE, &findings)?;
            if let Some(text) = findings.sentence(&self.dataset.classes) {
                self.observer.event(Event::Notice(text));
            }
            summary = Some(found);
            // `best` is always by the same cases.
            let looked_at = self.resolved.experiment.train.validate_cases.min(figures.len());
            self.keep_best(&validation::summarise(self.dataset, &figures[..looked_at], self.step, seconds))?;
        }
        self.save("last", true)?;
        let weights_sha256 = self.network.weights_sha256();
        self.manifest.weights_sha256.clone_from(&weights_sha256);
        self.manifest.mean_dice = mean_dice;
        self.manifest.run_peak_bytes = self.run_peak.max(meter::peak_of(&self.settings.device));
        self.manifest.train_seconds = Some(trained.as_secs_f64());
        self.folder.write_json("manifest.json", &self.manifest)?;
        self.beside_steps(|run| run.write_last_page(summary.as_ref()));
        Ok(Outcome::Finished { weights_sha256, mean_dice })
    }
}
