//! A plan for a person. Triples are x, y, z.
use std::fmt::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use voxfit::config::{Activations, Auto, Recompute};
use voxfit::memory::planner::Changed;
use voxfit::network::low_resolution::{LowResolution, coverage};
use voxfit::network::plan::Kind;
use voxfit::shown;
use voxfit::train::{Plan, Probed};
use voxfit::xyz;

use super::super::terminal::{duration, size};
use super::json::seconds;

pub fn page(plan: &Plan) -> String {
    let mut text = String::new();
    let (resolved, dataset) = (&plan.planned.resolved, &plan.dataset);
    let mut say = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    say(
        "dataset",
        format!(
            "{}: {}, {}, {}",
            shown::line(&dataset.name),
            count(dataset.cases.len(), "case"),
            count(dataset.channels.len(), "channel"),
            match dataset.regions.len() {
                0 => count(dataset.classes.len(), "class"),
                regions => count(regions, "region"),
            }
        ),
    );
    say(
        "spacing",
        format!("{} mm; a median case has {} voxels", triple(resolved.preparation.spacing), triple(plan.median)),
    );
    say("patch", format!("{} voxels", triple(xyz(resolved.patch))));
    let million = plan.planned.fit.step.weights as f64 / 4e6;
    let kind = match resolved.plan.kind {
        Kind::Plain => "",
        Kind::ResEnc => "residual encoder of ",
    };
    say("network", format!("{kind}{}, {million:.1} million parameters", count(resolved.plan.stages.len(), "stage")));
    say("norm", resolved.norm.said());
    let stored = match resolved.activations {
        Activations::F32 => "f32",
        Activations::Bf16 => "bf16",
        Activations::F16 => "f16",
    };
    say("precision", format!("activations in {stored}; weights, sums and the loss in f32"));
    let (effective, micro) = (resolved.experiment.batch.effective, resolved.micro);
    say("batch", format!("{effective} samples a step, {micro} in memory at once"));
    let again = match resolved.recompute() {
        Recompute::Blocks | Recompute::Parked => "the insides of blocks are computed again in the backward pass",
        _ => "nothing beyond norms is computed again",
    };
    say("recompute", again.to_owned());
    let (step, run) = (seconds(plan), seconds(plan) * resolved.experiment.train.steps as f64);
    let [step, run] = [step, run].map(time);
    let (flop, speed) = (plan.speed.flop / 1e9, plan.speed.flop_per_second / 1e9);
    say(
        "time",
        format!(
            "about {step} a step, {run} for {} steps ({flop:.0} GFLOP a step; measured here: {speed:.0} GFLOP/s)",
            resolved.experiment.train.steps
        ),
    );
    let _ = write!(text, "\n{}\n\n{}", stages(plan), memory(plan));
    if let Some(probed) = &plan.probed {
        let _ = write!(text, "\n\n{}", probe(probed));
    }
    if let Some(changed) = &plan.planned.changed {
        let _ = write!(text, "\n\n{}", change(plan, changed));
    }
    if let Some(low) = &plan.beside {
        let _ = write!(text, "\n\n{}", beside(plan, low));
    }
    text
}

fn count(count: usize, what: &str) -> String {
    let plural = if what.ends_with('s') { "es" } else { "s" };
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}{plural}") }
}

fn triple<T: std::fmt::Display>(values: [T; 3]) -> String {
    let [x, y, z] = values.map(|value| format!("{value:.4}"));
    let short = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    format!("{} x {} x {}", short(&x), short(&y), short(&z))
}

fn stages(plan: &Plan) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["stage", "voxels", "features", "kernel", "stride"]);
    let mut size = plan.planned.resolved.patch;
    for (index, stage) in plan.planned.resolved.plan.stages.iter().enumerate() {
        size = std::array::from_fn(|axis| size[axis].div_ceil(stage.stride[axis]));
        let [kernel, stride] = [stage.kernel, stage.stride].map(|values| triple(xyz(values)));
        table.add_row([index.to_string(), triple(xyz(size)), stage.features.to_string(), kernel, stride]);
    }
    aligned(table)
}

fn memory(plan: &Plan) -> String {
    let fit = &plan.planned.fit;
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["memory", "MiB"]);
    table.add_row(["program and its data".to_owned(), mib(fit.around())]);
    table.add_row(["weights".to_owned(), mib(fit.step.weights)]);
    for (part, bytes) in fit.step.parts.iter().filter(|(_, bytes)| *bytes > 0) {
        table.add_row([part.name().to_owned(), mib(*bytes)]);
    }
    table.add_row(["free between blocks".to_owned(), mib(fit.step.between())]);
    table.add_row([format!("in all, at its peak ({})", fit.step.place), mib(fit.peak())]);
    let budget = match (plan.planned.resolved.experiment.memory.budget, plan.room.budget) {
        (Auto::Value(budget), _) => format!("budget: {budget}"),
        (Auto::Auto, Some(budget)) => format!("budget: {}, what is free less a reserve", size(budget)),
        (Auto::Auto, None) => "budget: none, the system does not say what is free".to_owned(),
    };
    format!("{}\n{budget}", aligned(table))
}

/// Numbers to the right.
fn aligned(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

/// Short times with their decimals.
pub fn time(seconds: f64) -> String {
    match seconds {
        0.0..1.0 => format!("{seconds:.2} s"),
        1.0..60.0 => format!("{seconds:.1} s"),
        _ => duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
    }
}

fn probe(probed: &Probed) -> String {
    let (predicted, seconds) = (size(probed.predicted), time(probed.measured.seconds));
    let Some(measured) = probed.measured.peak_bytes else {
        return format!("probe: {predicted} predicted; the system does not say what was held; a step took {seconds}");
    };
    let off = 100.0 * (probed.predicted as f64 / measured as f64 - 1.0);
    let corrected = if probed.corrected { "; more than 10 % off: the plan above is corrected" } else { "" };
    format!("probe: {predicted} predicted, {} measured ({off:+.1} %); a step took {seconds}{corrected}", size(measured))
}

/// What to do where a patch shows little of a case.
fn beside(plan: &Plan, low: &LowResolution) -> String {
    let [seen, then] = [plan.coverage, coverage(low.topology.patch, low.median)].map(|share| 100.0 * share);
    let (spacing, patch) = (triple(xyz(low.spacing)), triple(xyz(low.topology.patch)));
    format!(
        "The patch shows {seen:.0} % of a median case, less than a quarter: what lies further away, the network does not \
         see. Plan a larger one (--set network.design=16GiB, in the same budget as long as it fits), or train a second \
         network at {spacing} mm, whose patch of {patch} shows {then:.0} % (--low-resolution -o FILE), and keep the one \
         that is better on the cases held out. There is no cascade of the two."
    )
}

fn change(plan: &Plan, changed: &Changed) -> String {
    let [asked, found] = changed.patch.map(|patch| triple(xyz(patch)));
    let needed = changed.needed.map_or_else(|| "more than can be counted".to_owned(), size);
    let features = match changed.features {
        [before, after] if before != after => format!(" and {after} features in place of {before}"),
        _ => String::new(),
    };
    let budget = plan.room.budget.map_or_else(String::new, |budget| format!(" in place of {}", size(budget)));
    format!(
        "NOT the network that was asked for: its patch of {asked} needs {needed}{budget} at the least. \
         Proposed: a patch of {found}{features}, the largest by the same rules that fits. The result is another one."
    )
}
