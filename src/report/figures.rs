//! Dice, HD95 and NSD of held-out cases, worst first.
use super::html::{escape, table};
use crate::evaluate::{CaseFigures, FEW, Interval, Intervals, Means, Summary};

/// Rows of the longest table; `validation/summary.json` has all.
const ROWS: usize = 400;

/// The section's content.
pub fn section(summary: &Summary) -> String {
    let classes = &summary.classes;
    let mut by_class: Vec<_> = classes.iter().collect();
    by_class.sort_by(|a, b| order(a.mean.dice, b.mean.dice));
    let mean = &summary.foreground_mean;
    let row = |name: String, mean: &Means, intervals: &Option<Intervals>, cases: usize| {
        let between = |of: fn(&Intervals) -> Interval, digits| between(intervals.as_ref().map(of), digits);
        vec![
            name,
            figure(mean.dice),
            between(|all| all.dice, 3),
            bar(mean.dice),
            millimetres(mean.hd95),
            between(|all| all.hd95, 1),
            figure(mean.nsd),
            between(|all| all.nsd, 3),
            cases.to_string(),
        ]
    };
    let rows = by_class.iter().map(|of| row(escape(&of.class.title()), &of.mean, &of.interval, of.cases));
    let last = row("<strong>mean</strong>".to_owned(), mean, &summary.foreground_interval, summary.cases.len());
    let header = ["class", "Dice", "95 %", "", "HD95, mm", "95 %", "NSD", "95 %", "cases"];
    let mut text = format!("<h3>By class</h3>\n{}", table(&header, 1, rows.chain(std::iter::once(last))));
    text += &about_intervals(summary);

    let mut cases: Vec<&CaseFigures> = summary.cases.iter().collect();
    cases.sort_by(|a, b| order(a.mean_dice(), b.mean_dice()));
    let title = |class: u16| {
        let named = classes.iter().find(|known| known.class.class == class);
        escape(&named.map_or_else(|| class.to_string(), |known| known.class.title()))
    };
    let rows = cases.iter().take(ROWS).map(|case| {
        let defined = case.classes.iter().filter(|class| !class.figures.dice.is_nan());
        let worst = defined.min_by(|a, b| a.figures.dice.total_cmp(&b.figures.dice));
        let mean_of = |of: &dyn Fn(&crate::evaluate::ClassOfCase) -> f64| {
            let values: Vec<f64> = case.classes.iter().map(of).filter(|value| !value.is_nan()).collect();
            if values.is_empty() { f64::NAN } else { values.iter().sum::<f64>() / values.len() as f64 }
        };
        let worst = worst.map_or_else(
            || "–".to_owned(),
            |class| format!("{} <span class=\"soft\">({})</span>", title(class.class), figure(class.figures.dice)),
        );
        vec![
            escape(&case.case),
            worst,
            figure(case.mean_dice()),
            bar(case.mean_dice()),
            millimetres(mean_of(&|class| class.figures.hd95)),
            figure(mean_of(&|class| class.figures.nsd)),
        ]
    });
    text += "<h3>By case, worst first</h3>\n";
    text += &table(&["case", "worst class", "mean Dice", "", "HD95, mm", "NSD"], 2, rows);
    text += &cut(cases.len());

    let mut pairs: Vec<_> =
        summary.cases.iter().flat_map(|case| case.classes.iter().map(move |of| (case, of))).collect();
    pairs.sort_by(|a, b| order(a.1.figures.dice, b.1.figures.dice));
    let all = pairs.len();
    let rows = pairs.into_iter().take(ROWS).map(|(case, of)| {
        let figures = &of.figures;
        vec![
            escape(&case.case),
            title(of.class),
            figure(figures.dice),
            millimetres(figures.hd95),
            figure(figures.nsd),
            format!("{:.2}", figures.volume_prediction),
            format!("{:.2}", figures.volume_label),
            figures.components_prediction.to_string(),
            figures.components_label.to_string(),
        ]
    });
    text += "<details><summary>Every class of every case, worst first</summary>\n";
    let header =
        ["case", "class", "Dice", "HD95, mm", "NSD", "mL predicted", "mL label", "parts predicted", "parts label"];
    text += &table(&header, 2, rows);
    text += &cut(all);
    text += "</details>\n";
    let undefined = match summary.hd95_undefined {
        0 => String::new(),
        count => format!(
            " {count} times a class was in one of the two alone: Dice and NSD are 0 then, and HD95 is not defined."
        ),
    };
    let tolerance = super::words::short(summary.tolerance_mm);
    text += &format!(
        "<p class=\"soft\">Dice: overlap, 1 is best. HD95: 95th percentile of the distances between surfaces. NSD: share of \
         surface within {tolerance} mm, 1 is best.{undefined}</p>\n"
    );
    text
}

/// What the intervals are, and how far they can be trusted.
fn about_intervals(summary: &Summary) -> String {
    if summary.foreground_interval.is_none() {
        // A run of a version that took none.
        return String::new();
    }
    let few = match summary.cases.len() {
        0 | 1 => " Of one case there is none.".to_owned(),
        cases if cases < FEW => format!(" <strong>With {cases} cases, fewer than {FEW}, they are too narrow.</strong>"),
        _ => String::new(),
    };
    format!(
        "<p class=\"soft\">95 %: where the means of as many cases drawn from these at random lie (percentile bootstrap).{few}</p>\n"
    )
}

fn between(interval: Option<Interval>, digits: usize) -> String {
    match interval {
        Some(Interval { low, high }) if low.is_finite() && high.is_finite() => {
            format!("{low:.digits$} to {high:.digits$}")
        }
        _ => "–".to_owned(),
    }
}

fn cut(all: usize) -> String {
    match all > ROWS {
        true => format!("<p class=\"soft\">The first {ROWS} of {all}; validation/summary.json has all.</p>\n"),
        false => String::new(),
    }
}

/// Ascending; what is not defined comes last.
fn order(a: f64, b: f64) -> std::cmp::Ordering {
    a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(&b))
}

pub fn figure(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { "–".to_owned() }
}

fn millimetres(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "–".to_owned() }
}

/// A Dice as a bar.
fn bar(dice: f64) -> String {
    if !dice.is_finite() {
        return String::new();
    }
    let width = 80.0 * dice.clamp(0.0, 1.0);
    format!(
        "<svg class=\"bar\" viewBox=\"0 0 80 10\" width=\"80\" height=\"10\" aria-hidden=\"true\">\
         <rect class=\"track\" width=\"80\" height=\"10\"/><rect class=\"fill c0\" width=\"{width:.1}\" height=\"10\"/></svg>"
    )
}
