//! `voxfit import`: weights of nnU-Net as a start for a training.
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use voxfit::exchange::{ImportOptions, import};
use voxfit::network::plan::{Kind, NetworkPlan};

use super::{Exit, terminal};

/// Read weights of nnU-Net, to start a training from
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit import nnUNet_results/.../fold_0/checkpoint_final.pth -o start.safetensors
  voxfit train my.toml --weights start.safetensors

Nothing of a .pth file is run: it is read as data, and what is no plain tensor is refused.")]
pub struct ImportArgs {
    /// checkpoint_final.pth of nnU-Net, or a safetensors file of its state dict
    file: PathBuf,
    /// The file to write, .safetensors
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Refuse weights that do not fit the network of this run folder, but for its heads
    #[arg(long, value_name = "RUN")]
    like: Option<PathBuf>,
}

pub fn run(args: ImportArgs) -> anyhow::Result<Exit> {
    ensure!(args.file.is_file(), "{}: no such file; give a .pth or .safetensors file", args.file.display());
    let options = ImportOptions { file: args.file, output: args.output, like: args.like };
    let imported = import(&options)?;
    for note in &imported.notes {
        tracing::info!("{note}");
    }
    terminal::say(&describe(&imported.network))?;
    terminal::say(&format!("{} tensors in {}", imported.tensors, options.output.display()))?;
    terminal::say(&format!("weights_sha256 {}", imported.weights_sha256))?;
    Ok(Exit::Done)
}

/// What a configuration must lead to for these weights to fit.
fn describe(network: &NetworkPlan) -> String {
    let kind = match network.kind {
        Kind::Plain => "plain",
        Kind::ResEnc => "resenc",
    };
    let features: Vec<String> = network.stages.iter().map(|stage| stage.features.to_string()).collect();
    format!(
        "network.kind = \"{kind}\", {} stages of {} features, {} in, {} out",
        network.stages.len(),
        features.join(", "),
        network.in_channels,
        network.classes
    )
}
