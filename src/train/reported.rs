//! The page about a run and its scalars, written while it goes on. Neither is part of the result: what goes wrong with them
//! is said and ends nothing.
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::run_loop::Loop;
use super::told::{Event, StepReport};
use super::validation::ValidationResult;
use crate::evaluate::Summary;
use crate::report::pictures::{choose, of_case};
use crate::report::tensorboard::{EventFile, Scalar};
use crate::report::{CasePictures, Pictures, write_in_run};

/// Where scalars go; none any more once a write has failed.
pub(super) type Scalars = EventFile;

impl Loop<'_> {
    /// `report.html` as far as the run is.
    pub(super) fn write_page(&self) {
        let why = "Pictures of held-out cases come at the end of the run.";
        self.page_with(&Pictures::LeftOut(why.to_owned()));
    }

    /// The page of a run that is done, with pictures of its worst, median and best case.
    pub(super) fn write_last_page(&self, summary: Option<&Summary>) {
        if !self.folder.is_taken() {
            return;
        }
        let chosen = summary.map(choose).unwrap_or_default();
        if !self.images && !chosen.is_empty() {
            let why = match self.manifest.anonymous_cases {
                true => "Left out, as cases go by numbers in this run; voxfit report RUN makes a page with them.",
                false => "Left out, as --no-images says.",
            };
            return self.page_with(&Pictures::LeftOut(why.to_owned()));
        }
        let clock = Instant::now();
        let predictor = self.predictor();
        let mut made: Vec<CasePictures> = Vec::new();
        for chosen in chosen {
            if self.stop.load(Ordering::Relaxed) {
                let why = "Left out, as the run was asked to stop; voxfit report RUN makes a page with them.";
                return self.page_with(&Pictures::LeftOut(why.to_owned()));
            }
            let Some(case) = self.dataset.cases.iter().find(|case| case.id == chosen.case) else { continue };
            match of_case(&predictor, case, chosen, &self.dataset.remap, self.dataset.ignore) {
                Ok(pictures) => made.push(pictures),
                Err(error) => {
                    // The figures are there, and the page is worth having without.
                    self.observer.event(Event::Warning(format!("report.html has no pictures: {error}")));
                    return self.page_with(&Pictures::LeftOut("They could not be made.".to_owned()));
                }
            }
        }
        if !made.is_empty() {
            let (count, seconds) = (made.len(), clock.elapsed().as_secs_f64());
            let cases = if count == 1 { "1 case" } else { &format!("{count} cases") };
            let text = format!("report.html: {cases} predicted again for its pictures, in {seconds:.1} s");
            self.observer.event(Event::Notice(text));
        }
        self.page_with(&Pictures::Made(made));
    }

    fn page_with(&self, pictures: &Pictures) {
        if !self.folder.is_taken() {
            return;
        }
        if let Err(error) = write_in_run(self.folder.path(), pictures) {
            self.observer.event(Event::Warning(format!("report.html was not written: {error}")));
        }
    }

    /// Opens a file of scalars for the steps that this process makes.
    pub(super) fn follow(&mut self) {
        if !self.folder.is_taken() {
            return;
        }
        match EventFile::create(&self.folder.file("tensorboard"), self.step) {
            Ok(file) => self.scalars = Some(file),
            Err(error) => self.observer.event(Event::Warning(format!("no scalars for TensorBoard: {error}"))),
        }
    }

    pub(super) fn scalars_of_step(&mut self, report: &StepReport) {
        let mut scalars = vec![
            Scalar::new("loss", report.loss),
            Scalar::new("learning_rate", report.learning_rate),
            Scalar::new("seconds_per_step", report.seconds),
        ];
        scalars.extend(report.peak_bytes.map(|bytes| Scalar::new("peak_bytes", bytes as f64)));
        self.add_scalars(report.step, &scalars);
    }

    pub(super) fn scalars_of_validation(&mut self, result: &ValidationResult) {
        let of_class =
            |class: &super::ClassDice| Some(Scalar::new(&format!("dice/{} {}", class.class, class.name), class.dice?));
        let mut scalars: Vec<Scalar> = result.classes.iter().filter_map(of_class).collect();
        scalars.extend(result.mean_dice.map(|dice| Scalar::new("mean_dice", dice)));
        self.add_scalars(result.step, &scalars);
    }

    fn add_scalars(&mut self, step: u64, scalars: &[Scalar]) {
        let Some(file) = &mut self.scalars else { return };
        if let Err(error) = file.add(step, scalars) {
            self.scalars = None;
            self.observer.event(Event::Warning(format!("no more scalars for TensorBoard: {error}")));
        }
    }
}
