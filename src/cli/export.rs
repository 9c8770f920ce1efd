//! `voxfit export`: weights of a run for other programs.
use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use voxfit::exchange::{ExportOptions, Layout, export};

use super::predict::Checkpoint;
use super::{Exit, terminal};

/// Write the weights of a run for other programs
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit export runs/quickstart -o weights.safetensors
  voxfit export runs/hippocampus -o for-nnunet/weights.safetensors --layout nnunet

The layout nnunet loads with strict=True into nnU-Net's PlainConvUNet or ResidualEncoderUNet, and comes with the
plans.json and dataset.json that its predictor wants; docs/interop.md has the rest.")]
pub struct ExportArgs {
    /// Run folder of a training
    run: PathBuf,
    /// The file to write, .safetensors
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Whose names the tensors get
    #[arg(long, value_enum, default_value_t = LayoutName::Voxfit)]
    layout: LayoutName,
    /// Which weights of the run
    #[arg(long, value_enum, default_value_t = Checkpoint::Last)]
    checkpoint: Checkpoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LayoutName {
    /// voxfit's: the tensors that weights_sha256 is over
    Voxfit,
    /// nnU-Net's
    Nnunet,
}

pub fn run(args: ExportArgs) -> anyhow::Result<Exit> {
    ensure!(args.run.is_dir(), "{}: no such folder; give the run folder of a training", args.run.display());
    let options = ExportOptions {
        run: args.run,
        output: args.output,
        layout: match args.layout {
            LayoutName::Voxfit => Layout::Voxfit,
            LayoutName::Nnunet => Layout::NnUnet,
        },
        checkpoint: args.checkpoint.into(),
    };
    let exported = export(&options)?;
    for note in &exported.notes {
        tracing::info!("{note}");
    }
    for (number, file) in exported.files.iter().enumerate() {
        let what = if number == 0 { format!("{} tensors in ", exported.tensors) } else { String::new() };
        terminal::say(&format!("{what}{}", file.display()))?;
    }
    terminal::say(&format!("weights_sha256 {}", exported.weights_sha256))?;
    Ok(Exit::Done)
}
