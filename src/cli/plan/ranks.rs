//! The step by several ranks: what each holds, what goes over the network, and how long it takes at the most.
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use voxfit::train::{Plan, SharedPlan};

use super::super::terminal::size;
use super::json::seconds;
use super::table::time;

/// Gbit/s.
const NETWORKS: [f64; 3] = [1.0, 10.0, 100.0];
/// Of what a network is called, the share that programs get of it.
const SHARE: f64 = 0.9;

/// Seconds of a step with nothing of the exchange hidden behind the last backward pass.
fn step(plan: &Plan, shared: &SharedPlan, gigabits: f64) -> f64 {
    let effective = plan.planned.resolved.experiment.batch.effective;
    let computing = seconds(plan) * shared.samples as f64 / effective as f64;
    computing + 8.0 * shared.traffic as f64 / (SHARE * gigabits * 1e9)
}

pub fn page(plan: &Plan, most: usize) -> String {
    let mut table = Table::new();
    let head = ["ranks", "samples each", "memory each", "sent a step"].map(str::to_owned);
    let networks = NETWORKS.map(|gigabits| format!("step, {gigabits} Gbit/s"));
    table.load_style(presets::NOTHING).set_header([&head[..], &networks[..]].concat());
    for shared in plan.shared_among(most) {
        let peak = shared.peak.map_or_else(|| "over budget".to_owned(), size);
        let mut row = vec![shared.ranks.to_string(), shared.samples.to_string(), peak, size(shared.traffic)];
        row.extend(NETWORKS.map(|gigabits| time(step(plan, &shared, gigabits))));
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{}\nOne rank on each of machines like this one, by mpirun; the result is the same for any number. Memory is of the \
         rank that holds the most; times are those of a step without what the last backward pass hides of the network.",
        table.trim_fmt()
    )
}

pub fn rows(plan: &Plan, most: usize) -> Vec<Value> {
    let row = |shared: &SharedPlan| {
        json!({ "ranks": shared.ranks, "samples": shared.samples, "predicted_peak_bytes": shared.peak,
            "sent_bytes_per_step": shared.traffic,
            "seconds_per_step": NETWORKS.map(|gigabits| json!({ "gbit_per_second": gigabits,
                "seconds": step(plan, shared, gigabits) })) })
    };
    plan.shared_among(most).iter().map(row).collect()
}
