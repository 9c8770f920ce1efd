//! Findings for a person.
use super::{Finding, Severity};
use crate::shown::line as shown;

/// Case and file once, then each thing that is wrong with it, and below that what to do:
///
/// ```text
/// case_01  labelsTr/case_01.nii.gz
///   fault    affine: stands up to 2.000 mm (2.000 voxels) off case_01.nii.gz
///            -> resample it onto the grid of case_01.nii.gz
/// ```
pub fn text(findings: &[Finding]) -> String {
    let head = |finding: &Finding| [shown(&finding.case), shown(&finding.file)];
    let width = findings.iter().map(|finding| head(finding)[0].chars().count()).max().unwrap_or(0);
    let mut lines = String::new();
    let mut before = None;
    for finding in findings {
        let names = head(finding);
        if before.as_ref() != Some(&names) {
            let [case, file] = &names;
            let title = format!("{case:width$}  {file}");
            lines.push_str(match (case.is_empty(), file.is_empty()) {
                (true, true) => "all cases together",
                (true, false) => file,
                (false, _) => &title,
            });
            lines.push('\n');
        }
        let severity = match finding.severity {
            Severity::Fault => "fault",
            Severity::Warning => "warning",
        };
        let [field, problem, cure] = [&finding.field, &finding.problem, &finding.cure].map(|text| shown(text));
        lines.push_str(&format!("  {severity:7}  {field}: {problem}\n           -> {cure}\n"));
        before = Some(names);
    }
    lines
}
