//! A summary as CSV and as tables on the screen.
use comfy_table::{CellAlignment, Table, presets};

use super::interval::{FEW, Interval, Intervals};
use super::{CaseFigures, ClassFigures, Means, Summary};
use crate::shown::{csv, line};

/// Rows of cases on the screen, unless all are asked for.
const ROWS: usize = 20;

impl Summary {
    /// One row per case and class, under the names in its first line; what is not defined is empty. Names that a
    /// spreadsheet would take for a formula have an apostrophe before them.
    pub fn to_csv(&self) -> String {
        let mut text = String::from(
            "case,class,name,dice,hd95_mm,nsd,volume_prediction_ml,volume_label_ml,components_prediction,components_label\n",
        );
        for case in &self.cases {
            for (class, of_case) in self.classes.iter().zip(&case.classes) {
                let figures = &of_case.figures;
                let fields = [
                    csv(&case.case),
                    of_case.class.to_string(),
                    csv(&class.class.name),
                    full(figures.dice),
                    full(figures.hd95),
                    full(figures.nsd),
                    full(figures.volume_prediction),
                    full(figures.volume_label),
                    figures.components_prediction.to_string(),
                    figures.components_label.to_string(),
                ];
                text.push_str(&fields.join(","));
                text.push('\n');
            }
        }
        text
    }

    /// Cases with their classes, the worst first and, without `all`, about as many rows as a screen has; the mean of each
    /// class and of the foreground, with their intervals; and what else is to be known. With lines in it for a
    /// terminal, spaces alone for a file.
    pub fn to_table(&self, terminal: bool, all: bool) -> String {
        let mut text = self.table_of_cases(terminal, all);
        text.push_str("\n\n");
        text.push_str(&self.table_of_means(terminal));
        text.push_str(&self.remarks());
        text
    }

    fn table_of_cases(&self, terminal: bool, all: bool) -> String {
        let mut table = new_table(terminal);
        table.set_header(["case", "class", "Dice", "HD95 mm", "NSD", "mL", "label mL", "parts", "label parts"]);
        let cases = self.worst_first();
        let most = if all { cases.len() } else { (ROWS / self.classes.len().max(1)).max(1) };
        for case in cases.iter().take(most) {
            self.rows_of(case).into_iter().for_each(|row| {
                table.add_row(row);
            });
        }
        right_from(&mut table, 2);
        let mut text = table.trim_fmt();
        if let Some(left) = cases.len().checked_sub(most).filter(|left| *left > 0) {
            text.push_str(&format!("\n{left} better case(s) are not shown; --all shows them."));
        }
        text
    }

    fn rows_of(&self, case: &CaseFigures) -> Vec<Vec<String>> {
        let row = |(class, of_case): (&super::ClassMeans, &super::ClassOfCase)| {
            let figures: &ClassFigures = &of_case.figures;
            vec![
                line(&case.case),
                line(&class.class.title()),
                short(figures.dice, 4),
                short(figures.hd95, 2),
                short(figures.nsd, 4),
                short(figures.volume_prediction, 2),
                short(figures.volume_label, 2),
                figures.components_prediction.to_string(),
                figures.components_label.to_string(),
            ]
        };
        self.classes.iter().zip(&case.classes).map(row).collect()
    }

    fn table_of_means(&self, terminal: bool) -> String {
        let mut table = new_table(terminal);
        table.set_header(["mean of", "cases", "Dice", "95 %", "HD95 mm", "95 %", "NSD", "95 %"]);
        for class in &self.classes {
            table.add_row(mean_row(line(&class.class.title()), class.cases, class.mean, class.interval));
        }
        let (name, cases) = ("foreground".to_owned(), self.cases.len());
        table.add_row(mean_row(name, cases, self.foreground_mean, self.foreground_interval));
        right_from(&mut table, 1);
        table.trim_fmt()
    }

    fn remarks(&self) -> String {
        let mut text = format!("\nNSD within {} mm; means leave out what is not defined (-).", self.tolerance_mm);
        if (2..FEW).contains(&self.cases.len()) {
            text.push_str(&format!("\nWith fewer than {FEW} cases the intervals (95 %) are too narrow."));
        }
        if let Some(worst) = self.cases.iter().find(|case| Some(&case.case) == self.worst_case.as_ref()) {
            let dice = short(worst.mean_dice(), 4);
            text.push_str(&format!("\nWorst case: {}, mean Dice {dice}.", line(&worst.case)));
        }
        if self.hd95_undefined > 0 {
            text.push_str(&format!(
                "\nHD95 is not defined {} time(s): the class is in the label or in the prediction alone.",
                self.hd95_undefined
            ));
        }
        if !self.without_prediction.is_empty() {
            text.push_str(&format!("\n{} label(s) without a prediction were left out.", self.without_prediction.len()));
        }
        text.push('\n');
        text.push_str(crate::RESEARCH_USE);
        text.push('\n');
        text
    }
}

