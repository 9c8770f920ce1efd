//! `voxfit predict`: label maps for new volumes.
use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use voxfit::config::Device;

use super::{Exit, arguments};

/// Write one label map per case, on the input's own grid
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit predict runs/quickstart volumes/phantom/imagesTr -o predictions
  voxfit predict runs/hippocampus patient.nii.gz -o patient_labels.nii.gz --tta")]
pub struct PredictArgs {
    /// Run folder; the folds of one run are averaged
    run: PathBuf,
    /// Volumes or folders of them; a case of several channels has one file per channel, CASE_0000, CASE_0001, ...
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Folder for the label maps, or a .nii or .nii.gz file for one
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Which weights of the run [default: best where there are any, else last]
    #[arg(long, value_enum)]
    checkpoint: Option<Checkpoint>,
    /// Average over all mirrorings: up to 8 times slower, often a little better
    #[arg(long)]
    tta: bool,
    /// Share of a tile that neighbours have in common, 0 to 0.9
    #[arg(long, default_value_t = 0.5, value_parser = arguments::overlap)]
    overlap: f64,
    /// The most memory to hold, as in 4GiB
    #[arg(long, value_name = "M", default_value = "auto", value_parser = arguments::memory)]
    memory: String,
    /// cpu, vulkan[:N], cuda[:N] or auto
    #[arg(long, value_name = "D", default_value_t = Device::Cpu)]
    device: Device,
    /// Write the probability of every class too
    #[arg(long)]
    probabilities: bool,
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

/// The arguments of a prediction, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictOptions {
    pub run: PathBuf,
    /// Files and folders; at least one.
    pub inputs: Vec<PathBuf>,
    pub output: PathBuf,
    /// None: best where there is one, else last.
    pub checkpoint: Option<Checkpoint>,
    pub tta: bool,
    /// 0 to 0.9.
    pub overlap: f64,
    /// `auto` or a size.
    pub memory: String,
    pub device: Device,
    pub probabilities: bool,
    /// None: all.
    pub threads: Option<usize>,
}

impl TryFrom<PredictArgs> for PredictOptions {
    type Error = anyhow::Error;

    /// # Errors
    /// A run folder or an input that is not there, a device this build has not.
    fn try_from(args: PredictArgs) -> anyhow::Result<Self> {
        ensure!(args.run.is_dir(), "{}: no such folder; give the run folder of a training", args.run.display());
        for input in &args.inputs {
            ensure!(input.exists(), "{}: no such file or folder; give volumes or folders of them", input.display());
        }
        Ok(Self {
            run: args.run,
            inputs: args.inputs,
            output: args.output,
            checkpoint: args.checkpoint,
            tta: args.tta,
            overlap: args.overlap,
            memory: args.memory,
            device: arguments::usable(args.device)?,
            probabilities: args.probabilities,
            threads: args.threads,
        })
    }
}

pub fn run(args: PredictArgs) -> anyhow::Result<Exit> {
    let options = PredictOptions::try_from(args)?;
    arguments::set_threads(options.threads)?;
    bail!("{}: prediction is not in this version; the run folder and the inputs are there", options.run.display())
}
