//! Several seeds of one training: the same cases held out, each a run of its own, and the spread of their figures.
mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{Lab, digest_of, stderr, stdout};
use serde_json::{Value, json};

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn close(found: &Value, expected: f64) {
    assert!((found.as_f64().unwrap() - expected).abs() < 1e-12, "{found} {expected}");
}

#[test]
fn seeds_share_their_split_and_their_spread_is_told() {
    let lab = Lab::new();
    let printed = lab.done(&["train", "c.toml", "--run", "s", "--seeds", "3"]);
    let summary = lab.json("s/seeds.json");
    assert_eq!((&summary["seeds"], &summary["split_seed"]), (&json!([0, 1, 2]), &json!(12345)));

    let manifests: Vec<Value> = (0..3).map(|seed| lab.json(&format!("s/seed_{seed}/manifest.json"))).collect();
    let held_out = &manifests[0]["validation_cases"];
    for (seed, manifest) in manifests.iter().enumerate() {
        assert_eq!((&manifest["seed"], &manifest["validation_cases"]), (&json!(seed), held_out));
        assert_eq!(manifest["weights_sha256"], summary["weights_sha256"][seed]);
        assert!(lab.path(&format!("s/seed_{seed}/checkpoints/last/checkpoint.safetensors")).is_file());
    }
    let digests: BTreeSet<String> = manifests.iter().map(|manifest| manifest["weights_sha256"].to_string()).collect();
    assert_eq!(digests.len(), 3, "a seed changes nothing");

    // Each is the training with that seed alone: seeds do not decide what is held out.
    assert_eq!(json!(lab.digest(&["train", "c.toml", "--run", "a"])), manifests[0]["weights_sha256"]);
    let arguments = ["train", "c.toml", "--run", "b", "--set", "train.seed=2"];
    assert_eq!(json!(lab.digest(&arguments)), manifests[2]["weights_sha256"]);
    lab.done(&["train", "c.toml", "--run", "c", "--set", "data.split_seed=2"]);
    assert_ne!(&lab.json("c/manifest.json")["validation_cases"], held_out);

    // The figures, from those of the runs.
    let figures: Vec<Value> = (0..3).map(|seed| lab.json(&format!("s/seed_{seed}/validation/summary.json"))).collect();
    for class in 0..2 {
        let of_seed = |figures: &Value| figures["classes"][class]["mean"]["dice"].as_f64().unwrap();
        let dice: Vec<f64> = figures.iter().map(of_seed).collect();
        let mean = dice.iter().sum::<f64>() / 3.0;
        let sd = (dice.iter().map(|dice| (dice - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
        let found = &summary["classes"][class];
        assert_eq!(found["class"], figures[0]["classes"][class]["class"]);
        assert!(numbers(&found["dice"]["values"]) == dice && sd > 0.0, "{found}");
        close(&found["dice"]["mean"], mean);
        close(&found["dice"]["sd"], sd);
        close(&found["dice"]["min"], dice.iter().copied().fold(1.0, f64::min));
        close(&found["dice"]["max"], dice.iter().copied().fold(0.0, f64::max));
        let name = found["name"].as_str().unwrap();
        let row = format!("{mean:.4} {sd:.4}");
        let line = printed.lines().rfind(|line| line.contains(name)).unwrap();
        assert!(line.split_whitespace().collect::<Vec<_>>().join(" ").contains(&row), "{row} is not in {printed}");
        for case in 0..2 {
            let of_seed = |figures: &Value| figures["cases"][case]["classes"][class]["dice"].as_f64().unwrap();
            let dice: Vec<f64> = figures.iter().map(of_seed).collect();
            assert_eq!(numbers(&summary["cases"][case]["classes"][class]["dice"]["values"]), dice);
        }
    }
    let means: Vec<f64> = figures.iter().map(|of_run| of_run["foreground_mean"]["dice"].as_f64().unwrap()).collect();
    assert_eq!(numbers(&summary["mean_dice"]["values"]), means);
}

#[test]
fn more_seeds_go_on_with_those_that_are_done() {
    let lab = Lab::new();
    let seeds = |count: &'static str| ["train", "c.toml", "--run", "s", "--set", "train.seed=7", "--seeds", count];
    let stopped = lab.output(&[&seeds("2")[..], &["--steps", "1000000", "--max-time", "1s"]].concat());
    assert_eq!(stopped.status.code(), Some(4), "{}", stderr(&stopped));
    assert!(stdout(&stopped).contains("--seeds 2 --steps 1000000 --max-time 1s --resume"), "{}", stdout(&stopped));
    assert!(lab.path("s/seed_7/checkpoints/last").is_dir() && !lab.path("s/seeds.json").exists());
    fs::remove_dir_all(lab.path("s")).unwrap();

    let two = lab.digest(&seeds("2"));
    let metrics = |seed: &str| fs::read(lab.path("s").join(seed).join("metrics.jsonl")).unwrap();
    let before = [metrics("seed_7"), metrics("seed_8")];
    // A checkpoint that is gone is made again, what is whole is not touched.
    fs::remove_dir_all(lab.path("s/seed_8")).unwrap();
    let again = lab.output(&[&seeds("2")[..], &["--resume"]].concat());
    assert_eq!(digest_of(&stdout(&again)), two);
    assert_eq!(metrics("seed_7"), before[0]);
    assert_ne!(metrics("seed_8"), before[1], "seconds differ where a run is made again");
    let three = lab.digest(&[&seeds("3")[..], &["--resume"]].concat());
    assert_ne!(three, two);
    assert_eq!(lab.json("s/seeds.json")["seeds"], json!([7, 8, 9]));
    assert_eq!(metrics("seed_7"), before[0]);
}

#[test]
fn what_makes_no_series_is_refused() {
    let lab = Lab::new();
    let said = lab.failure(&["train", "c.toml", "--run", "s", "--seeds", "2", "--fold", "each"]);
    assert!(said.contains("--seeds") && said.contains("--fold K"), "{said}");
    assert!(!lab.path("s").exists());
    assert_eq!(lab.output(&["train", "c.toml", "--seeds", "0"]).status.code(), Some(2));
    let said = lab.failure(&["train", "c.toml", "--seeds", "2", "--set", "train.seed=9223372036854775807"]);
    assert!(said.contains("smaller train.seed"), "{said}");

    lab.done(&["train", "c.toml", "--run", "s", "--seeds", "1"]);
    // One seed has no deviation.
    assert_eq!(lab.json("s/seeds.json")["mean_dice"]["sd"], Value::Null);
    lab.done(&["train", "c.toml", "--run", "a"]);
    let said = lab.failure(&["train", "c.toml", "--run", "s", "--seeds", "1"]);
    assert!(said.contains("add --resume"), "{said}");
    let said = lab.failure(&["train", "c.toml", "--run", "s", "--resume"]);
    assert!(said.contains("several seeds") && said.contains("--seeds N"), "{said}");
    let said = lab.failure(&["train", "c.toml", "--run", "a", "--resume", "--seeds", "2"]);
    assert!(said.contains("leave out --seeds"), "{said}");
}

/// The digest of a configuration that says nothing of the newer keys is what it was before there were any: recorded from
/// the version before them.
#[test]
fn the_digest_of_older_configurations_stays() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "a"]);
    let digest = |run: &str| lab.json(&format!("{run}/manifest.json"))["config_sha256"].clone();
    assert_eq!(digest("a"), json!("e4a91c67373eefda523d887f713f049b1276f39e08a94121466b8af0348f335b"));
    let written = fs::read_to_string(lab.path("a/config.toml")).unwrap();
    assert!(written.contains("split_seed = 12345\n") && written.contains("on_bad_case = \"stop\"\n"), "{written}");
    lab.done(&["train", "c.toml", "--run", "b", "--set", "data.split_seed=12345", "--set", "data.on_bad_case=skip"]);
    assert_eq!(digest("a"), digest("b"));
    lab.done(&["train", "c.toml", "--run", "c", "--set", "data.split_seed=1"]);
    assert_ne!(digest("a"), digest("c"));
    let said = lab.failure(&["train", "c.toml", "--run", "d", "--set", "data.split_seed=-1"]);
    assert!(said.contains("data.split_seed") && said.contains("\"auto\""), "{said}");
}
