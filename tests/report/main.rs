//! Pages about runs, the list of runs and the scalars for TensorBoard, as a person gets them.
mod browser;
#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod events;
mod listing;
mod page;

/// A class that would like to be markup, in a lab whose six cases have one that would too.
fn hostile_lab() -> common::Lab {
    let lab = common::Lab::new();
    let text = std::fs::read_to_string(lab.path("data/dataset.json")).unwrap();
    let mut dataset: serde_json::Value = serde_json::from_str(&text).unwrap();
    dataset["labels"]["1"] = HOSTILE.into();
    dataset["name"] = "</title></style><script>window.hacked = 2</script>".into();
    dataset["modality"]["0"] = "'><img src=x onerror=window.hacked=3>".into();
    lab.write("data/dataset.json", dataset.to_string().as_bytes());
    lab
}

/// Trains `run` for a second, which is not enough; the last step that it made.
fn stopped(lab: &common::Lab, run: &str, more: &[&str]) -> u64 {
    let endless = ["--steps", "1000000", "--max-time", "1s", "--set", "train.validate_every=1000000"];
    let output = lab.output(&[&["train", "c.toml", "--run", run], &endless[..], more].concat());
    assert_eq!(output.status.code(), Some(4), "{}", common::stderr(&output));
    lab.metrics(run).last().map_or(0, |line| line["step"].as_u64().unwrap())
}

const HOSTILE: &str = "</script><script>window.hacked = 1</script>\" onload=\"window.hacked=4";
