//! `voxfit train`: trains one experiment into a run folder.
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;
use voxfit::config::{Config, Device, Override, parse_duration};

use super::{Exit, arguments};

/// Train, validate and write the run folder
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit train configs/quickstart.toml
  voxfit train configs/hippocampus.toml --fold each --max-time 8h --set train.learning_rate=0.02

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

/// The arguments of a training, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// The file with every argument that replaces one of its keys set over it.
    pub config: Config,
    /// The dataset's folder: `--data`, else that of the configuration, expanded.
    pub dataset: PathBuf,
    /// The run folder.
    pub run: PathBuf,
    /// Cross-validation: every fold into `run/fold_K`.
    pub each_fold: bool,
    pub resume: bool,
    pub weights: Option<PathBuf>,
    pub device: Device,
    /// None: all.
    pub threads: Option<usize>,
    pub max_time: Option<Duration>,
}

impl TryFrom<TrainArgs> for TrainOptions {
    type Error = anyhow::Error;

    /// # Errors
    /// A configuration that is wrong, a dataset folder or weights that are not there, a device this build has not.
    fn try_from(args: TrainArgs) -> anyhow::Result<Self> {
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
        let device = arguments::usable(args.device)?;
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
        }
        let run = args.run.unwrap_or_else(|| PathBuf::from("runs").join(config.name()));
        let each_fold = args.fold == Some(FoldArgument::Each);
        Ok(Self {
            config,
            dataset,
            run,
            each_fold,
            resume: args.resume,
            weights: args.weights,
            device,
            threads: args.threads,
            max_time: args.max_time,
        })
    }
}

pub fn run(args: TrainArgs) -> anyhow::Result<Exit> {
    let options = TrainOptions::try_from(args)?;
    arguments::set_threads(options.threads)?;
    bail!(
        "{}: training is not in this version; the configuration and the dataset's folder are right",
        options.run.display()
    )
}
