//! `voxfit train`: trains one experiment into a run folder.
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use voxfit::config::{Config, Device, Override, parse_duration};
use voxfit::ranks::Ranks;
use voxfit::train::{Event, Observer, Options, Outcome};

use super::screen::Screen;
use super::{Exit, Global, arguments, dry_run, interrupt, job, terminal};

/// Train, validate and write the run folder
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit train configs/quickstart.toml
  voxfit train configs/hippocampus.toml --fold each --max-time 8h --set train.learning_rate=0.02
  voxfit train configs/quickstart.toml --seeds 5

The first Ctrl-C stops in order after the current step (exit code 4; --resume goes on), the second at once.")]
pub struct TrainArgs {
    /// Configuration file
    config: PathBuf,
    /// Run folder [default: runs/CONFIG-NAME]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Dataset folder, instead of data.dataset
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Fold held out: a number, all (none is held out) or each (cross-validation) [default: data.fold]
    #[arg(long, value_name = "K|all|each", value_parser = fold)]
    fold: Option<FoldArgument>,
    /// Train with N seeds from train.seed on, the same cases held out, and report the spread of every Dice
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: Option<u64>,
    /// Go on where a run folder stopped
    #[arg(long)]
    resume: bool,
    /// Start from the weights of a file
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// cpu, vulkan[:N], cuda[:N] or auto
    #[arg(long, value_name = "D", default_value_t = Device::Cpu)]
    device: Device,
    /// The most memory to hold, as in 4GiB, instead of memory.budget
    #[arg(long, value_name = "M", value_parser = arguments::memory)]
    memory: Option<String>,
    /// Samples in memory at once, instead of batch.micro
    #[arg(long, value_name = "N", value_parser = arguments::micro_batch, allow_negative_numbers = true)]
    micro_batch: Option<i64>,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N", value_parser = arguments::threads)]
    threads: Option<usize>,
    /// Steps, instead of train.steps; the schedule follows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1_000_000_000))]
    steps: Option<i64>,
    /// Stop in order after this time, as in 90s, 30m or 2h
    #[arg(long, value_name = "T", value_parser = parse_duration)]
    max_time: Option<Duration>,
    /// Write case_001, case_002, ... instead of the cases' ids, in messages and in the run folder
    #[arg(long)]
    anonymous_cases: bool,
    /// Leave pictures of cases out of the run's report.html
    #[arg(long)]
    no_images: bool,
    /// Write scalars for TensorBoard into the run folder, too
    #[arg(long)]
    tensorboard: bool,
    /// Look at everything up to the first step, say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Set any key of the configuration, as in --set network.norm=group
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Override::parse)]
    overrides: Vec<Override>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FoldArgument {
    One(i64),
    All,
    Each,
}

fn fold(text: &str) -> Result<FoldArgument, String> {
    match text {
        "all" => Ok(FoldArgument::All),
        "each" => Ok(FoldArgument::Each),
        number => match number.parse::<u32>() {
            Ok(number) => Ok(FoldArgument::One(number.into())),
            Err(_) => Err("write a number from 0, all or each".into()),
        },
    }
}

impl TrainArgs {
    /// The arguments, validated.
    ///
    /// # Errors
    /// A configuration that is wrong, a dataset folder or weights that are not there, a device this build has not.
    fn options(self, ranks: &Ranks) -> anyhow::Result<Options> {
        let args = self;
        let mut overrides = args.overrides;
        // Arguments of their own come last: they are the more particular.
        if let Some(memory) = args.memory {
            overrides.push(Override::new(format!("--memory {memory}"), "memory.budget", memory));
        }
        if let Some(samples) = args.micro_batch {
            overrides.push(Override::new(format!("--micro-batch {samples}"), "batch.micro", samples));
        }
        if let Some(steps) = args.steps {
            overrides.push(Override::new(format!("--steps {steps}"), "train.steps", steps));
        }
        match args.fold {
            Some(FoldArgument::One(fold)) => {
                overrides.push(Override::new(format!("--fold {fold}"), "data.fold", fold));
            }
            Some(FoldArgument::All) => overrides.push(Override::new("--fold all", "data.fold", "all")),
            Some(FoldArgument::Each) | None => {}
        }
        let config = Config::load(&args.config, &overrides)?;
        let device = arguments::usable(job::device(args.device, ranks))?;
        let dataset = match args.data {
            Some(folder) => folder,
            None => config.dataset()?,
        };
        ensure!(
            dataset.is_dir(),
            "{}: no such folder; point data.dataset or --data at the dataset (`voxfit phantom DIR` writes one to try)",
            dataset.display()
        );
        if let Some(weights) = &args.weights {
            ensure!(weights.is_file(), "{}: no such file; give --weights a .safetensors file", weights.display());
            voxfit::train::refuse_foreign(weights)?;
        }
        let run = args.run.unwrap_or_else(|| PathBuf::from("runs").join(config.name()));
        let each_fold = args.fold == Some(FoldArgument::Each);
        Ok(Options {
            config,
            dataset,
            run,
            each_fold,
            seeds: args.seeds,
            anonymous_cases: args.anonymous_cases,
            resume: args.resume,
            weights: args.weights,
            device,
            max_time: args.max_time,
            images: !args.no_images,
            tensorboard: args.tensorboard,
            ranks: ranks.clone(),
        })
    }
}

