//! Curves as SVG, with the values beside them for the page's script to show under the pointer.
use std::fmt::Write;

use super::html::escape;

/// Size of a chart in its own units, and of the room around its field: left, right, top, bottom.
const SIZE: [f64; 2] = [480.0, 270.0];
const ROOM: [f64; 4] = [52.0, 12.0, 12.0, 40.0];
/// Curves that can be told apart by colour; further ones repeat them dashed.
pub const COLOURS: usize = 8;

/// A curve: its name and points, x ascending.
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A chart over steps.
pub struct Chart<'a> {
    pub title: &'a str,
    /// What is along x: "step".
    pub unit: &'a str,
    /// What is under the curves, HTML.
    pub note: String,
    pub series: Vec<Series>,
    /// Bounds that the field stays within, where there are any.
    pub bounds: Option<[f64; 2]>,
    /// The curves' points are marked: they are few.
    pub marks: bool,
}

impl Chart<'_> {
    /// A figure; a sentence where there is no point to draw.
    pub fn draw(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let finite = || points().filter(|(x, y)| x.is_finite() && y.is_finite());
        let Some((x1, low, high)) = finite().fold(None, |range: Option<(f64, f64, f64)>, (x, y)| {
            let (x1, low, high) = range.unwrap_or((x, y, y));
            Some((x1.max(x), low.min(y), high.max(y)))
        }) else {
            return format!(
                "<figure><figcaption>{}</figcaption><p>Nothing to draw yet.</p></figure>\n",
                escape(self.title)
            );
        };
        let (x_ticks, y_ticks) = (ticks(0.0, x1.max(1.0), None), ticks(low, high, self.bounds));
        let field = Field { x: [0.0, x1.max(1.0)], y: [y_ticks[0], y_ticks[y_ticks.len() - 1]] };
        let mut svg = String::new();
        let [left, right, top, bottom] = [ROOM[0], SIZE[0] - ROOM[1], ROOM[2], SIZE[1] - ROOM[3]];
        for tick in &y_ticks {
            let y = field.at(0.0, *tick).1;
            let _ = write!(svg, "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>");
            let _ =
                write!(svg, "<text x=\"{}\" y=\"{:.1}\" class=\"end\">{}</text>", left - 6.0, y + 4.0, number(*tick));
        }
        for tick in x_ticks.iter().filter(|tick| **tick <= field.x[1]) {
            let x = field.at(*tick, 0.0).0;
            let _ = write!(svg, "<path class=\"grid\" d=\"M{x:.1} {bottom}v4\"/>");
            let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{}\" class=\"mid\">{}</text>", bottom + 17.0, number(*tick));
        }
        let _ = write!(
            svg,
            "<text x=\"{right}\" y=\"{}\" class=\"end\">{}</text><path class=\"axis\" d=\"M{left} {top}V{bottom}H{right}\"/>",
            SIZE[1] - 6.0,
            escape(self.unit)
        );
        let (mut legend, mut data) = (String::new(), Vec::new());
        for (at, series) in self.series.iter().enumerate() {
            let class = colour(at);
            let placed: Vec<(f64, f64)> = series
                .points
                .iter()
                .filter(|(x, y)| x.is_finite() && y.is_finite())
                .map(|&(x, y)| field.at(x, y))
                .collect();
            let path: Vec<String> = placed.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            if placed.len() > 1 {
                let _ = write!(svg, "<path class=\"line {class}\" d=\"M{}\"/>", path.join("L"));
            }
            if self.marks || placed.len() == 1 {
                for (x, y) in &placed {
                    let _ = write!(svg, "<circle class=\"mark {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
                }
            }
            let _ = write!(legend, "<li><span class=\"swatch {class}\"></span>{}</li>", escape(&series.name));
            data.push(serde_json::json!({
                "name": series.name,
                "points": series.points.iter().map(|&(x, y)| [rounded(x), rounded(y)]).collect::<Vec<_>>(),
            }));
        }
        let legend = if self.series.len() > 1 { format!("<ul class=\"legend\">{legend}</ul>") } else { String::new() };
        let data = serde_json::json!({
            "unit": self.unit, "x": field.x, "y": field.y, "field": [left, right, top, bottom], "width": SIZE[0], "series": data,
        });
        format!(
            "<figure class=\"chart\" data-chart=\"{}\">\n<figcaption>{title}</figcaption>\n\
             <svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{title}\">{svg}\
             <path class=\"cursor\" d=\"\"/></svg>\n<p class=\"readout\" aria-live=\"polite\">&#160;</p>{legend}{}\n</figure>\n",
            escape(&data.to_string()),
            SIZE[0],
            SIZE[1],
            self.note,
            title = escape(self.title),
        )
    }
}

