//! Whether keeping the largest connected part alone raises Dice, and so what `predict` does.
use super::figures::figure;
use super::html::{escape, table};
use crate::predict::postprocess::{Choice, Findings};
use crate::train::LoadedRun;

/// Classes of the longest table; `validation/postprocessing.json` has all.
const ROWS: usize = 200;

/// The section's content.
pub fn section(findings: &Findings, plan: &LoadedRun) -> String {
    let decision = &findings.decision;
    let name = |class: u16| match plan.classes.get(usize::from(class)) {
        Some(name) if plan.regions.is_empty() => format!("{class} {}", escape(name)),
        _ => plan.regions.get(usize::from(class).wrapping_sub(1)).map_or(class.to_string(), |of| escape(&of.name)),
    };
    let names = |classes: &[u16]| classes.iter().take(ROWS).map(|class| name(*class)).collect::<Vec<_>>().join(", ");
    let rule = &decision.rule;
    let kept = match (rule.foreground, rule.classes.is_empty()) {
        _ if findings.on_training_cases => {
            "Validation was on training cases, which shows nothing: <strong>label maps stay as they are</strong>."
                .to_owned()
        }
        (false, true) => {
            "No choice raised the mean Dice of held-out cases: <strong>label maps stay as they are</strong>.".to_owned()
        }
        (true, true) => "<strong>Of all foreground together the largest part is kept</strong>.".to_owned(),
        (false, false) => {
            format!("<strong>The largest part alone is kept of {}</strong>.", names(&rule.classes))
        }
        (true, false) => format!(
            "<strong>Of all foreground together the largest part is kept, and after that of {}</strong>.",
            names(&rule.classes)
        ),
    };
    let choices = std::iter::once(&decision.foreground).chain(&decision.classes);
    let rows = choices.take(ROWS).map(|choice| {
        let of = choice.class.map_or_else(|| "all foreground".to_owned(), &name);
        let chosen = chosen(choice, findings.on_training_cases);
        let worse = if choice.worse.is_empty() { String::new() } else { format!(", lowers {}", names(&choice.worse)) };
        let dice = |dice: Option<f64>| figure(dice.unwrap_or(f64::NAN));
        vec![of, format!("{chosen}{worse}"), dice(choice.before), dice(choice.after)]
    });
    format!(
        "<p>{kept}</p>\n{}<p class=\"soft\">nnU-Net's rule, decided over the held-out cases; parts are connected across faces, \
         edges and corners ({} neighbours). <code>predict</code> follows it, of several folds over the cases of all of them, \
         and leaves it with <code>--no-postprocessing</code>. The figures above are without it.</p>\n",
        table(&["the largest part of", "", "Dice as it is", "Dice of that part alone"], 2, rows),
        findings.neighbours,
    )
}

fn chosen(choice: &Choice, on_training_cases: bool) -> &'static str {
    match choice.chosen {
        true if on_training_cases => "would raise it",
        true => "kept alone",
        false => "all parts stay",
    }
}
