//! What is held out, as a person asks for it: nnU-Net's folds, patients, classes, a file.
mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{Lab, stderr};
use serde_json::{Value, json};

/// One step is enough to have a manifest.
fn train(lab: &Lab, run: &str, more: &[&str]) -> Value {
    lab.done(&[&["train", "c.toml", "--run", run, "--steps", "1"], more].concat());
    lab.json(&format!("{run}/manifest.json"))
}

fn ids(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// `KFold(5, shuffle=True, random_state=12345)` over six cases holds out 3 and 5 first (tests/data/kfold.json).
#[test]
fn the_default_is_nnunets_and_does_not_hang_on_the_seed() {
    let lab = Lab::new();
    for (run, seed) in [("a", "0"), ("b", "1")] {
        let manifest = train(&lab, run, &["--set", &format!("train.seed={seed}")]);
        assert_eq!(manifest["validation_cases"], json!(["phantom_004", "phantom_006"]));
        let split = json!({ "rule": "nnunet", "folds": 5, "seed": 12345, "file_sha256": null, "groups": null, "patients": null });
        assert_eq!(manifest["split"], split);
    }
    let said = lab.failure(&["train", "c.toml", "--run", "c", "--set", "data.split_seed=4294967296"]);
    assert!(said.contains("data.split_seed") && said.contains("4294967295"), "{said}");
    for (set, part) in [("data.group=(", "regular expression"), ("data.split=random", "\"stratified\"")] {
        let said = lab.failure(&["train", "c.toml", "--run", "c", "--set", set]);
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn cases_of_one_patient_are_held_out_together() {
    let lab = Lab::new();
    // By dataset.json the patients have cases {1, 4}, {2, 5}, {3, 6}; by the expression {1..=4}, {5} and {6}.
    let mut description = lab.json("data/dataset.json");
    description["groups"] = (1..7).map(|case| (format!("phantom_00{case}"), json!(case % 3))).collect();
    lab.write("data/dataset.json", description.to_string().as_bytes());
    let three = ["--set", "data.folds=3"];
    for fold in 0..3 {
        let manifest = train(&lab, &format!("a{fold}"), &[&three[..], &["--fold", &fold.to_string()]].concat());
        let held = ids(&manifest["validation_cases"]);
        let digits: Vec<u8> = held.iter().map(|id| id.bytes().last().unwrap() - b'0').collect();
        assert!(matches!(digits[..], [a, b] if a % 3 == b % 3), "{held:?}");
        assert_eq!((&manifest["split"]["groups"], &manifest["split"]["patients"]), (&json!("dataset.json"), &json!(3)));
    }
    let said = lab.failure(&["train", "c.toml", "--run", "b"]);
    assert!(said.contains("data.folds: 5 folds, but the cases are of 3 patients"), "{said}");

    let group = ["--set", "data.group=^phantom_00([56])|^phantom", "--set", "data.folds=3"];
    let manifest = train(&lab, "c", &group);
    assert_eq!((&manifest["split"]["groups"], &manifest["split"]["patients"]), (&json!("data.group"), &json!(3)));
    assert_eq!(
        ids(&manifest["validation_cases"]),
        ids(&json!(["phantom_001", "phantom_002", "phantom_003", "phantom_004"]))
    );

    let output = lab.output(&[
        "train",
        "c.toml",
        "--run",
        "d",
        "--steps",
        "1",
        "--set",
        "data.group=_00[1-5]$",
        "--set",
        "data.folds=2",
    ]);
    assert!(stderr(&output).contains("data.group names no patient of phantom_006"), "{}", stderr(&output));
}

#[test]
fn a_file_decides_and_the_run_has_a_copy() {
    let lab = Lab::new();
    let folds = json!([
        {"train": ["phantom_001", "phantom_002"], "val": ["phantom_003"]},
        {"train": ["phantom_003", "phantom_004", "phantom_005"], "val": ["phantom_001", "phantom_002"]},
    ]);
    lab.write("folds/splits_final.json", folds.to_string().as_bytes());
    let by_file = ["--set", "data.split=folds/splits_final.json"];
    let output =
        lab.output(&[&["train", "c.toml", "--run", "s", "--steps", "1", "--fold", "each"][..], &by_file].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("does not name phantom_004, phantom_005, phantom_006"), "{}", stderr(&output));
    for fold in 0..2 {
        let manifest = lab.json(&format!("s/fold_{fold}/manifest.json"));
        assert_eq!(
            (&manifest["validation_cases"], &manifest["train_cases"]),
            (&folds[fold]["val"], &folds[fold]["train"])
        );
        assert_eq!((&manifest["split"]["rule"], &manifest["split"]["folds"]), (&json!("file"), &json!(2)));
    }
    assert!(!lab.path("s/fold_2").exists());

    // The run can be repeated from its own folder alone, and notices a file that changed.
    assert_eq!(lab.json("s/fold_1/splits_final.json"), folds);
    fs::remove_dir_all(lab.path("folds")).unwrap();
    lab.done(&["reproduce", "s/fold_1"]);
    let again = ["train", "s/fold_1/config.toml", "--run", "s/fold_1", "--resume", "--data", "data"];
    lab.done(&again);
    lab.write("s/fold_1/splits_final.json", folds.to_string().replace("phantom_005", "phantom_006").as_bytes());
    assert!(lab.failure(&again).contains("other cases are held out"));

    lab.write("wrong.json", folds.to_string().replace("phantom_005", "phantom_5").as_bytes());
    let said = lab.failure(&["train", "c.toml", "--run", "w", "--fold", "1", "--set", "data.split=wrong.json"]);
    assert!(said.contains("wrong.json: fold 1, train: \"phantom_5\" is no case"), "{said}");
    let said = lab.failure(&["train", "c.toml", "--run", "w", "--set", "data.split=gone.json"]);
    assert!(said.contains("gone.json: data.split: "), "{said}");
    assert!(!lab.path("w").exists());
}

#[test]
fn the_doctor_looks_at_the_file_too() {
    let lab = Lab::new();
    let folds = json!([
        {"train": ["phantom_001", "phantom_002", "phantom_003", "phantom_004"], "val": ["phantom_005"]},
        {"train": ["phantom_001", "phantom_2"], "val": []},
    ]);
    lab.write("f.json", folds.to_string().as_bytes());
    // 1 and 2 are patients by themselves, the others are one.
    let with = "[data]\nsplit = \"f.json\"\ngroup = \"^phantom_00([12])|^phantom\"";
    lab.write("d.toml", common::CONFIG.replace("[data]", with).as_bytes());
    let output = lab.output(&["check", "data", "--config", "d.toml"]);
    let text = common::stdout(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    for part in [
        "fault    fold 1, train: \"phantom_2\" is no case of the dataset",
        "warning  fold 0: holds out phantom_005\n",
        "warning  fold 0: does not name phantom_006\n",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_file_goes_with_numbers_for_ids() {
    let lab = Lab::new();
    lab.write("f.json", br#"[{"train": ["phantom_001", "phantom_002"], "val": ["phantom_006"]}]"#);
    train(&lab, "a", &["--set", "data.split=f.json", "--anonymous-cases"]);
    assert_eq!(lab.json("a/splits_final.json"), json!([{"train": ["case_001", "case_002"], "val": ["case_006"]}]));
    lab.done(&["reproduce", "a"]);
}

#[test]
fn stratified_folds_are_made_from_the_labels() {
    let lab = Lab::new();
    let manifest = train(&lab, "a", &["--set", "data.split=stratified", "--set", "data.folds=3"]);
    assert_eq!(
        (&manifest["split"]["rule"], manifest["validation_cases"].as_array().unwrap().len()),
        (&json!("stratified"), 2)
    );
}
