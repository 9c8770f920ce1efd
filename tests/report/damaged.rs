//! Run folders that are not whole, or are another version's: a page of what is there, or one sentence.
use std::fs;

use serde_json::Value;

use crate::common::{Lab, stderr};

/// A run, and what is done to a copy of it.
struct Runs {
    lab: Lab,
}

impl Runs {
    fn new() -> Self {
        let lab = Lab::new();
        lab.done(&["train", "c.toml", "--run", "r", "--no-images"]);
        Self { lab }
    }

    /// The run as it was, under the name `d`.
    fn again(&self) {
        let _ = fs::remove_dir_all(self.lab.path("d"));
        let copied = self.lab.shell("cp -r r d && rm d/report.html");
        assert!(copied.status.success(), "{}", stderr(&copied));
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.lab.path("r").join(name)).unwrap()
    }

    fn put(&self, name: &str, text: &str) {
        self.lab.write(&format!("d/{name}"), text.as_bytes());
    }

    /// The manifest with a change.
    fn manifest(&self, change: impl FnOnce(&mut Value)) {
        let mut manifest = self.lab.json("r/manifest.json");
        change(&mut manifest);
        self.put("manifest.json", &manifest.to_string());
    }

    fn refused(&self) -> String {
        let said = self.lab.failure(&["report", "d", "--no-images"]);
        assert!(!self.lab.path("d/report.html").exists(), "a page was left");
        // The list of runs says the same of it and goes on.
        let output = self.lab.output(&["runs", "."]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let problem = said.trim().trim_start_matches("voxfit: ");
        let file = problem.split(": ").next().unwrap();
        assert!(stderr(&output).contains(file.trim_start_matches("d/")), "{file}: {}", stderr(&output));
        said
    }

    fn page(&self) -> (String, String) {
        let output = self.lab.output(&["report", "d"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        (fs::read_to_string(self.lab.path("d/report.html")).unwrap(), stderr(&output))
    }
}

#[test]
fn what_is_missing_is_said_to_be_missing() {
    let runs = Runs::new();
    // A line that a process died in: the steps before it are there.
    runs.again();
    let metrics = runs.text("metrics.jsonl");
    let third = metrics.find("{\"step\":3,\"loss\"").unwrap();
    runs.put("metrics.jsonl", &metrics[..third + 30]);
    let (page, _) = runs.page();
    let charts: Vec<&str> = page.split("data-chart=\"").skip(1).collect();
    assert!(charts[0].contains("[2.0,") && !charts[0].contains("[3.0,"), "{}", &charts[0][..400]);

    runs.again();
    fs::remove_file(runs.lab.path("d/metrics.jsonl")).unwrap();
    assert!(runs.page().0.contains("Nothing to draw yet"));

    runs.again();
    fs::remove_dir_all(runs.lab.path("d/validation")).unwrap();
    let (page, said) = runs.page();
    assert!(page.contains("validation/summary.json, which had those of 2 held-out cases, is missing"));
    assert!(!page.contains("No case was held out") && !page.contains("Stray parts"), "it was");
    assert!(said.contains("d: validation/summary.json is missing"), "{said}");

    // What an older version did not write.
    runs.again();
    fs::remove_file(runs.lab.path("d/validation/postprocessing.json")).unwrap();
    let (page, _) = runs.page();
    assert!(!page.contains("Stray parts") && page.contains("By class"));
}

#[test]
fn what_is_damaged_is_named() {
    let runs = Runs::new();
    let files =
        ["manifest.json", "config.toml", "plan.toml", "validation/summary.json", "validation/postprocessing.json"];
    for name in files {
        let whole = runs.text(name);
        let half = whole.chars().take(whole.chars().count() / 2).collect::<String>() + "\n[";
        let nothing = if name == "config.toml" { "= 1" } else { "" };
        for text in [half.as_str(), nothing, "\u{0}\u{1b}[2J", "[[[["] {
            runs.again();
            runs.put(name, text);
            let said = runs.refused();
            assert!(said.starts_with(&format!("voxfit: d/{name}: ")), "{name}: {said}");
            assert!(said.contains("train again"), "{said}");
        }
    }
    runs.again();
    fs::remove_file(runs.lab.path("d/plan.toml")).unwrap();
    assert!(runs.refused().contains("plan.toml"));
    // Without its configuration a folder is no run to the list, which is of folders of all kinds; asked for by name it is.
    runs.again();
    fs::remove_file(runs.lab.path("d/config.toml")).unwrap();
    assert!(runs.lab.failure(&["report", "d"]).contains("d/config.toml"));
    // A folder in the place of a file.
    for name in ["plan.toml", "metrics.jsonl", "validation/summary.json"] {
        runs.again();
        fs::remove_file(runs.lab.path("d").join(name)).unwrap();
        fs::create_dir(runs.lab.path("d").join(name)).unwrap();
        assert!(runs.refused().contains(name));
    }
}

#[test]
fn another_versions_run_is_said_to_be_one() {
    let runs = Runs::new();
    let newer = |manifest: &mut Value| manifest["voxfit"] = "9.1.0".into();
    let cure = "the run is of voxfit 9.1.0 and this is ";
    // What this version knows nothing of, and would name a nearest key for.
    for (name, from, to) in [
        ("config.toml", "[train]\n", "[train]\nfuture = 1\n"),
        ("config.toml", "optimizer = \"sgd\"", "optimizer = \"future\""),
        ("plan.toml", "activations = ", "activations = \"f4\"\nold = "),
    ] {
        runs.again();
        runs.manifest(newer);
        let text = runs.text(name);
        assert!(text.contains(from), "{text}");
        runs.put(name, &text.replacen(from, to, 1));
        let said = runs.refused();
        assert!(said.starts_with(&format!("voxfit: d/{name}: ")) && said.contains(cure), "{said}");
        assert!(!said.contains("backup"), "{said}");
    }
    // A manifest that lacks what this version wants.
    runs.again();
    runs.manifest(|manifest| {
        newer(manifest);
        manifest.as_object_mut().unwrap().remove("norm");
    });
    let said = runs.refused();
    assert!(said.contains("manifest.json") && said.contains("norm") && said.contains(cure), "{said}");
    // One that says more is no fault.
    runs.again();
    runs.manifest(|manifest| {
        newer(manifest);
        manifest["future"] = Value::Bool(true);
    });
    assert!(runs.page().0.contains("voxfit 9.1.0"));
}
