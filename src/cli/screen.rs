//! What a person sees of a training: a bar that moves on a terminal, plain lines elsewhere, a table at each validation.
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use voxfit::shown;
use voxfit::train::{ClassSpread, Event, FoldsSummary, Observer, SeedsSummary, Spread, StepReport, ValidationResult};

use super::Global;
use super::terminal::{self, Progress, duration, size};

/// Plain lines appear at most this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Prints the events of a training on stderr, tables on stdout.
pub struct Screen {
    draws: bool,
    quiet: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bar: Option<ProgressBar>,
    side: Option<Progress>,
    steps: u64,
    /// Seconds of the steps seen, and how many.
    seconds: f64,
    seen: u64,
    last_line: Option<Instant>,
    peak: u64,
}

impl Screen {
    pub fn new(global: &Global) -> Self {
        Self {
            draws: global.draws() && std::io::stderr().is_terminal(),
            quiet: global.is_quiet(),
            state: Mutex::default(),
        }
    }

    /// Takes the bars off the screen.
    pub fn close(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.side = None;
            if let Some(bar) = state.bar.take() {
                bar.finish_and_clear();
            }
        }
    }

    fn line(&self, state: &State, text: &str) {
        let text = shown::line(text);
        match &state.bar {
            Some(bar) => bar.suspend(|| tracing::info!("{text}")),
            None => tracing::info!("{text}"),
        }
    }

    fn start(&self, state: &mut State, step: u64, steps: u64) {
        state.side = None;
        state.steps = steps;
        if self.draws {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            let template = "{bar:24} step {pos}/{len}  {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_position(step);
            state.bar = Some(bar);
        }
    }

    fn step(&self, state: &mut State, report: &StepReport) {
        state.seconds += report.seconds;
        state.seen += 1;
        state.peak = state.peak.max(report.peak_bytes.unwrap_or(0));
        let per_step = state.seconds / state.seen as f64;
        let left = Duration::from_secs_f64((per_step * state.steps.saturating_sub(report.step) as f64).max(0.0));
        let memory = if state.peak > 0 { format!("  peak {}", size(state.peak)) } else { String::new() };
        let text = format!(
            "loss {:.4}  {:.2} samples/s{memory}  {} left{}",
            report.loss,
            report.samples_per_second,
            duration(left),
            if report.skipped { "  (skipped: the gradient overflowed)" } else { "" }
        );
        if let Some(bar) = &state.bar {
            bar.set_position(report.step);
            bar.set_message(text);
            return;
        }
        let due = state.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if due || report.step == state.steps || report.skipped {
            state.last_line = Some(Instant::now());
            tracing::info!("step {}/{}  {text}", report.step, state.steps);
        }
    }

    fn validation(&self, state: &mut State, result: &ValidationResult, on_training_cases: bool, last: bool) {
        state.side = None;
        let cases = if result.cases == 1 { "1 case".to_owned() } else { format!("{} cases", result.cases) };
        let what = if last { "final validation" } else { "validation" };
        let mark = if on_training_cases { ", validation: on training cases" } else { "" };
        let mut text = format!("{what} after step {}, {cases}{mark}\n{}", result.step, table(result));
        if last {
            text.push('\n');
        }
        if self.quiet {
            return;
        }
        let print = || drop(terminal::say(&text));
        match &state.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// Dice per class, and their mean.
fn table(result: &ValidationResult) -> String {
    let number = |dice: Option<f64>| dice.map_or_else(|| "-".to_owned(), |dice| format!("{dice:.4}"));
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["class", "Dice"]);
    for class in &result.classes {
        table.add_row([shown::line(&format!("{} {}", class.class, class.name)), number(class.dice)]);
    }
    table.add_row(["mean".to_owned(), number(result.mean_dice)]);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Mean and spread of Dice over seeds, per class.
fn seeds(state: &mut State, summary: &SeedsSummary) -> String {
    let count = summary.seeds.len();
    let mark = if summary.validation_on_training_cases { ", validation: on training cases" } else { "" };
    let head = format!("Dice over {count} seed{}{mark}", if count == 1 { "" } else { "s" });
    spread(state, &head, &summary.classes, &summary.mean_dice)
}

/// The same over folds, and over all cases together.
fn folds(state: &mut State, summary: &FoldsSummary) -> String {
    let head = format!("Dice over {} folds", summary.folds);
    let text = spread(state, &head, &summary.classes, &summary.mean_dice_spread);
    let all = &summary.all_cases;
    match all.mean_dice {
        Some(dice) => format!("{text}mean over all {} cases, each held out once: {dice:.4}\n", all.cases),
        None => text,
    }
}

fn spread(state: &mut State, head: &str, classes: &[ClassSpread], mean_dice: &Spread) -> String {
    if let Some(bar) = state.bar.take() {
        bar.finish_and_clear();
    }
    if classes.is_empty() {
        return format!("{head}: no case is held out, so there is none\n");
    }
    let number = |dice: Option<f64>| dice.map_or_else(|| "-".to_owned(), |dice| format!("{dice:.4}"));
    let row = |name: String, dice: &Spread| {
        [vec![name], [dice.mean, dice.sd, dice.min, dice.max].map(number).to_vec()].concat()
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["class", "mean", "sd", "min", "max"]);
    for class in classes {
        table.add_row(row(shown::line(&class.class.title()), &class.dice));
    }
    table.add_row(row("mean".to_owned(), mean_dice));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{head}\n{table}\n")
}

impl Observer for Screen {
    fn event(&self, event: Event<'_>) {
        let Ok(mut state) = self.state.lock() else { return };
        match event {
            Event::Notice(text) => self.line(&state, &text),
            Event::Warning(text) => {
                let print = || tracing::warn!("{text}");
                state.bar.as_ref().map_or_else(print, |bar| bar.suspend(print));
            }
            Event::Preparing { done, total } => {
                state.side.get_or_insert_with(|| Progress::new("cases prepared", self.draws)).at(done, total);
            }
            Event::Start { resolved, parameters, split, step, steps } => {
                self.start(&mut state, step, steps);
                let [x, y, z] = voxfit::xyz(resolved.patch);
                let effective = resolved.experiment.batch.effective;
                self.line(
                    &state,
                    &format!(
                        "{} stages, {:.1} million parameters, patch {x}x{y}x{z}, effective batch {effective} in micro-batches of {}, {} norm, {}",
                        resolved.plan.stages.len(),
                        parameters as f64 / 1e6,
                        resolved.micro,
                        resolved.norm.used,
                        resolved.activations,
                    ),
                );
                self.line(&state, &format!("norm: {}", resolved.norm.said()));
                let held_out = if split.validates_on_training_cases {
                    "validation: on training cases".to_owned()
                } else {
                    format!("{} held out", split.validation.len())
                };
                self.line(&state, &format!("{} cases to train on, {held_out}", split.train.len()));
            }
            Event::Step(report) => self.step(&mut state, report),
            Event::Validating { done, total } => {
                let draws = self.draws && state.bar.is_none();
                if draws {
                    state.side.get_or_insert_with(|| Progress::new("cases validated", draws)).at(done, total);
                } else if let Some(bar) = &state.bar {
                    bar.set_message(format!("validating {done}/{total}"));
                }
            }
            Event::Validation { result, on_training_cases, last } => {
                self.validation(&mut state, result, on_training_cases, last);
            }
            Event::Seeds(summary) if !self.quiet => drop(terminal::say(&seeds(&mut state, summary))),
            Event::Folds(summary) if !self.quiet => drop(terminal::say(&folds(&mut state, summary))),
            Event::Seeds(_) | Event::Folds(_) => {}
        }
    }
}
