//! `voxfit init` writes, for any dataset, a configuration that can be read, planned and trained as it is.
//!
//! Its questions were tried by hand, on a pseudo-terminal (`script -qc "voxfit init DIR" /dev/null`): Enter takes the default,
//! a wrong answer is said and asked again, three of them end it.
mod common;

use std::fs;

use common::Lab;
use serde_json::json;

/// Trains three steps of what was written, small enough for a test, and returns its text.
fn trains(lab: &Lab, file: &str) -> String {
    let dry = lab.done(&["train", file, "--dry-run"]);
    assert!(dry.contains("nothing was written"), "{dry}");
    let small = ["--steps", "2", "--set", "network.patch=[16,16,16]", "--set", "network.features=4"];
    lab.digest(&[&["train", file, "--run", &format!("run of {}", file.replace('/', "_"))], &small[..]].concat());
    fs::read_to_string(lab.path(file)).unwrap()
}

#[test]
fn what_it_writes_trains() {
    let lab = Lab::new();
    let said = lab.done(&[
        "init",
        "data",
        "-o",
        "sub/mine.toml",
        "--time",
        "1h",
        "--memory",
        "2GiB",
        "--effective-batch",
        "2",
    ]);
    assert!(said.contains("written to sub/mine.toml") && said.contains("voxfit train sub/mine.toml"), "{said}");
    let text = trains(&lab, "sub/mine.toml");
    for line in ["dataset = \"../data\"", "effective = 2", "budget = \"2.0GiB\"", "6 cases are dealt into 5 folds"] {
        assert!(text.contains(line) || text.contains(&line.replace("2.0GiB", "2GiB")), "{line}\n{text}");
    }
    lab.done(&["plan", "data", "--config", "sub/mine.toml"]);
    lab.done(&["check", "data", "--config", "sub/mine.toml"]);

    // By the dataset's name, and never over what is there.
    lab.done(&["init", "data", "--steps", "7"]);
    assert!(fs::read_to_string(lab.path("phantom.toml")).unwrap().contains("\nsteps = 7\n"));
    let refused = lab.failure(&["init", "data"]);
    assert!(refused.contains("phantom.toml: is there already") && refused.contains("--force"), "{refused}");
    lab.done(&["init", "data", "--steps", "8", "--force"]);
    assert!(fs::read_to_string(lab.path("phantom.toml")).unwrap().contains("\nsteps = 8\n"));
    let refused = lab.failure(&["init", "nowhere"]);
    assert!(refused.contains("nowhere: no such folder"), "{refused}");
}

/// Blanks, quotes and letters of all kinds in paths and names, which are put into a file and into commands to paste.
#[test]
fn names_of_any_kind_are_written_so_that_they_are_read() {
    let lab = Lab::new();
    let folder = "Zähne \"rechts\" d'abord";
    fs::rename(lab.path("data"), lab.path(folder)).unwrap();
    let mut description = lab.json(&format!("{folder}/dataset.json"));
    description["name"] = json!("two\nlines \u{1b}[31m= 3 # \"");
    description["labels"]["1"] = json!("a \"class\"\n[train]");
    lab.write(&format!("{folder}/dataset.json"), description.to_string().as_bytes());
    let said = lab.done(&["init", folder, "-o", "a b.toml"]);
    assert!(said.contains("voxfit train 'a b.toml'") && said.contains(r#"'Zähne "rechts" d'\''abord'"#), "{said}");
    let text = trains(&lab, "a b.toml");
    assert!(!text.contains('\u{1b}') && text.contains("# two"), "{text}");
}

#[test]
fn what_matters_for_the_data_is_said_and_done() {
    let lab = Lab::new();
    let mut description = lab.json("data/dataset.json");
    description["labels"] = json!({ "0": "background", "1": "kidney_left", "2": "kidney_right" });
    lab.write("data/dataset.json", description.to_string().as_bytes());
    let said = lab.done(&["init", "data", "-o", "sides.toml"]);
    assert!(said.contains("kidney_left and kidney_right: x is not mirrored"), "{said}");
    let text = trains(&lab, "sides.toml");
    assert!(text.contains("\naxes = [\"y\", \"z\"]"), "{text}");

    // A left without its right is mirrored.
    description["labels"] = json!({ "0": "background", "1": "left atrium", "2": "liver" });
    lab.write("data/dataset.json", description.to_string().as_bytes());
    let said = lab.done(&["init", "data", "-o", "atrium.toml"]);
    assert!(!said.contains("not mirrored"), "{said}");
    assert!(!trains(&lab, "atrium.toml").contains("\naxes"));

    // Three cases for five folds.
    description["training"].as_array_mut().unwrap().truncate(3);
    lab.write("data/dataset.json", description.to_string().as_bytes());
    let said = lab.done(&["init", "data", "-o", "few.toml"]);
    assert!(said.contains("fewer cases than folds"), "{said}");
    assert!(trains(&lab, "few.toml").contains("every page says so"));
}

#[test]
fn regions_and_an_ignore_label_are_named() {
    let lab = Lab::new();
    let mut description = lab.json("data/dataset.json");
    description["labels"] = json!("LABELS");
    description["regions_class_order"] = json!([1, 2]);
    let labels = r#"{"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}"#;
    lab.write("data/dataset.json", description.to_string().replace("\"LABELS\"", labels).as_bytes());
    lab.done(&["init", "data", "-o", "regions.toml"]);
    let text = trains(&lab, "regions.toml");
    assert!(text.contains("whole, core; voxels of 3 are ignored"), "{text}");
}

#[test]
fn the_hippocampus_is_planned_as_nnunet_plans_it() {
    let Some(volumes) = std::env::var_os("VOXFIT_VOLUMES") else {
        eprintln!("skipped: VOXFIT_VOLUMES is not set");
        return;
    };
    let data = std::path::Path::new(&volumes).join("Task04_Hippocampus");
    if !data.is_dir() {
        eprintln!("skipped: {} is not there", data.display());
        return;
    }
    let lab = Lab::new();
    lab.done(&["init", data.to_str().unwrap(), "-o", "h.toml", "--steps", "100"]);
    let text = fs::read_to_string(lab.path("h.toml")).unwrap();
    assert!(text.contains("Anterior, Posterior") && text.contains("patches of 40 x 56 x 40 voxels"), "{text}");
}
