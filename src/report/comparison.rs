//! The page about several runs: their curves in one picture, and what they were told and came to in one table.
use super::chart::{Chart, Series, colour};
use super::figures::figure;
use super::html::{self, escape};
use super::memory::mib;
use super::page::RESEARCH;
use super::record::RunRecord;
use super::words;
use crate::network::plan::Kind;
use crate::xyz;

/// HTML of several runs beside each other.
pub fn comparison(runs: &[RunRecord]) -> String {
    let title = format!("{} runs", runs.len());
    let mut body = format!(
        "<header>\n<p class=\"soft\">voxfit report</p>\n<h1>{title}</h1>\n{RESEARCH}</header>\n<main>\n<section id=\"runs\">\n\
         <h2>Side by side</h2>\n{}{}</section>\n",
        table(runs),
        spread(runs),
    );
    let series = |points: &dyn Fn(&RunRecord) -> Vec<(f64, f64)>| {
        runs.iter().map(|run| Series { name: run.name.clone(), points: points(run) }).collect::<Vec<_>>()
    };
    let loss = series(&|run| run.metrics.points.iter().map(|point| (point.middle(), point.loss())).collect());
    let looks = |run: &RunRecord| run.metrics.validations.clone();
    let dice = series(&|run| looks(run).iter().filter_map(|look| Some((look.step as f64, look.mean_dice?))).collect());
    let seen = series(&|run| {
        let batch = run.manifest.effective_batch as f64;
        looks(run).iter().filter_map(|look| Some((look.step as f64 * batch, look.mean_dice?))).collect()
    });
    let charts = [
        Chart { title: "Loss", unit: "step", note: String::new(), series: loss, bounds: None, marks: false }.draw(),
        Chart {
            title: "Mean Dice in validation",
            unit: "step",
            note: String::new(),
            series: dice,
            bounds: Some([0.0, 1.0]),
            marks: true,
        }
        .draw(),
    ];
    body += &format!("<section id=\"curves\">\n<h2>Curves</h2>\n<div class=\"pair\">\n{}</div>\n", charts.concat());
    if runs.windows(2).any(|pair| pair[0].manifest.effective_batch != pair[1].manifest.effective_batch) {
        let note = "<p class=\"soft\">A step with a larger effective batch has seen more samples. Here runs are at the same \
                    place where they have seen as many.</p>\n";
        let chart = Chart {
            title: "Mean Dice over samples seen",
            unit: "samples",
            note: note.to_owned(),
            series: seen,
            bounds: Some([0.0, 1.0]),
            marks: true,
        };
        body += &chart.draw();
    }
    body += "</section>\n";
    body += &format!("<section id=\"norms\">\n<h2>Batch and norm</h2>\n{}</section>\n", decisions(runs));
    body += &format!("</main>\n<footer>{RESEARCH}</footer>");
    html::document(&format!("{title} · voxfit"), None, &body)
}

fn table(runs: &[RunRecord]) -> String {
    let header = [
        "run",
        "state",
        "network",
        "patch",
        "norm",
        "activations",
        "effective batch",
        "micro-batch",
        "seed",
        "predicted",
        "measured",
        "a step",
        "Dice",
        "best Dice",
    ];
    let rows = runs.iter().enumerate().map(|(at, run)| {
        let manifest = &run.manifest;
        let kind = match run.plan.network.kind {
            Kind::Plain => "plain",
            Kind::ResEnc => "resenc",
        };
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "–".to_owned(), mib);
        let dice = |dice: Option<(f64, u64)>| dice.map_or_else(|| "–".to_owned(), |(dice, _)| figure(dice));
        let state = match run.is_finished() {
            true => format!("{} steps", manifest.steps),
            false => format!("step {} of {}", run.metrics.step, manifest.steps),
        };
        vec![
            format!("<span class=\"swatch {}\"></span>{}", colour(at), escape(&run.name)),
            state,
            kind.to_owned(),
            words::times(xyz(run.plan.patch)),
            format!("{:?}", manifest.norm.used).to_lowercase(),
            escape(&manifest.activations),
            manifest.effective_batch.to_string(),
            manifest.micro_batch.to_string(),
            manifest.seed.to_string(),
            bytes(manifest.planned_peak_bytes),
            bytes(run.metrics.peak_bytes),
            run.metrics.seconds_per_step().map_or_else(|| "–".to_owned(), words::time),
            dice(run.mean_dice()),
            dice(run.metrics.best()),
        ]
    });
    html::table(&header, 6, rows)
}

/// Mean and deviation of the final Dice.
fn spread(runs: &[RunRecord]) -> String {
    let spread = crate::train::Spread::new(runs.iter().map(|run| run.manifest.mean_dice.unwrap_or(f64::NAN)));
    let count = spread.values.iter().flatten().count();
    let split = runs.windows(2).any(|pair| pair[0].manifest.split_sha256 != pair[1].manifest.split_sha256);
    let split = match split {
        true => " Not all runs hold out the same cases: part of the difference is that of the cases.",
        false => "",
    };
    match (spread.mean, spread.sd) {
        (Some(mean), Some(sd)) => {
            format!("<p>Mean Dice of the {count} finished runs: {mean:.4}, standard deviation {sd:.4}.{split}</p>\n")
        }
        _ => format!("<p>{split}</p>\n"),
    }
}

/// What was decided, once where it is the same in all.
fn decisions(runs: &[RunRecord]) -> String {
    let mut groups: Vec<(Vec<String>, String)> = Vec::new();
    for run in runs {
        let text = words::decisions(run);
        match groups.iter_mut().find(|(_, known)| *known == text) {
            Some((names, _)) => names.push(escape(&run.name)),
            None => groups.push((vec![escape(&run.name)], text)),
        }
    }
    groups.iter().map(|(names, text)| format!("<h3>{}</h3>\n{text}", names.join(", "))).collect()
}
