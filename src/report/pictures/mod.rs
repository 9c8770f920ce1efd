//! Pictures of held-out cases: three planes, the label filled, the prediction as a line.
mod make;
mod paint;
mod png;

use std::fmt::Write;

use super::figures::figure;
use super::html::{data_address, escape};
use crate::evaluate::Summary;
use crate::train::LoadedRun;

pub use make::{Source, of_case, of_run};
pub use paint::COLOURS;

/// Pictures for a page, or why there are none (a sentence).
pub enum Pictures {
    /// Cases, the worst first; empty where none was held out.
    Made(Vec<CasePictures>),
    /// For a page: why there are none.
    LeftOut(String),
}

/// One case in three planes.
pub struct CasePictures {
    /// "worst", "median" or "best".
    pub role: &'static str,
    /// The case's id, or its number.
    pub case: String,
    /// Mean over its classes.
    pub dice: f64,
    /// Axial, coronal, sagittal.
    pub planes: Vec<Plane>,
}

/// Slices along one axis.
pub struct Plane {
    /// "axial", "coronal" or "sagittal".
    pub name: &'static str,
    /// Which side is where.
    pub sides: &'static str,
    /// Of a slice, in mm.
    pub size: [f64; 2],
    /// Voxels along the axis.
    pub of: usize,
    /// In ascending order along the axis.
    pub slices: Vec<Slice>,
    /// The slice that shows most.
    pub first: usize,
}

/// A slice as three PNG files on each other.
pub struct Slice {
    /// Voxel along the axis, from 0.
    pub at: usize,
    /// The first channel, opaque.
    pub grey: Vec<u8>,
    /// Classes filled, the rest transparent.
    pub label: Vec<u8>,
    /// Outlines of classes, the rest transparent.
    pub prediction: Vec<u8>,
}

/// A case to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// `worst`, `median` or `best`; `the only` of one.
    pub role: &'static str,
    /// The case's id.
    pub case: String,
    /// Mean over its classes.
    pub dice: f64,
}

/// Worst, median and best by mean Dice; fewer where there are fewer.
pub fn choose(summary: &Summary) -> Vec<Chosen> {
    let mut cases: Vec<(f64, &str)> = summary.cases.iter().map(|case| (case.mean_dice(), case.case.as_str())).collect();
    cases.retain(|(dice, _)| !dice.is_nan());
    cases.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
    let last = cases.len().saturating_sub(1);
    let mut chosen: Vec<(usize, &'static str)> = vec![(0, "worst"), (last / 2, "median"), (last, "best")];
    if cases.len() == 2 {
        chosen.remove(1);
    }
    if cases.len() == 1 {
        chosen = vec![(0, "the only")];
    }
    let of = |(at, role): (usize, &'static str)| {
        cases.get(at).map(|(dice, case)| Chosen { role, case: (*case).to_owned(), dice: *dice })
    };
    chosen.into_iter().filter_map(of).collect()
}

/// The section's content.
pub fn section(pictures: &Pictures, plan: &LoadedRun) -> String {
    let made = match pictures {
        Pictures::LeftOut(why) => return format!("<p>{}</p>\n", escape(why)),
        Pictures::Made(made) if made.is_empty() => {
            return "<p>No case was held out, so there are none.</p>\n".to_owned();
        }
        Pictures::Made(made) => made,
    };
    let mut text = String::from(
        "<p class=\"layers\"><label><input type=\"checkbox\" name=\"label\" checked> label, filled</label> \
         <label><input type=\"checkbox\" name=\"prediction\" checked> prediction, as a line</label></p>\n<ul class=\"legend\">",
    );
    for (value, class) in plan.classes.iter().enumerate().skip(1).take(40) {
        let _ = write!(
            text,
            "<li><span class=\"swatch p{}\"></span>{value} {}</li>",
            (value - 1) % COLOURS + 1,
            escape(class)
        );
    }
    text += "</ul>\n";
    for case in made {
        let _ = write!(
            text,
            "<div class=\"case\">\n<h3>{} case: {}, mean Dice {}</h3>\n<div class=\"planes\">\n",
            escape(case.role),
            escape(&case.case),
            figure(case.dice)
        );
        for plane in &case.planes {
            text += &drawn(plane, &case.case);
        }
        text += "</div>\n</div>\n";
    }
    text += "<p class=\"soft\">The first channel, cut to what is outlined and its surroundings. The patient's right is on the \
             left, as in radiology; sagittal slices look from the side, the front on the left.</p>\n";
    text
}

fn drawn(plane: &Plane, case: &str) -> String {
    let [width, height] = plane.size;
    let mut slices = String::new();
    let named = |at: usize| format!("{} of {}", at + 1, plane.of);
    for (at, slice) in plane.slices.iter().enumerate() {
        let hidden = if at == plane.first { "" } else { " hidden" };
        let _ = write!(
            slices,
            "<svg class=\"slice\" data-at=\"{}\" viewBox=\"0 0 {width:.2} {height:.2}\" role=\"img\" aria-label=\"{} slice {}\"{hidden}>",
            named(slice.at),
            plane.name,
            named(slice.at)
        );
        for (class, png) in [("grey", &slice.grey), ("label", &slice.label), ("prediction", &slice.prediction)] {
            let _ = write!(
                slices,
                "<image class=\"{class}\" width=\"{width:.2}\" height=\"{height:.2}\" preserveAspectRatio=\"none\" href=\"{}\"/>",
                data_address(png)
            );
        }
        slices += "</svg>\n";
    }
    let first = plane.slices.get(plane.first).map_or(0, |slice| slice.at);
    let slider = match plane.slices.len() {
        0 | 1 => String::new(),
        count => format!(
            "<input type=\"range\" min=\"0\" max=\"{}\" value=\"{}\" step=\"1\" autocomplete=\"off\" aria-label=\"{} slice of {}\">\n",
            count - 1,
            plane.first,
            plane.name,
            escape(case)
        ),
    };
    format!(
        "<figure class=\"plane\">\n<div class=\"view\">{slices}</div>\n{slider}<figcaption class=\"soft\">{} <span \
         class=\"number\">{}</span>, {}</figcaption>\n</figure>\n",
        plane.name,
        named(first),
        plane.sides
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{CaseFigures, ClassFigures, ClassOfCase};

    #[test]
    fn worst_median_and_best_are_chosen() {
        let case = |name: &str, dice: f64| CaseFigures {
            case: name.into(),
            classes: vec![ClassOfCase { class: 1, figures: ClassFigures { dice, ..ClassFigures::absent() } }],
        };
        let of = |cases: &[(&str, f64)]| {
            let cases = cases.iter().map(|(name, dice)| case(name, *dice)).collect();
            choose(&Summary::new(cases, &[], 1.0))
                .iter()
                .map(|chosen| (chosen.role, chosen.case.clone()))
                .collect::<Vec<_>>()
        };
        let named = |names: &[(&'static str, &str)]| {
            names.iter().map(|(role, case)| (*role, case.to_string())).collect::<Vec<_>>()
        };
        let all = [("a", 0.9), ("b", f64::NAN), ("c", 0.1), ("d", 0.5), ("e", 0.95), ("f", 0.6)];
        assert_eq!(of(&all), named(&[("worst", "c"), ("median", "f"), ("best", "e")]));
        assert_eq!(of(&all[..3]), named(&[("worst", "c"), ("best", "a")]));
        assert_eq!(of(&all[..2]), named(&[("the only", "a")]));
        assert_eq!(of(&all[1..2]), []);
    }
}
