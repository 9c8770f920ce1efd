//! `voxfit predict`: label maps for new volumes.
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use voxfit::config::{Auto, ByteSize, Device};
use voxfit::predict::{CheckpointName, Failure, Observer, Options, PredictError};
use voxfit::ranks::Ranks;

use super::terminal::Progress;
use super::{Exit, Global, arguments, interrupt, job, terminal};

/// Write one label map per case, on the input's own grid
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit predict runs/quickstart volumes/phantom/imagesTr -o predictions
  voxfit predict runs/hippocampus patient.nii.gz -o patient_labels.nii.gz --tta
  voxfit predict runs/whole-body ct.nii.gz -o ct_labels.nii.gz --memory 512MiB")]
pub struct PredictArgs {
    /// Run folder, whose folds are averaged, or a model file of `voxfit pack`
    run: PathBuf,
    /// Volumes or folders of them; a case of several channels has one file per channel, CASE_0000, CASE_0001, ...
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Folder for the label maps, or a .nii or .nii.gz file for one
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Which weights of the run [default: last]
    #[arg(long, value_enum)]
    checkpoint: Option<Checkpoint>,
    /// Average over all mirrorings: up to 8 times slower, often a little better [default: as the run's predict.mirror]
    #[arg(long)]
    tta: bool,
    /// Predict once and not over all mirrorings, whatever the run's predict.mirror
    #[arg(long, conflicts_with = "tta")]
    no_tta: bool,
    /// Share of a tile that neighbours have in common, 0 to 0.9
    #[arg(long, default_value_t = 0.5, value_parser = arguments::overlap)]
    overlap: f64,
    /// The most that the process may hold, as in 4GiB; what has no room lies in files beside the output, and the result is
    /// the same. auto is what the system has to give
    #[arg(long, value_name = "M", default_value = "auto", value_parser = arguments::budget)]
    memory: Auto<ByteSize>,
    /// cpu, vulkan[:N], cuda[:N] or auto
    #[arg(long, value_name = "D", default_value_t = Device::Cpu)]
    device: Device,
    /// Write the probability of every class too
    #[arg(long)]
    probabilities: bool,
    /// Keep stray parts where the run's validation showed that removing all but the largest raises Dice
    #[arg(long)]
    no_postprocessing: bool,
    /// Predict cases, too, whose label maps are there, made of the same files by the same weights and options
    #[arg(long)]
    again: bool,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N", value_parser = arguments::threads)]
    threads: Option<usize>,
}

/// Weights of a run folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Checkpoint {
    /// Of the highest mean Dice in validation
    Best,
    /// Of the last step
    Last,
}

impl From<Checkpoint> for CheckpointName {
    fn from(checkpoint: Checkpoint) -> Self {
        match checkpoint {
            Checkpoint::Best => Self::Best,
            Checkpoint::Last => Self::Last,
        }
    }
}

impl PredictArgs {
    /// The arguments, validated.
    ///
    /// # Errors
    /// A run folder or an input that is not there, a device this build has not.
    fn options(self, ranks: &Ranks) -> anyhow::Result<Options> {
        let args = self;
        ensure!(args.run.exists(), "{}: no such folder; give the run folder of a training", args.run.display());
        ensure!(
            args.run.is_dir() || args.checkpoint.is_none(),
            "{}: a model file holds one set of weights; leave out --checkpoint",
            args.run.display()
        );
        for input in &args.inputs {
            ensure!(input.exists(), "{}: no such file or folder; give volumes or folders of them", input.display());
        }
        Ok(Options {
            run: args.run,
            inputs: args.inputs,
            output: args.output,
            checkpoint: args.checkpoint.unwrap_or(Checkpoint::Last).into(),
            tta: (args.tta || args.no_tta).then_some(args.tta),
            overlap: args.overlap,
            device: arguments::usable(job::device(args.device, ranks))?,
            probabilities: args.probabilities,
            postprocessing: !args.no_postprocessing,
            again: args.again,
            memory: args.memory,
            ranks: ranks.clone(),
        })
    }
}

pub fn run(args: PredictArgs, global: &Global, ranks: &Ranks) -> anyhow::Result<Exit> {
    arguments::set_threads(args.threads.or_else(|| job::threads(ranks)))?;
    let options = args.options(ranks)?;
    let stop = interrupt::on_first_interrupt();
    let screen = Screen {
        progress: OnceLock::new(),
        draws: global.draws(),
        warned: AtomicBool::new(false),
        cases: AtomicUsize::new(0),
    };
    let outcome = voxfit::predict::run(&options, &screen, stop);
    let cases = screen.cases.load(Ordering::Relaxed);
    drop(screen);
    match outcome {
        Ok(_) if !ranks.is_first() => Ok(Exit::Done),
        Ok(record) if record.failed.is_empty() => {
            terminal::say(&format!(
                "{cases} label map{} in {}",
                if cases == 1 { "" } else { "s" },
                options.output.display()
            ))?;
            terminal::remind();
            Ok(Exit::Done)
        }
        Ok(record) => {
            for Failure { case, error, .. } in &record.failed {
                tracing::error!("{}", voxfit::shown::line(&format!("{case}: {error}")));
            }
            bail!("{}", failed(&record.failed, &options.output));
        }
        Err(PredictError::Stopped) if !ranks.stands_in() => Ok(Exit::Stopped),
        Err(PredictError::Stopped) => {
            terminal::say("stopped; the label maps written so far are whole. The same command goes on.")?;
            Ok(Exit::Stopped)
        }
        Err(error) => Err(error.into()),
    }
}

/// Names that the last line has room for.
const NAMED: usize = 20;

fn failed(failures: &[Failure], output: &Path) -> String {
    let names: Vec<&str> = failures.iter().take(NAMED).map(|failure| failure.case.as_str()).collect();
    let more = match failures.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{} case(s) could not be predicted: {}{more}; mend them and give the same command, which leaves what is done in {}",
        failures.len(),
        names.join(", "),
        output.display()
    )
}

/// Shows progress.
struct Screen {
    /// From the first case on.
    progress: OnceLock<Progress>,
    draws: bool,
    /// That it will take long.
    warned: AtomicBool,
    /// That were asked for.
    cases: AtomicUsize,
}

/// What takes longer is said once.
const LONG: Duration = Duration::from_secs(3600);

impl Observer for Screen {
    fn start(&self, wanted: usize, all: usize) {
        self.cases.store(all, Ordering::Relaxed);
        if wanted < all {
            let there = all - wanted;
            tracing::info!(
                "{there} of {all} cases are there, made of the same files by the same weights and options: skipped \
                 (--again predicts them again)"
            );
        }
        self.progress.get_or_init(|| Progress::of_parts("cases", self.draws));
    }

    fn part(&self, done: usize, total: usize, part: f64) {
        let Some(progress) = self.progress.get() else { return };
        progress.part(done, total, part);
        // One whole case tells enough of the others.
        let left = progress.left((done as f64 + part) / total.max(1) as f64);
        if let Some(left) =
            left.filter(|left| *left > LONG && done > 0 && done < total && !self.warned.swap(true, Ordering::Relaxed))
        {
            let text = format!("{} cases are left, about {}", total - done, terminal::duration(left));
            progress.above(|| tracing::warn!("{text}; what is done stays done if it is stopped"));
        }
    }

    fn warning(&self, text: &str) {
        let text = voxfit::shown::line(text);
        match self.progress.get() {
            Some(progress) => progress.above(|| tracing::warn!("{text}")),
            None => tracing::warn!("{text}"),
        }
    }
}