pub fn run(args: TrainArgs, global: &Global, ranks: &Ranks) -> anyhow::Result<Exit> {
    arguments::set_threads(args.threads.or_else(|| job::threads(ranks)))?;
    let dry = args.dry_run;
    let options = args.options(ranks)?;
    let stop = interrupt::on_first_interrupt();
    let screen = Screen::new(global);
    if dry {
        if !ranks.is_first() {
            return Ok(Exit::Done);
        }
        let intended = voxfit::train::dry_run(&options, &screen, stop);
        screen.close();
        terminal::say(&dry_run::page(&intended?))?;
        return Ok(Exit::Done);
    }
    let outcome = match ranks.is_first() {
        true => voxfit::train::run(&options, &screen, stop),
        false => voxfit::train::run(&options, &Elsewhere { screen: &screen, options: &options }, stop),
    };
    screen.close();
    match outcome? {
        Outcome::Finished { weights_sha256, .. } if ranks.is_first() => {
            terminal::say(&format!("run folder {}", options.run.display()))?;
            terminal::say(&format!("weights_sha256 {weights_sha256}"))?;
            terminal::remind();
            Ok(Exit::Done)
        }
        Outcome::Finished { .. } => Ok(Exit::Done),
        Outcome::Stopped { step, steps, run, gone } => {
            // Before there is a run rank 0 has mostly said why it ended.
            if ranks.is_first() || (run.is_some() && ranks.stands_in()) {
                let why = if gone.is_empty() { String::new() } else { format!("{} is gone; ", gone.join(", ")) };
                let done = match run {
                    Some(_) => format!("stopped after step {step} of {steps}; the checkpoint is written"),
                    None => "stopped before the first step; what is prepared is kept".to_owned(),
                };
                let command = command_to_go_on(ranks.place().count, std::env::args().skip(1));
                terminal::say(&format!("{why}{done}. Go on with:\n  {command}"))?;
            }
            Ok(Exit::Stopped)
        }
    }
}

/// The events of a rank that does not speak.
struct Elsewhere<'a> {
    screen: &'a Screen,
    options: &'a Options,
}

impl Observer for Elsewhere<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Start { .. } = event {
            // Rank 0 has made the folder by now.
            job::open_log(&self.options.run, &self.options.ranks);
        }
        self.screen.event(event);
    }
}

/// The command as it was typed, with `--resume`: an argument left out would be another configuration.
fn command_to_go_on(ranks: usize, arguments: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=,:+@%".contains(c);
    let quoted = |text: String| match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    };
    let mut words: Vec<String> = std::iter::once("voxfit".to_owned()).chain(arguments.map(quoted)).collect();
    if !words.iter().any(|word| word == "--resume") {
        words.push("--resume".to_owned());
    }
    if ranks > 1 {
        words.insert(0, format!("mpirun -n {ranks}"));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::command_to_go_on;

    #[test]
    fn the_command_is_repeated_whole() {
        let typed = ["train", "my scan.toml", "--set", "network.patch=[8, 8, 8]", "--run", "it's"];
        let said = command_to_go_on(1, typed.map(String::from).into_iter());
        assert_eq!(said, r"voxfit train 'my scan.toml' --set 'network.patch=[8, 8, 8]' --run 'it'\''s' --resume");
        let again = command_to_go_on(3, ["train", "a.toml", "--resume"].map(String::from).into_iter());
        assert_eq!(again, "mpirun -n 3 voxfit train a.toml --resume");
    }
}
