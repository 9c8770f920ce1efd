//! The pictures of docs/evidence.md: `cargo bench --bench evidence -- pictures`.
//!
//! A line `![TITLE](images/NAME.svg)` of the page stands before the table that it shows: one point for each seed (or the mean,
//! where one seed was trained), so that page and picture cannot differ. The curves of equivalence come out of their runs.
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

const WIDTH: f64 = 720.0;
/// Where the field lies, left and right.
const FIELD: [f64; 2] = [260.0, 700.0];
const ROW: f64 = 24.0;
const COLOURS: [&str; 4] = ["#9ecae9", "#f58518", "#54a24b", "#1b1b1b"];
/// Curves that lie on each other are told apart by their widths.
const WIDTHS: [f64; 4] = [11.0, 7.0, 4.0, 1.2];

/// Draws all of them; `run` is the folder of a table's row.
///
/// # Errors
/// A page or a run that cannot be read, a picture that cannot be written.
pub fn draw(root: &Path, run: impl Fn(&str, &str) -> PathBuf) -> Result<(), Box<dyn Error>> {
    let page = fs::read_to_string(root.join("docs/evidence.md"))?;
    let mut rest = page.lines();
    while let Some(line) = rest.next() {
        let Some((title, file)) = line.strip_prefix("![").and_then(|line| line.strip_suffix(')')?.split_once("]("))
        else {
            continue;
        };
        let picture = if file.contains("equivalence") {
            curves(title, |row| run("equivalence", row))?
        } else {
            let table = rest.clone().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
            points(title, &table.map(cells).collect::<Vec<_>>()).ok_or_else(|| format!("{file}: no table below it"))?
        };
        fs::write(root.join("docs").join(file), picture)?;
        println!("docs/{file}");
    }
    Ok(())
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('*')).collect()
}

/// Rows of a table over an axis of Dice.
fn points(title: &str, table: &[Vec<&str>]) -> Option<String> {
    let head = table.first()?;
    let mean = head.iter().position(|cell| cell.starts_with("mean Dice"))?;
    let seeds = head.iter().position(|cell| cell.starts_with("seeds"));
    let numbers = |row: &[&str], at: usize| -> Vec<f64> {
        let words = row.get(at).into_iter().flat_map(|cell| cell.split([',', ' ']));
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let name = |row: &[&str]| match head.first() {
        Some(first) if first.starts_with("effective batch") => format!("effective batch {}", row[0]),
        _ if head.get(2) == Some(&"micro-batch") && row[2] != "any" => format!("{}, micro-batch {}", row[0], row[2]),
        _ => row[0].to_owned(),
    };
    let rows: Vec<(String, f64, Vec<f64>)> = table
        .iter()
        .skip(2)
        .filter_map(|row| {
            let mean = *numbers(row, mean).first()?;
            Some((name(row), mean, seeds.map(|at| numbers(row, at)).unwrap_or_default()))
        })
        .collect();
    let all = || rows.iter().flat_map(|(_, mean, seeds)| seeds.iter().chain([mean]).copied());
    let (low, high) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
    // The finest whose labels do not touch.
    let step = [0.005, 0.01, 0.02].into_iter().find(|step| high - low < 9.0 * step).unwrap_or(0.05);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    let at = |dice: f64| {
        let share = (dice / step - first as f64) / (last - first).max(1) as f64;
        FIELD[0] + share * (FIELD[1] - FIELD[0])
    };
    let height = 40.0 + ROW * rows.len() as f64 + 26.0;
    let mut svg = begin(title, height);
    for tick in first..=last {
        let (x, dice) = (at(tick as f64 * step), tick as f64 * step);
        write!(svg, "<path stroke=\"#dddddd\" d=\"M{x:.1} 32V{:.1}\"/>", height - 26.0).ok()?;
        write!(svg, "<text text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{dice:.3}</text>", height - 10.0).ok()?;
    }
    for (number, (name, mean, seeds)) in rows.iter().enumerate() {
        let y = 40.0 + ROW * (number as f64 + 0.5);
        write!(svg, "<text text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{name}</text>", FIELD[0] - 12.0, y + 4.0).ok()?;
        for dice in seeds {
            write!(
                svg,
                "<circle r=\"4\" fill=\"#4c78a8\" fill-opacity=\"0.6\" cx=\"{:.1}\" cy=\"{y:.1}\"/>",
                at(*dice)
            )
            .ok()?;
        }
        let x = at(*mean);
        if seeds.is_empty() {
            write!(svg, "<circle r=\"5\" fill=\"#4c78a8\" cx=\"{x:.1}\" cy=\"{y:.1}\"/>").ok()?;
        } else {
            write!(svg, "<path stroke=\"#1b1b1b\" stroke-width=\"2\" d=\"M{x:.1} {:.1}v16\"/>", y - 8.0).ok()?;
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// The loss of the four cuts with group norm, on each other.
fn curves(title: &str, run: impl Fn(&str) -> PathBuf) -> Result<String, Box<dyn Error>> {
    let names = ["8 x 1", "4 x 2", "2 x 4", "1 x 8"];
    let mut all = Vec::new();
    for name in names {
        let file = run(&format!("group norm, {name}")).join("metrics.jsonl");
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let steps = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["loss"].as_f64());
        all.push(steps.collect::<Vec<f64>>());
    }
    let [left, right, top, bottom] = [60.0, 700.0, 40.0, 260.0];
    let losses = || all.iter().flatten().copied();
    let (low, high) = (losses().fold(f64::MAX, f64::min), losses().fold(f64::MIN, f64::max));
    let (first, last) = ((low / 0.2).floor(), (high / 0.2).ceil());
    let y = |loss: f64| bottom - (loss / 0.2 - first) / (last - first).max(1.0) * (bottom - top);
    let mut svg = begin(title, 300.0);
    for tick in first as i64..=last as i64 {
        let loss = tick as f64 * 0.2;
        write!(svg, "<path stroke=\"#dddddd\" d=\"M{left} {:.1}H{right}\"/>", y(loss))?;
        write!(svg, "<text text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{loss:.1}</text>", left - 8.0, y(loss) + 4.0)?;
    }
    write!(
        svg,
        "<text text-anchor=\"end\" x=\"{right}\" y=\"{}\">loss over {} steps</text>",
        bottom + 24.0,
        all[0].len()
    )?;
    for (number, steps) in all.iter().enumerate() {
        let (colour, width) = (COLOURS[number], WIDTHS[number]);
        let x = |step: usize| left + (right - left) * step as f64 / steps.len().saturating_sub(1).max(1) as f64;
        let path: Vec<String> =
            steps.iter().enumerate().map(|(step, loss)| format!("{:.1} {:.1}", x(step), y(*loss))).collect();
        let style = format!("fill=\"none\" stroke-linejoin=\"round\" stroke=\"{colour}\" stroke-width=\"{width}\"");
        write!(svg, "<path {style} d=\"M{}\"/>", path.join("L"))?;
        let key = left + 110.0 * number as f64;
        write!(svg, "<path {style} d=\"M{key} {0}h24\"/>", bottom + 20.0)?;
        write!(svg, "<text x=\"{}\" y=\"{}\">{}</text>", key + 32.0, bottom + 24.0, names[number])?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn begin(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"12\" y=\"20\" font-size=\"14\" \
         font-weight=\"bold\">{title}</text>"
    )
}