fn new_table(terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_style(if terminal { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
    table
}

/// Numbers stand on the right.
fn right_from(table: &mut Table, column: usize) {
    for column in table.column_iter_mut().skip(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn mean_row(name: String, cases: usize, mean: Means, intervals: Option<Intervals>) -> Vec<String> {
    let between = |of: fn(&Intervals) -> Interval, digits| match intervals.as_ref().map(of) {
        Some(Interval { low, high }) if low.is_finite() => format!("{low:.digits$} to {high:.digits$}"),
        _ => "-".to_owned(),
    };
    vec![
        name,
        cases.to_string(),
        short(mean.dice, 4),
        between(|all| all.dice, 3),
        short(mean.hd95, 2),
        between(|all| all.hd95, 1),
        short(mean.nsd, 4),
        between(|all| all.nsd, 3),
    ]
}

/// Fixed digits for the eye, a dash where not defined.
fn short(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "-".into() }
}

/// The shortest digits that read back as the same number, nothing where not defined.
fn full(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::super::{CaseFigures, LabelClass, summary::ClassOfCase};
    use super::*;

    fn summary() -> Summary {
        let (volume_prediction, volume_label) = (12.5, 3.0);
        let (components_prediction, components_label) = (4, 1);
        let figures = ClassFigures {
            dice: 0.5,
            hd95: f64::NAN,
            nsd: 0.25,
            volume_prediction,
            volume_label,
            components_prediction,
            components_label,
        };
        let case = CaseFigures { case: "a,\"b\u{1b}".into(), classes: vec![ClassOfCase { class: 1, figures }] };
        Summary::new(vec![case], &[LabelClass { class: 1, name: "liver".into() }], 1.0)
    }

    #[test]
    fn csv_quotes_names_and_leaves_out_nan() {
        let csv = summary().to_csv();
        assert_eq!(csv.lines().nth(1), Some("\"a,\"\"b\u{1b}\",1,liver,0.5,,0.25,12.5,3,4,1"));
    }

    #[test]
    fn a_table_for_a_file_has_no_lines_and_no_escapes() {
        let text = summary().to_table(false, false);
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text}");
        // In letters: what stands for an escape has three bytes.
        let end = |line: &str| {
            let at = line.find("NSD").or(line.find("0.2500").map(|at| at + 3))?;
            Some(line[..at].chars().count())
        };
        let ends: Vec<_> = text.lines().take(2).map(end).collect();
        assert_eq!(ends[0], ends[1], "numbers stand on the right: {text}");
        assert!(summary().to_table(true, false).contains('│'));
    }

    #[test]
    fn the_worst_cases_are_shown_and_the_others_counted() {
        let case = |number: u16| {
            let figures = ClassFigures { dice: f64::from((number * 7) % 50) / 50.0, ..ClassFigures::absent() };
            let classes = [1, 2, 3].map(|class| ClassOfCase { class, figures: figures.clone() });
            CaseFigures { case: format!("case_{number:02}"), classes: classes.to_vec() }
        };
        let summary = Summary::new((0..50).map(case).collect(), &[], 1.0).with_intervals();
        let rows = |all: bool| -> Vec<String> {
            let text = summary.to_table(false, all);
            let names = text.lines().filter_map(|line| line.trim_start().split(' ').next().map(str::to_owned));
            names.filter(|name| name.starts_with("case_")).collect()
        };
        // 7 n mod 50 is 0, 1, 2, ... for n = 0, 43, 36, ...
        let expected =
            ["case_00", "case_43", "case_36", "case_29", "case_22", "case_15"].map(|name| [name; 3]).concat();
        assert_eq!(rows(false), expected);
        assert!(summary.to_table(false, false).contains("44 better case(s) are not shown; --all shows them."));
        assert_eq!(rows(true).len(), 150);
        assert!(!summary.to_table(false, true).contains("--all"));
        let text = summary.to_table(false, false);
        let means = text.lines().find(|line| line.trim_start().starts_with("foreground")).unwrap();
        assert!(means.contains("0.4900") && means.contains(" to "), "{means}");
    }
}
