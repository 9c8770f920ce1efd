//! `voxfit compare`: whether two runs are the same bit for bit, and where they part.
use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use voxfit::reproduce::{Comparison, Setting, TensorDifference, compare};

use super::{Exit, terminal};

/// Rows of a table on the screen; `--json` has all.
const ROWS: usize = 10;

/// Compare two runs bit for bit: else the first differing step, tensors and sizes
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit compare runs/first runs/second

Exit code 0: the same weights, bit for bit; 3: they differ.")]
pub struct CompareArgs {
    /// Run folder of a finished training
    run_a: PathBuf,
    /// Another
    run_b: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &CompareArgs) -> anyhow::Result<Exit> {
    let found = compare(&args.run_a, &args.run_b)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&found)?,
        false => page(&found),
    };
    terminal::say(&text)?;
    Ok(if found.same_weights { Exit::Done } else { Exit::Found })
}

fn page(found: &Comparison) -> String {
    let mut parts = Vec::new();
    if found.same_weights {
        let [steps, _] = found.steps;
        let digest = &found.weights_sha256[0];
        parts.push(format!("the same weights, bit for bit, after {}\nweights_sha256 {digest}", count(steps, "step")));
    } else {
        parts.push(format!("different weights: {}\n{}", tensors(found), steps(found)));
    }
    parts.push(told(found));
    if !found.settings.is_empty() {
        parts.push(settings(&found.settings));
    }
    if !found.differing_tensors.is_empty() {
        parts.push(table_of_tensors(&found.differing_tensors));
    }
    parts.join("\n\n")
}

fn count(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn tensors(found: &Comparison) -> String {
    format!("{} of {} tensors differ", found.differing_tensors.len(), found.tensors)
}

fn steps(found: &Comparison) -> String {
    let [a, b] = found.steps;
    let compared = found.steps_compared;
    let mut text = match found.first_differing_step {
        Some(1) => "first differing step: 1".to_owned(),
        Some(step) => format!("first differing step: {step}; the {} before give the same weights", step - 1),
        None if compared == 0 => {
            "first differing step: not known, since not both runs kept digests of steps".to_owned()
        }
        None => format!("first differing step: none of the {compared} that both have"),
    };
    if a != b {
        text += &format!("\nA has {}, B has {}", count(a, "step"), count(b, "step"));
    }
    text
}

/// What the runs were told, in one line.
fn told(found: &Comparison) -> String {
    let parts = [
        ("version", found.same_version),
        ("configuration", found.same_configuration),
        ("data", found.same_data),
        ("split", found.same_split),
    ];
    let word = |(part, same)| format!("{part} {}", if same { "the same" } else { "DIFFERENT" });
    parts.map(word).join(", ")
}

fn settings(settings: &[Setting]) -> String {
    let rows = settings.iter().map(|setting| {
        let [a, b] = setting.values.each_ref().map(|value| short(value));
        let matters = if setting.matters { "yes" } else { "no" };
        vec![setting.key.clone(), a, b, matters.to_owned()]
    });
    table(["key", "A", "B", "can change weights"], rows, 0)
}

/// Long values by their beginning: a digest is told apart by it.
fn short(value: &str) -> String {
    match value {
        "" => "-".to_owned(),
        _ if value.chars().count() > 40 => value.chars().take(16).chain("...".chars()).collect(),
        _ => value.to_owned(),
    }
}

fn table_of_tensors(tensors: &[TensorDifference]) -> String {
    let rows = tensors.iter().map(|tensor| {
        let (values, size) = match &tensor.shapes {
            [Some(_), None] => ("only in A".to_owned(), None),
            [None, Some(_)] => ("only in B".to_owned(), None),
            [a, b] if a != b => ("other shape".to_owned(), None),
            _ => (format!("{} of {}", tensor.values, tensor.of), Some([tensor.absolute, tensor.relative])),
        };
        let number = |of: Option<f64>| of.map_or_else(|| "not finite".to_owned(), |of| format!("{of:.3e}"));
        let [absolute, relative] = size.map_or([const { String::new() }; 2], |size| size.map(number));
        vec![tensor.name.clone(), values, absolute, relative]
    });
    table(["tensor", "values that differ", "largest absolute", "largest relative"], rows, 1)
}

/// Columns from `right` on, but for the first, stand to the right where they are numbers.
fn table(header: [&str; 4], rows: impl ExactSizeIterator<Item = Vec<String>>, right: usize) -> String {
    let more = rows.len().saturating_sub(ROWS);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows.take(ROWS) {
        table.add_row(row);
    }
    if right > 0 {
        for column in table.column_iter_mut().skip(right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let more = if more > 0 { format!("\n  and {more} more, which --json lists") } else { String::new() };
    table.trim_fmt() + &more
}
