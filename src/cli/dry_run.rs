//! What `voxfit train --dry-run` says.
use std::fmt::Write;
use std::time::Duration;

use voxfit::shown;
use voxfit::train::Intended;
use voxfit::xyz;

use super::terminal::{duration, size};

pub fn page(runs: &[Intended]) -> String {
    let mut text = String::new();
    for (at, run) in runs.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        let mut say = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<10} {value}");
        };
        let (resolved, experiment) = (&run.resolved, &run.resolved.experiment);
        let from = run.from_step.map_or_else(String::new, |step| format!(", going on from step {step}"));
        say("run folder", format!("{}{from}", run.run.display()));
        let held_out = match run.split.validates_on_training_cases {
            true => "validation: on training cases".to_owned(),
            false => format!("{} held out", run.split.validation.len()),
        };
        say(
            "dataset",
            format!("{}: {} cases to train on, {held_out}", shown::line(&run.dataset), run.split.train.len()),
        );
        let [x, y, z] = xyz(resolved.patch);
        let (stages, million) = (resolved.plan.stages.len(), run.parameters as f64 / 1e6);
        say("network", format!("{stages} stages, {million:.2} million parameters, patch {x} x {y} x {z} voxels"));
        say("norm", resolved.norm.said());
        say("batch", format!("{} samples a step, {} in memory at once", experiment.batch.effective, resolved.micro));
        say("precision", format!("activations in {}", resolved.activations));
        let train = &experiment.train;
        say(
            "steps",
            format!(
                "{}, a validation every {}, a checkpoint every {}",
                train.steps, train.validate_every, train.checkpoint_every
            ),
        );
        if let Some((fit, budget)) = &run.memory {
            let budget = budget.map_or_else(|| "without a budget".to_owned(), |budget| format!("of {}", size(budget)));
            say("memory", format!("{} predicted for steps, {budget}", size(fit.peak())));
        }
        if let Some(speed) = &run.speed {
            let left = train.steps.saturating_sub(run.from_step.unwrap_or(0));
            let all = Duration::try_from_secs_f64(speed.seconds * left as f64).unwrap_or(Duration::MAX);
            say(
                "time",
                format!("about {:.2} s a step, {} for {left} steps, validations beside", speed.seconds, duration(all)),
            );
        }
    }
    text + "\nnothing was written; the same command without --dry-run trains"
}
