//! `voxfit runs`: the runs under a folder, a row each.
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use voxfit::report::{ListedRun, SortBy, list};
use voxfit::shown;

use super::{Exit, terminal};

/// List and compare the runs under a folder
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit runs runs
  voxfit runs runs --sort time
  voxfit runs runs --json

Folds and seeds of one training are one row: mean Dice and its standard deviation over them.
For research use only; not a medical device.")]
pub struct RunsArgs {
    /// Folder of runs, looked through four folders deep
    folder: PathBuf,
    /// dice: best first; time: newest first; name
    #[arg(long, value_enum, value_name = "ORDER", default_value_t = Order::Dice)]
    sort: Order,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Dice,
    Time,
    Name,
}

pub fn run(args: &RunsArgs) -> anyhow::Result<Exit> {
    let sort = match args.sort {
        Order::Dice => SortBy::Dice,
        Order::Time => SortBy::Time,
        Order::Name => SortBy::Name,
    };
    let (rows, faults) = list(&args.folder, sort)?;
    for fault in faults {
        tracing::warn!("{}", shown::line(&fault));
    }
    if args.json {
        terminal::say_json(&serde_json::to_value(&rows)?)?;
    } else if rows.is_empty() {
        terminal::say(&format!("no run in {}", args.folder.display()))?;
    } else {
        terminal::say(&table(&rows))?;
        terminal::remind();
    }
    Ok(Exit::Done)
}

fn table(rows: &[ListedRun]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "run",
        "state",
        "kind",
        "patch",
        "norm",
        "type",
        "started from",
        "step",
        "batch",
        "micro",
        "MiB",
        "s/step",
        "mean Dice",
    ]);
    for row in rows {
        let steps = if row.step == row.steps { row.steps.to_string() } else { format!("{}/{}", row.step, row.steps) };
        let runs = if row.runs > 1 { format!(" ({})", row.runs) } else { String::new() };
        table.add_row([
            shown::line(&row.name) + &runs,
            row.state.clone(),
            row.kind.clone(),
            row.patch.map(|edge| edge.to_string()).join("x"),
            row.norm.clone(),
            shown::line(&row.activations),
            shown::line(&row.started_from),
            steps,
            row.effective_batch.to_string(),
            row.micro_batch.to_string(),
            row.peak_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.div_ceil(1 << 20).to_string()),
            row.seconds_per_step.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3}")),
            dice(row),
        ]);
    }
    for column in table.column_iter_mut().skip(7) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn dice(row: &ListedRun) -> String {
    let Some(mean) = row.mean_dice.mean else { return "-".to_owned() };
    let spread = row.mean_dice.sd.map_or_else(String::new, |sd| format!(" ± {sd:.4}"));
    let step = row.dice_step.map_or_else(String::new, |step| format!(" (step {step})"));
    format!("{mean:.4}{spread}{step}")
}
