//! `voxfit check`: the dataset doctor.
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use serde_json::json;
use voxfit::config::Config;
use voxfit::dataset::Remap;
use voxfit::dataset::check::{self, Asked, Report, Room, Severity};
use voxfit::dataset::split::SplitFile;

use super::terminal::{Progress, size};
use super::{Exit, Global, terminal};

/// What takes longer shows how far it is.
const LONG: Duration = Duration::from_secs(2);

/// Name every fault of a dataset at once, with case, field and fix
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  voxfit check volumes/phantom\n\nExit code 0: no fault (there may be warnings); 3: faults were found."
)]
pub struct CheckArgs {
    /// Dataset folder in MSD or nnU-Net v2 layout
    dataset: PathBuf,
    /// Look at it as a training with this configuration would
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Exchange values of label maps first, as data.remap would
    #[arg(long, value_name = "FROM=TO,...")]
    remap: Vec<Remap>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &CheckArgs, global: &Global) -> anyhow::Result<Exit> {
    let shown = args.dataset.display().to_string();
    ensure!(args.dataset.is_dir(), "{shown}: no such folder; give the one that holds dataset.json");
    let config = match &args.config {
        Some(path) => Config::load(path, &[])?,
        None => Config::parse("", Path::new(""), &[])?,
    };
    let split = config.split_file()?.map(|path| SplitFile::read(&path)).transpose()?;
    let data = config.experiment.data;
    let remap = args.remap.iter().cloned().fold(data.remap, Remap::and);
    let asked = Asked { remap, group: data.group, split, spacing: data.spacing.value().copied() };
    let progress = Progress::new("cases", global.draws());
    let start = Instant::now();
    let report = check::examine(&args.dataset, &asked, &|done, total| {
        if start.elapsed() > LONG {
            progress.at(done, total);
        }
    });
    drop(progress);
    let faults = report.count(Severity::Fault);
    match args.json {
        true => terminal::say_json(&page(&shown, &report))?,
        false => terminal::say(&format!("{}{}", check::text(&report.findings), summary(&shown, &report)))?,
    }
    Ok(if faults == 0 { Exit::Done } else { Exit::Found })
}

fn page(shown: &str, report: &Report) -> serde_json::Value {
    let [faults, warnings] = [Severity::Fault, Severity::Warning].map(|severity| report.count(severity));
    json!({ "dataset": shown, "cases": report.cases, "faults": faults, "warnings": warnings, "room": report.room,
        "findings": report.findings })
}

/// What was looked at and found, and what preparing it takes.
fn summary(shown: &str, report: &Report) -> String {
    let counted = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let [faults, warnings] = [Severity::Fault, Severity::Warning].map(|severity| report.count(severity));
    let found = match faults {
        0 => "no fault found".to_owned(),
        faults => format!("{} found", counted(faults, "fault")),
    };
    let warned = if warnings > 0 { format!(", {}", counted(warnings, "warning")) } else { String::new() };
    let gap = if report.findings.is_empty() { "" } else { "\n" };
    let mut text = format!("{gap}{shown}: {}, {found}{warned}", counted(report.cases, "case"));
    if let Some(Room { prepared_bytes, free_disk_bytes, preparing_bytes, free_memory_bytes, .. }) = report.room {
        let free = |bytes: Option<u64>| bytes.map_or(String::new(), |bytes| format!(" ({} free)", size(bytes)));
        let (disk, memory) = (size(prepared_bytes), size(preparing_bytes));
        let (disk_free, memory_free) = (free(free_disk_bytes), free(free_memory_bytes));
        text += &format!("\nto prepare them: about {disk} of disk{disk_free}, up to {memory} of memory{memory_free}");
    }
    text
}
