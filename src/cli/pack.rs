//! `voxfit pack`: a run as one file to hand on.
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use voxfit::exchange::{PackOptions, pack};

use super::predict::Checkpoint;
use super::{Exit, terminal};

/// Write a run as one model file without patient data, which predict takes
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit pack runs/hippocampus -o hippocampus.voxfit
  voxfit predict hippocampus.voxfit patient.nii.gz -o patient_labels.nii.gz

In the file: weights, plan and names of classes and channels. Not in it: ids of cases, paths, figures of single cases.")]
pub struct PackArgs {
    /// Run folder; the folds in it go into the file together
    run: PathBuf,
    /// The file to write, .voxfit
    #[arg(short, long, value_name = "MODEL")]
    output: PathBuf,
    /// Which weights of the run
    #[arg(long, value_enum, default_value_t = Checkpoint::Last)]
    checkpoint: Checkpoint,
}

pub fn run(args: PackArgs) -> anyhow::Result<Exit> {
    ensure!(args.run.is_dir(), "{}: no such folder; give the run folder of a training", args.run.display());
    let options = PackOptions { run: args.run, output: args.output, checkpoint: args.checkpoint.into() };
    let networks = pack(&options)?;
    let count = networks.len();
    terminal::say(&format!("{count} network{} in {}", if count == 1 { "" } else { "s" }, options.output.display()))?;
    for network in &networks {
        terminal::say(&format!("weights_sha256 {}", network.weights_sha256))?;
    }
    Ok(Exit::Done)
}
