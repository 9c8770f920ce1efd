//! The memory of a run as a picture: what was said beforehand, by part, and what was measured.
use std::fmt::Write;

use super::chart::{COLOURS, colour};
use super::html::{escape, table};
use super::record::RunRecord;
use super::words;

/// Width of the bars in the picture's units.
const WIDTH: f64 = 640.0;

/// The section's content.
pub fn section(run: &RunRecord) -> String {
    let manifest = &run.manifest;
    let (parts, planned) = (&manifest.planned_parts, manifest.planned_peak_bytes);
    let (steps, process) = (run.metrics.peak_bytes, run.metrics.run_peak_bytes.max(manifest.run_peak_bytes));
    let most = [planned, steps, process].into_iter().flatten().max().unwrap_or(0);
    if most == 0 {
        return "<p>Neither planned nor measured: memory is planned on the processor and measured on Linux.</p>\n"
            .to_owned();
    }
    let width = |bytes: u64| bytes as f64 / most as f64 * WIDTH;
    let mut svg = String::new();
    let mut row = 0.0;
    let mut bar = |name: &str, bytes: Option<u64>, parts: &[(String, u64)]| {
        let Some(bytes) = bytes else { return };
        let _ = write!(svg, "<text x=\"0\" y=\"{}\">{}: {}</text>", row + 14.0, escape(name), mib(bytes));
        let mut x = 0.0;
        for (at, (part, bytes)) in parts.iter().enumerate() {
            let title = format!("{}: {}", escape(part), mib(*bytes));
            let _ = write!(
                svg,
                "<rect class=\"fill {}\" x=\"{x:.2}\" y=\"{}\" width=\"{:.2}\" height=\"20\"><title>{title}</title></rect>",
                part_colour(at),
                row + 20.0,
                width(*bytes),
            );
            x += width(*bytes);
        }
        if parts.is_empty() {
            let _ = write!(
                svg,
                "<rect class=\"fill plain\" x=\"0\" y=\"{}\" width=\"{:.2}\" height=\"20\"/>",
                row + 20.0,
                width(bytes)
            );
        }
        row += 50.0;
    };
    let parts: Vec<(String, u64)> =
        parts.iter().filter(|part| part.bytes > 0).take(16).map(|part| (part.part.clone(), part.bytes)).collect();
    bar("predicted for steps", planned, &parts);
    bar("measured during steps", steps, &[]);
    // Short, as all of it has to have room on a narrow screen.
    bar("measured with validation", process, &[]);
    let difference = planned.zip(steps).map(|(planned, steps)| {
        let off = (1000.0 * (steps as f64 / planned.max(1) as f64 - 1.0)).round() / 10.0;
        format!(
            " Steps were measured to hold {} % {} than predicted.",
            words::short(off.abs()),
            if off > 0.0 { "more" } else { "less" }
        )
    });
    let legend = match parts.is_empty() {
        true => String::new(),
        false => table(
            &["predicted part", "MiB", "share"],
            1,
            parts.iter().enumerate().map(|(at, (part, bytes))| {
                vec![
                    format!("<span class=\"swatch {}\"></span>{}", part_colour(at), escape(part)),
                    format!("{:.1}", *bytes as f64 / f64::from(1 << 20)),
                    format!("{:.0} %", 100.0 * *bytes as f64 / planned.unwrap_or(1).max(1) as f64),
                ]
            }),
        ),
    };
    let process = match process {
        Some(_) => " With validation: the most that the whole process held.",
        None => "",
    };
    format!(
        "<figure class=\"memory\"><svg viewBox=\"0 0 {WIDTH} {row}\" role=\"img\" aria-label=\"memory, predicted and \
         measured\">{svg}</svg></figure>\n{legend}<p>{}{}{process}</p>\n",
        levers(run),
        difference.unwrap_or_default(),
    )
}

fn levers(run: &RunRecord) -> String {
    let again = match run.experiment.memory.recompute.value() {
        Some(how) if how.blocks() => "the insides of blocks are computed again in the backward pass",
        _ => "nothing beyond norms is computed again",
    };
    let micro = run.manifest.micro_batch;
    let samples = if micro == 1 { "1 sample is".to_owned() } else { format!("{micro} samples are") };
    format!("{samples} in memory at once, and {again}.")
}

/// Grey is left for the last.
fn part_colour(at: usize) -> String {
    if at < COLOURS { colour(at) } else { "plain".to_owned() }
}

/// MiB for a person.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
