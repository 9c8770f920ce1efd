//! The page about several runs: their curves in one picture, and what they were told and came to in one table.
use super::chart::{Chart, Series, colour};
use super::figures::figure;
use super::html::{self, escape};
use super::memory::mib;
use super::page::research;
use super::record::RunRecord;
use super::words;
use crate::network::plan::Kind;
use crate::xyz;

/// HTML of several runs beside each other.
pub fn comparison(runs: &[RunRecord]) -> String {
    let title = format!("{} runs", runs.len());
    let mut body = format!(
        "<header>\n<p class=\"soft\">voxfit report</p>\n<h1>{title}</h1>\n{}</header>\n<main>\n<section id=\"runs\">\n\
         <h2>Side by side</h2>\n{}{}</section>\n",
        research(),
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
    body += &format!("<section id=\"curves\">\n<h2>Curves</h2>\n<div class=\"pair\">\n{}", charts.concat());
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
    body += "</div>\n</section>\n";
    body += &format!("<section id=\"norms\">\n<h2>Batch and norm</h2>\n{}</section>\n", decisions(runs));
    body += &format!("</main>\n<footer>{}</footer>", research());
    html::document(&format!("{title} · voxfit"), None, &body)
}

fn table(runs: &[RunRecord]) -> String {
    let header = [
        "run",
        "Dice",
        "best Dice",
        "batch",
        "micro",
        "norm",
        "predicted",
        "measured",
        "a step",
        "patch",
        "network",
        "type",
        "seed",
        "steps",
    ];
    let rows = runs.iter().enumerate().map(|(at, run)| {
        let manifest = &run.manifest;
        let kind = match run.plan.network.kind {
            Kind::Plain => "plain",
            Kind::ResEnc => "resenc",
        };
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "–".to_owned(), mib);
        let dice = |dice: Option<(f64, u64)>| dice.map_or_else(|| "–".to_owned(), |(dice, _)| figure(dice));
        let steps = match run.is_finished() {
            true => manifest.steps.to_string(),
            false => format!("{} of {}", run.metrics.step, manifest.steps),
        };
        vec![
            format!("<span class=\"swatch {}\"></span>{}", colour(at), escape(&run.name)),
            dice(run.mean_dice()),
            dice(run.metrics.best()),
            manifest.effective_batch.to_string(),
            manifest.micro_batch.to_string(),
            manifest.norm.used.to_string(),
            bytes(manifest.planned_peak_bytes),
            bytes(run.metrics.peak_bytes),
            run.metrics.seconds_per_step().map_or_else(|| "–".to_owned(), words::time),
            words::times(xyz(run.plan.patch)),
            kind.to_owned(),
            escape(&manifest.activations),
            manifest.seed.to_string(),
            steps,
        ]
    });
    html::table(&header, 1, rows)
        + "<p class=\"soft\">Batch: the effective batch, samples a step; micro: samples in memory at once; \
        predicted and measured: the most that steps hold; Dice of a run that is not finished: of its last validation.</p>\n"
}

/// Mean and deviation of the final Dice of runs that differ by chance or by the cases held out alone.
fn spread(runs: &[RunRecord]) -> String {
    let told = |run: &RunRecord| {
        let by_chance = |line: &&str| !["seed = ", "fold = ", "split_seed = "].iter().any(|key| line.starts_with(key));
        run.config.lines().filter(by_chance).collect::<Vec<_>>().join("\n")
    };
    let same = runs.windows(2).all(|pair| told(&pair[0]) == told(&pair[1]));
    let spread = crate::train::Spread::new(runs.iter().map(|run| run.manifest.mean_dice.unwrap_or(f64::NAN)));
    let count = spread.values.iter().flatten().count();
    let mut text = String::new();
    if let (true, Some(mean), Some(sd)) = (same, spread.mean, spread.sd) {
        text += &format!(
            "<p>Folds or seeds of one training: mean Dice of the {count} finished runs {mean:.4}, standard deviation \
             {sd:.4}.</p>\n"
        );
    }
    if runs.windows(2).any(|pair| pair[0].manifest.split_sha256 != pair[1].manifest.split_sha256) {
        text += "<p>Not all runs hold out the same cases: part of the difference is that of the cases.</p>\n";
    }
    text
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
