//! `voxfit evaluate`: figures of predictions against labels.
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use voxfit::dataset::Remap;
use voxfit::evaluate::{DEFAULT_TOLERANCE_MM, FolderOptions, evaluate_folders};
use voxfit::files;
use voxfit::ranks::Ranks;

use super::{Exit, Global, terminal};

/// Compare predictions with labels: Dice, HD95, NSD, volume and connected parts per case and class
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  voxfit evaluate predictions volumes/phantom/labelsTr --json figures.json")]
pub struct EvaluateArgs {
    /// Folder of predicted label maps, or one
    predictions: PathBuf,
    /// Folder of label maps with the same names, or one
    labels: PathBuf,
    /// Write all figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one row per case and class
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Show every case, not the worst ones alone
    #[arg(long)]
    all: bool,
    /// Distance in mm within which surfaces count as the same (NSD)
    #[arg(long, value_name = "MM", default_value_t = DEFAULT_TOLERANCE_MM)]
    tolerance: f64,
    /// Exchange values of the labels before they are compared, as data.remap did in training
    #[arg(long, value_name = "FROM=TO,...")]
    remap: Vec<Remap>,
}

pub fn run(args: &EvaluateArgs, global: &Global, ranks: &Ranks) -> anyhow::Result<Exit> {
    let remap = args.remap.iter().cloned().fold(Remap::default(), Remap::and);
    let options =
        FolderOptions { tolerance_mm: args.tolerance, remap, ranks: ranks.clone(), ..FolderOptions::default() };
    let progress = terminal::Progress::new("cases", global.draws());
    let summary = evaluate_folders(&args.predictions, &args.labels, &options, &|done, total| progress.at(done, total))?;
    drop(progress);
    if !ranks.is_first() {
        return Ok(Exit::Done);
    }
    if let Some(path) = &args.json {
        write(path, summary.to_json()?.as_bytes())?;
    }
    if let Some(path) = &args.csv {
        write(path, summary.to_csv().as_bytes())?;
    }
    terminal::say(summary.to_table(stdout().is_terminal(), args.all).trim_end())?;
    Ok(Exit::Done)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    files::write_bytes(path, bytes)
        .with_context(|| format!("{} cannot be written; choose another place", path.display()))
}
