//! A summary as CSV and as a table on the screen.
use comfy_table::{CellAlignment, Table, presets};

use super::{ClassFigures, Means, Summary};
use crate::shown::{csv, line};

impl Summary {
    /// One row per case and class: `case,class,name,dice,hd95_mm,nsd,volume_prediction_ml,volume_label_ml`; what is
    /// not defined is empty. Names that a spreadsheet would take for a formula have an apostrophe before them.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("case,class,name,dice,hd95_mm,nsd,volume_prediction_ml,volume_label_ml\n");
        for case in &self.cases {
            for (class, of_case) in self.classes.iter().zip(&case.classes) {
                let ClassFigures { dice, hd95, nsd, volume_prediction, volume_label } = of_case.figures;
                let fields = [
                    csv(&case.case),
                    of_case.class.to_string(),
                    csv(&class.class.name),
                    full(dice),
                    full(hd95),
                    full(nsd),
                    full(volume_prediction),
                    full(volume_label),
                ];
                text.push_str(&fields.join(","));
                text.push('\n');
            }
        }
        text
    }

    /// Every case and class, the mean of each class, the mean of the foreground, and below it the worst case and how
    /// many HD95 are not defined. With lines in it for a terminal, spaces alone for a file.
    pub fn to_table(&self, terminal: bool) -> String {
        let mut table = Table::new();
        table.load_style(if terminal { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
        table.set_header(["case", "class", "Dice", "HD95 mm", "NSD", "volume mL", "label mL"]);
        for case in &self.cases {
            for (class, of_case) in self.classes.iter().zip(&case.classes) {
                let ClassFigures { dice, hd95, nsd, volume_prediction, volume_label } = of_case.figures;
                let volumes = [short(volume_prediction, 2), short(volume_label, 2)];
                table.add_row(row(&case.case, &class.class.title(), Means { dice, hd95, nsd }, volumes));
            }
        }
        for class in &self.classes {
            table.add_row(row("mean", &class.class.title(), class.mean, Default::default()));
        }
        table.add_row(row("mean", "foreground", self.foreground_mean, Default::default()));
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.trim_fmt();
        text.push_str(&self.remarks());
        text
    }

    fn remarks(&self) -> String {
        let mut text = format!("\nNSD within {} mm; means leave out what is not defined (-).", self.tolerance_mm);
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
        text
    }
}

fn row(case: &str, class: &str, means: Means, volumes: [String; 2]) -> Vec<String> {
    let [prediction, label] = volumes;
    let (dice, hd95, nsd) = (short(means.dice, 4), short(means.hd95, 2), short(means.nsd, 4));
    vec![line(case), line(class), dice, hd95, nsd, prediction, label]
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
        let figures = ClassFigures { dice: 0.5, hd95: f64::NAN, nsd: 0.25, volume_prediction: 12.5, volume_label: 3.0 };
        let case = CaseFigures { case: "a,\"b\u{1b}".into(), classes: vec![ClassOfCase { class: 1, figures }] };
        Summary::new(vec![case], &[LabelClass { class: 1, name: "liver".into() }], 1.0)
    }

    #[test]
    fn csv_quotes_names_and_leaves_out_nan() {
        let csv = summary().to_csv();
        assert_eq!(csv.lines().nth(1), Some("\"a,\"\"b\u{1b}\",1,liver,0.5,,0.25,12.5,3"));
    }

    #[test]
    fn a_table_for_a_file_has_no_lines_and_no_escapes() {
        let text = summary().to_table(false);
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text}");
        // In letters: what stands for an escape has three bytes.
        let end = |line: &str| {
            let at = line.find("NSD").or(line.find("0.2500").map(|at| at + 3))?;
            Some(line[..at].chars().count())
        };
        let ends: Vec<_> = text.lines().take(2).map(end).collect();
        assert_eq!(ends[0], ends[1], "numbers stand on the right: {text}");
        assert!(summary().to_table(true).contains('│'));
    }
}
