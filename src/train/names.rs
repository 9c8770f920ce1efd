//! What cases are called where others may read it: by their ids, or by numbers.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::TrainError;
use crate::dataset::check::Finding;
use crate::dataset::{Case, Dataset};
use crate::volume::files_of;

/// Fewest digits of a number, so that names sort as numbers do.
const DIGITS: usize = 3;

/// From ids to what is shown.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Empty where ids are shown.
    shown: BTreeMap<String, String>,
    /// What else names a case in a sentence, and what to put there; longer ones first.
    traces: Vec<(String, String)>,
}

impl Names {
    /// `case_001`, `case_002`, ... in the order of ids, of every case that the dataset lists, `faults` included. What
    /// number is which case is written nowhere: who has the dataset can count.
    pub fn numbered(root: &Path, cases: &[Case], faults: &[Finding]) -> Self {
        let ids = cases.iter().map(|case| &case.id).chain(faults.iter().map(|fault| &fault.case));
        let ids: BTreeSet<&String> = ids.filter(|id| !id.is_empty()).collect();
        let digits = ids.len().to_string().len().max(DIGITS);
        let name = |(index, id): (usize, &String)| (id.clone(), format!("case_{:0digits$}", index + 1));
        let shown: BTreeMap<String, String> = ids.into_iter().enumerate().map(name).collect();

        let mut traces = Vec::new();
        let mut file = |id: &str, path: &Path, what: &str| {
            let Some(name) = shown.get(id) else { return };
            let name = format!("{name} {what}").trim_end().to_owned();
            // A fault may be of the other file of a pair.
            for path in files_of(path) {
                let relative = path.strip_prefix(root).unwrap_or(&path);
                for part in [Some(path.as_os_str()), Some(relative.as_os_str()), path.file_name()].into_iter().flatten()
                {
                    traces.push((part.to_string_lossy().into_owned(), name.clone()));
                }
            }
        };
        for case in cases {
            case.images.iter().for_each(|path| file(&case.id, path, "image"));
            file(&case.id, &case.label, "label");
        }
        for fault in faults {
            file(&fault.case, &root.join(&fault.file), "file");
        }
        traces.extend(shown.iter().map(|(id, name)| (format!("are called {id}"), format!("are called {name}"))));
        traces.retain(|(trace, _)| !trace.is_empty());
        // An image and its label may have one file name: the name alone tells no more than the case.
        traces.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        Self { shown, traces }
    }

    /// What `id` is called.
    pub fn of<'a>(&'a self, id: &'a str) -> &'a str {
        self.shown.get(id).map_or(id, String::as_str)
    }

    /// `dataset` with the names that may be shown. They sort as the ids do.
    pub fn shown(&self, dataset: &Dataset) -> Dataset {
        let mut shown = dataset.clone();
        shown.cases.iter_mut().for_each(|case| case.id = self.of(&case.id).to_owned());
        shown
    }

    /// A sentence with the names of files replaced.
    pub fn hide(&self, text: String) -> String {
        self.traces.iter().fold(text, |text, (trace, name)| match text.contains(trace.as_str()) {
            true => text.replace(trace.as_str(), name),
            false => text,
        })
    }

    /// An error that names nobody.
    pub fn hide_in(&self, error: TrainError) -> TrainError {
        let text = error.to_string();
        let hidden = self.hide(text.clone());
        if hidden == text { error } else { TrainError::Hidden(hidden) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::check::Severity;

    #[test]
    fn numbers_follow_the_order_of_ids_and_sentences_lose_their_names() {
        let case = |id: &str| Case {
            id: id.into(),
            images: vec![format!("/data/imagesTr/{id}.nii.gz").into()],
            label: format!("/data/labelsTr/{id}.nii.gz").into(),
        };
        let fault = Finding {
            severity: Severity::Fault,
            case: "lost".into(),
            file: "labelsTr/lost.nii.gz".into(),
            field: "label".into(),
            problem: "is not there".into(),
            cure: "add it".into(),
        };
        let names = Names::numbered(Path::new("/data"), &[case("zoe"), case("ann")], &[fault]);
        assert_eq!(["ann", "lost", "zoe"].map(|id| names.of(id)), ["case_001", "case_002", "case_003"]);
        let said = "/data/imagesTr/zoe.nii.gz: dim: has 3 voxels where ann.nii.gz has 4; see labelsTr/lost.nii.gz";
        let hidden = names.hide(said.into());
        assert_eq!(hidden, "case_003 image: dim: has 3 voxels where case_001 image has 4; see case_002 file");
        assert_eq!(Names::default().hide(said.into()), said);
    }

    /// Whichever file of a pair is listed, a sentence about the other names nobody.
    #[test]
    fn both_files_of_a_pair_are_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        ["zoe.hdr", "zoe.img", "l.nii"].iter().for_each(|name| std::fs::write(at(name), b"").unwrap());
        let case = Case { id: "zoe".into(), images: vec![at("zoe.img")], label: at("l.nii") };
        let names = Names::numbered(folder.path(), &[case], &[]);
        for said in [format!("{}: magic: no", at("zoe.hdr").display()), "zoe.img: cut".into()] {
            let hidden = names.hide(said);
            assert!(!hidden.contains("zoe") && hidden.contains("case_001"), "{hidden}");
        }
    }
}
