//! Label values exchanged as they are read, in everything that reads them.
mod common;

use std::fs;

use common::{Lab, stdout, unpacked};
use serde_json::json;

/// The lab's dataset once more as `other`, with the values of its label maps and of its description exchanged.
fn exchanged(lab: &Lab, to: [u8; 3], labels: serde_json::Value) {
    for part in ["imagesTr", "labelsTr"] {
        fs::create_dir_all(lab.path(&format!("other/{part}"))).unwrap();
        for entry in fs::read_dir(lab.path(&format!("data/{part}"))).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            fs::copy(lab.path(&format!("data/{part}/{name}")), lab.path(&format!("other/{part}/{name}"))).unwrap();
            if part == "labelsTr" {
                lab.edit(&format!("other/{part}/{name}"), |file| {
                    file[352..].iter_mut().for_each(|value| *value = to[usize::from(*value)]);
                });
            }
        }
    }
    let mut description = lab.json("data/dataset.json");
    description["labels"] = labels;
    lab.write("other/dataset.json", description.to_string().as_bytes());
}

#[test]
fn labels_0_2_5_train_as_0_1_2() {
    let lab = Lab::new();
    let names = lab.json("data/dataset.json")["labels"].clone();
    exchanged(&lab, [0, 2, 5], json!({"0": "background", "2": names["1"], "5": names["2"]}));
    let remap = ["--data", "other", "--set", "data.remap={ 2 = 1, 5 = 2 }"];

    // Without it, check and train say what to write.
    let checked = lab.output(&["check", "other"]);
    assert_eq!(checked.status.code(), Some(3));
    assert!(stdout(&checked).contains("write `remap = { 2 = 1, 5 = 2 }` under [data]"), "{}", stdout(&checked));
    assert!(lab.failure(&["train", "c.toml", "--run", "w", "--data", "other"]).contains("remap = { 2 = 1, 5 = 2 }"));
    lab.done(&["check", "other", "--remap", "2=1", "--remap", "5=2"]);
    lab.write("d.toml", format!("{}[data.remap]\n2 = 1\n5 = 2\n", common::CONFIG).as_bytes());
    lab.done(&["check", "other", "--config", "d.toml"]);

    let plain = lab.digest(&["train", "c.toml", "--run", "a"]);
    assert_eq!(lab.digest(&[&["train", "c.toml", "--run", "b"], &remap[..]].concat()), plain);
    let figures = |run: &str| lab.json(&format!("{run}/validation/summary.json"));
    assert_eq!(figures("a"), figures("b"));
    let manifest = |run: &str| lab.json(&format!("{run}/manifest.json"));
    assert_eq!(manifest("b")["remap"], json!({"2": 1, "5": 2}));
    assert_ne!(manifest("a")["config_sha256"], manifest("b")["config_sha256"]);
    assert_ne!(manifest("a")["data_sha256"], manifest("b")["data_sha256"]);
    let plan: toml::Table = toml::from_str(&fs::read_to_string(lab.path("b/plan.toml")).unwrap()).unwrap();
    assert_eq!(plan["remap"].to_string(), "{ 2 = 1, 5 = 2 }");
    lab.done(&["reproduce", "b", "--data", "other"]);
    let said = lab.failure(&[
        "train",
        "b/config.toml",
        "--run",
        "b",
        "--resume",
        "--data",
        "other",
        "--set",
        "data.remap.5=1",
    ]);
    assert!(said.contains("configuration is not the one"), "{said}");

    // Predictions have the classes' values; the labels are brought to them.
    lab.done(&["predict", "b", "data/imagesTr/phantom_001.nii.gz", "-o", "p"]);
    let values = unpacked(&lab.path("p/phantom_001.nii.gz"));
    assert!(values[352..].iter().all(|value| *value < 3));
    let table = |labels: &str, more: &[&str]| {
        lab.done(&[&["evaluate", "p", labels, "--json", "f.json"], more].concat());
        lab.json("f.json")["cases"].clone()
    };
    assert_eq!(table("other/labelsTr", &["--remap", "2=1,5=2"]), table("data/labelsTr", &[]));
}

#[test]
fn binary_labels_of_255_train() {
    let lab = Lab::new();
    exchanged(&lab, [0, 255, 255], json!({"0": "background", "1": "any"}));
    let checked = lab.output(&["check", "other"]);
    assert!(
        stdout(&checked).contains("if 255 is any, write `remap = { 255 = 1 }` under [data]"),
        "{}",
        stdout(&checked)
    );
    let said = lab.failure(&["train", "c.toml", "--run", "w", "--data", "other"]);
    assert!(said.contains("remap = { 255 = 1 }"), "{said}");
    lab.done(&["train", "c.toml", "--run", "a", "--steps", "1", "--data", "other", "--set", "data.remap={255=1}"]);

    // Several values as one class are what a dataset with one class is.
    exchanged(&lab, [0, 1, 1], json!({"0": "background", "1": "any"}));
    let one = lab.digest(&["train", "c.toml", "--run", "one", "--data", "other"]);
    let merged = ["train", "c.toml", "--run", "merged", "--set", "data.remap={2=1}"];
    assert_eq!(lab.digest(&merged), one);
}

#[test]
fn what_is_no_exchange_is_refused() {
    let lab = Lab::new();
    for (set, part) in [
        ("data.remap={255=3}", "data.remap makes 255 3, which is no class"),
        ("data.remap={0=1}", "value 0 has no name"),
        ("data.remap={2=0,1=0}", "name no class besides the background"),
        ("data.remap={255=-1}", "from 0 to 65535"),
        ("data.remap={x=1}", "from 0 to 65535"),
        ("data.remap=5", "data.remap"),
    ] {
        let said = lab.failure(&["train", "c.toml", "--run", "w", "--set", set]);
        assert!(said.contains(part), "{set}: {said}");
    }
    for verb in [&["check", "data"][..], &["evaluate", "data/labelsTr", "data/labelsTr"]] {
        let output = lab.output(&[verb, &["--remap", "255"]].concat());
        assert_eq!(output.status.code(), Some(2));
    }
}