/// The class of a curve's colour.
pub fn colour(at: usize) -> String {
    let dashed = if (at / COLOURS) % 2 == 1 { " dashed" } else { "" };
    format!("c{}{dashed}", at % COLOURS)
}

struct Field {
    x: [f64; 2],
    y: [f64; 2],
}

impl Field {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let share = |value: f64, [low, high]: [f64; 2]| (value - low) / (high - low);
        (
            ROOM[0] + share(x, self.x) * (SIZE[0] - ROOM[0] - ROOM[1]),
            SIZE[1] - ROOM[3] - share(y, self.y) * (SIZE[1] - ROOM[2] - ROOM[3]),
        )
    }
}

/// Round numbers, about five, from at or below `low` to at or above `high`, at least two of them.
fn ticks(low: f64, high: f64, bounds: Option<[f64; 2]>) -> Vec<f64> {
    // Values whose differences would vanish, or whose range cannot be counted, get a range of their own.
    let (size, least) = match bounds {
        Some([least, most]) => (most - least, 1e-3),
        None => (low.abs().max(high.abs()).max(1e-12), 1e-9),
    };
    let (low, high) = if high - low > size * least { (low, high) } else { (low - size * 0.05, high + size * 0.05) };
    let range = (high - low).min(f64::MAX / 4.0);
    let power = 10f64.powf((range / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|of| of * power).find(|step| range / step <= 5.5).unwrap_or(range);
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    let count = (last - first).clamp(1.0, 12.0) as usize;
    let all: Vec<f64> = (0..=count).map(|at| (first + at as f64) * step).collect();
    let within =
        |tick: &f64| bounds.is_none_or(|[least, most]| (least - step * 1e-6..=most + step * 1e-6).contains(tick));
    let kept: Vec<f64> = all.iter().copied().filter(within).collect();
    if kept.len() > 1 { kept } else { all }
}

/// Up to six digits that count.
fn rounded(value: f64) -> Option<f64> {
    value.is_finite().then(|| format!("{value:.5e}").parse().unwrap_or(value))
}

/// A tick's number without what rounding left.
fn number(value: f64) -> String {
    let value = rounded(value).unwrap_or(0.0);
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-4..1e7).contains(&size) => format!("{value:e}"),
        _ => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_the_values() {
        assert_eq!(ticks(0.0, 200.0, None), [0.0, 50.0, 100.0, 150.0, 200.0]);
        assert_eq!(
            ticks(0.83, 0.98, Some([0.0, 1.0])).iter().map(|tick| number(*tick)).collect::<Vec<_>>(),
            ["0.8", "0.85", "0.9", "0.95", "1"]
        );
        assert_eq!(ticks(0.99, 0.999, Some([0.0, 1.0])).last().map(|tick| number(*tick)), Some("1".into()));
        let flat = ticks(0.0, 0.0, Some([0.0, 1.0]));
        assert!(flat[0] == 0.0 && flat[flat.len() - 1] > 0.01, "{flat:?}");
        for (low, high) in [(1.0, 1.0), (-0.5, 1.7), (0.0, 0.0), (1e300, 1.7e308), (-1e-9, 3.0), (-1.7e308, 1.7e308)] {
            let ticks = ticks(low, high, None);
            assert!(ticks.len() > 1 && ticks.len() < 14 && ticks.iter().all(|tick| tick.is_finite()), "{ticks:?}");
        }
    }

    #[test]
    fn a_chart_of_anything_is_drawn() {
        let series = |points: &[(f64, f64)]| Series { name: "<b>\"".into(), points: points.to_vec() };
        let draw = |series: Vec<Series>| {
            Chart { title: "loss", unit: "step", note: String::new(), series, bounds: None, marks: false }.draw()
        };
        assert!(draw(vec![]).contains("Nothing to draw"));
        assert!(draw(vec![series(&[(1.0, f64::NAN)])]).contains("Nothing to draw"));
        let drawn = draw(vec![series(&[(1.0, 2.0), (2.0, f64::INFINITY), (3.0, -1.0)]), series(&[(2.0, 0.5)])]);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf") && !drawn.contains("<b>"), "{drawn}");
        assert!(drawn.contains("<circle"), "a point alone is no line");
    }
}
