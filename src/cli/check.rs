//! `voxfit check`: the dataset doctor.
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use voxfit::dataset::check;

use super::{Exit, terminal};

/// Name every fault of a dataset at once, with case, field and fix
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  voxfit check volumes/phantom\n\nExit code 0: no fault; 3: faults were found.")]
pub struct CheckArgs {
    /// Dataset folder in MSD or nnU-Net v2 layout
    dataset: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let shown = args.dataset.display();
    ensure!(args.dataset.is_dir(), "{shown}: no such folder; give the one that holds dataset.json");
    let findings = check::check_folder(&args.dataset);
    if args.json {
        let page = serde_json::json!({ "dataset": shown.to_string(), "findings": findings });
        terminal::say_json(&page)?;
    } else if findings.is_empty() {
        terminal::say(&format!("{shown}: no fault found"))?;
    } else {
        let faults = if findings.len() == 1 { "1 fault".into() } else { format!("{} faults", findings.len()) };
        terminal::say(&format!("{}{shown}: {faults} found", check::text(&findings)))?;
    }
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Found })
}
