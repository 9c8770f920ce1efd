//! The page about one run.
use super::chart::{COLOURS, Chart, Series};
use super::figures::{self, figure};
use super::html::{self, escape};
use super::memory::{self, mib};
use super::pictures::{self, Pictures};
use super::record::{RunRecord, State};
use super::{parts, stages, words};

/// After how many seconds a browser looks again at the page of a run that goes on.
const REFRESH: u32 = 30;

/// [`crate::RESEARCH_USE`], on a page.
pub fn research() -> String {
    format!("<p class=\"research\">{}</p>\n", crate::RESEARCH_USE)
}

/// HTML of one run. `live`: the page is written anew while the run goes on, so that a browser should look again.
pub fn page(run: &RunRecord, pictures: &Pictures, live: bool) -> String {
    let finished = run.is_finished();
    let mut body = format!(
        "<header>\n<p class=\"soft\">voxfit report</p>\n<h1>{}</h1>\n{}{}</header>\n<main>\n",
        escape(&run.name),
        research(),
        progress(run, live),
    );
    if let Pictures::Made(made) = pictures
        && !made.is_empty()
    {
        body += "<p class=\"patients\"><strong>This page holds images of patients.</strong> Treat it as you treat their \
                 files; <code>voxfit report --no-images</code> makes one without.</p>\n";
    }
    body += &tiles(run);
    let mut section = |id: &str, title: &str, content: String| {
        body += &format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{content}</section>\n");
    };
    section("what", "What was trained on what", {
        let entries = [words::data(run), words::network(run), words::training(run)].concat();
        html::list(&entries)
    });
    section("curves", "Curves", format!("<div class=\"pair\">\n{}{}</div>\n", loss(run), dice(run)));
    section("figures", "Figures of held-out cases", {
        let mark = match run.manifest.validation_on_training_cases {
            true => {
                "<p><strong>Validation: on training cases.</strong> These figures are no measure of unseen cases.</p>\n"
            }
            false => "",
        };
        match &run.summary {
            Some(summary) => format!("{mark}{}", figures::section(summary)),
            None if finished && run.manifest.validation_cases.is_empty() => {
                "<p>No case was held out, so there are none.</p>\n".to_owned()
            }
            None if finished => format!(
                "<p>They are not there: validation/summary.json, which had those of {}, is missing.</p>\n",
                words::count(run.manifest.validation_cases.len(), "held-out case")
            ),
            None => format!("{mark}<p>They come with the final validation, over all held-out cases.</p>\n"),
        }
    });
    if let Some(findings) = &run.postprocessing {
        section("parts", "Stray parts", parts::section(findings, &run.plan));
    }
    section("pictures", "Pictures", pictures::section(pictures, &run.plan));
    section("plan", "The plan, stage by stage", stages::section(&run.plan));
    section("memory", "Memory", memory::section(run));
    section("decisions", "Batch and norm", words::decisions(run));
    section("repeat", "How to repeat it", words::repeat(run));
    body += &format!(
        "<details><summary>Configuration, every value</summary>\n<pre>{}</pre>\n</details>\n</main>\n<footer>{}</footer>",
        html::escape_lines(&run.config),
        research(),
    );
    let refresh = (live && !finished).then_some(REFRESH);
    html::document(&format!("{} · voxfit", run.name), refresh, &body)
}

fn progress(run: &RunRecord, live: bool) -> String {
    let (step, steps) = (run.metrics.step, run.manifest.steps);
    if run.is_finished() {
        return format!("<p class=\"state done\">finished, {steps} steps</p>\n");
    }
    // Written by the run itself, whose process holds the folder: what it will be by the time of reading is not known.
    let state = match live {
        true => "as of",
        false if run.state() == State::Running => "running,",
        false => "stopped after",
    };
    let left = run.metrics.seconds_per_step().map(|seconds| seconds * steps.saturating_sub(step) as f64);
    let left = left.map_or_else(String::new, |left| format!(", {} of steps left", words::time(left)));
    format!(
        "<p class=\"state\">{state} step {step} of {steps}{left}</p>\n<progress max=\"{steps}\" value=\"{step}\"></progress>\n"
    )
}

fn tiles(run: &RunRecord) -> String {
    let mut tiles = Vec::new();
    if let Some((dice, step)) = run.mean_dice() {
        let about = if run.is_finished() { "mean Dice".to_owned() } else { format!("mean Dice at step {step}") };
        tiles.push((figure(dice), about));
    }
    if let Some((dice, step)) = run.metrics.best() {
        tiles.push((figure(dice), format!("best in validation, step {step}")));
    }
    if let Some(seconds) = run.metrics.seconds_per_step() {
        tiles.push((words::time(seconds), "a step".to_owned()));
        tiles.push((words::time(run.metrics.seconds), "of steps in all".to_owned()));
    }
    if let Some(peak) = run.metrics.peak_bytes {
        tiles.push((mib(peak), "measured during steps".to_owned()));
    }
    tiles.push((format!("{:.2} M", run.manifest.parameters as f64 / 1e6), "parameters".to_owned()));
    let tile = |(value, about): &(String, String)| format!("<li><strong>{value}</strong> {about}</li>\n");
    format!("<ul class=\"tiles\">\n{}</ul>\n", tiles.iter().map(tile).collect::<String>())
}

fn loss(run: &RunRecord) -> String {
    let points = run.metrics.points.iter().map(|point| (point.middle(), point.loss())).collect();
    let per = run.metrics.per_point();
    let mut note = String::new();
    if per > 1 {
        note += &format!("<p class=\"soft\">Every point is the mean of {per} steps.</p>\n");
    }
    if run.metrics.skipped > 0 {
        note +=
            &format!("<p class=\"soft\">{} steps were skipped: the gradient overflowed.</p>\n", run.metrics.skipped);
    }
    Chart {
        title: "Loss",
        unit: "step",
        note,
        series: vec![Series { name: "loss".into(), points }],
        bounds: None,
        marks: false,
    }
    .draw()
}

/// The mean, and the classes; of many classes the worst.
fn dice(run: &RunRecord) -> String {
    let validations = &run.metrics.validations;
    let mean = validations.iter().filter_map(|look| Some((look.step as f64, look.mean_dice?))).collect();
    let mut series = vec![Series { name: "mean".into(), points: mean }];
    let mut note = String::new();
    if let Some(last) = validations.last() {
        let mut classes: Vec<_> = last.classes.iter().collect();
        classes.sort_by(|a, b| a.dice.unwrap_or(f64::MAX).total_cmp(&b.dice.unwrap_or(f64::MAX)));
        if classes.len() >= COLOURS {
            note = format!("<p class=\"soft\">The {} worst of {} classes.</p>\n", COLOURS - 1, classes.len());
        }
        classes.truncate(COLOURS - 1);
        classes.sort_by_key(|class| class.class);
        for class in classes {
            let of = |look: &super::Validation| look.classes.iter().find(|of| of.class == class.class)?.dice;
            let points = validations.iter().filter_map(|look| Some((look.step as f64, of(look)?))).collect();
            series.push(Series { name: format!("{} {}", class.class, class.name), points });
        }
        let looked = validations.iter().map(|look| look.cases).max().unwrap_or(0);
        if last.cases == looked && validations.iter().any(|look| look.cases != looked) {
            let fewer = validations.first().map_or(0, |first| first.cases);
            note += &format!(
                "<p class=\"soft\">The last point is of all {looked} held-out cases, those before of {fewer}.</p>\n"
            );
        }
    }
    Chart { title: "Dice in validation", unit: "step", note, series, bounds: Some([0.0, 1.0]), marks: true }.draw()
}
