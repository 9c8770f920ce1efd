//! `voxfit plan`: what it shows is what `train` does.
mod common;

use common::Lab;
use serde_json::Value;

fn json(lab: &Lab, arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["plan", "data", "--json"].iter().chain(arguments).copied().collect();
    serde_json::from_str(&lab.done(&all)).unwrap()
}

#[test]
fn the_parts_add_up_to_the_peak() {
    let lab = Lab::new();
    let page = json(&lab, &["--config", "c.toml"]);
    let parts: u64 = page["parts_bytes"].as_object().unwrap().values().map(|part| part.as_u64().unwrap()).sum();
    assert_eq!(page["predicted_peak_bytes"].as_u64(), Some(parts));
    assert_eq!(page["patch"], serde_json::json!([16, 16, 16]));
    assert_eq!(page["effective_batch"], 3);
    assert!(page["seconds_per_step"].as_f64().unwrap() > 0.0);
    assert_eq!(page["changed"], Value::Null);
}

/// A written plan trains to the same weights as the configuration that it was made from.
#[test]
fn what_is_written_trains_the_same() {
    let lab = Lab::new();
    lab.done(&["plan", "data", "--config", "c.toml", "--memory", "2GiB", "-o", "planned.toml"]);
    let text = std::fs::read_to_string(lab.path("planned.toml")).unwrap();
    assert!(text.contains("budget = \"2GiB\""), "{text}");
    for key in ["micro", "recompute", "patch", "stages", "norm", "activations", "spacing", "kernels", "strides"] {
        assert!(text.lines().any(|line| line.starts_with(key) && !line.contains("auto")), "{key}: {text}");
    }
    let last = |config: &str, run: &str| lab.digest(&["train", config, "--run", run]);
    assert_eq!(last("planned.toml", "a"), last("c.toml", "b"));
}

/// A patch left to voxfit may be made smaller, and that is said; one that is written is kept or refused.
#[test]
fn a_small_budget_makes_a_proposal_or_a_refusal() {
    let lab = Lab::new();
    lab.done(&["phantom", "large", "--cases", "2", "--size", "96,96,96", "--classes", "2"]);
    let plan = |arguments: &[&str]| {
        let all: Vec<&str> = ["plan", "large", "--json"].iter().chain(arguments).copied().collect();
        let page: Value = serde_json::from_str(&lab.done(&all)).unwrap();
        page
    };
    let free = plan(&["--memory", "16GiB"]);
    assert_eq!(free["changed"], Value::Null);
    let tight = plan(&["--memory", "300MiB"]);
    let voxels =
        |page: &Value| page["patch"].as_array().unwrap().iter().map(|edge| edge.as_u64().unwrap()).product::<u64>();
    assert!(voxels(&tight) < voxels(&free));
    assert!(tight["predicted_peak_bytes"].as_u64().unwrap() <= 300 << 20);
    assert_eq!(tight["changed"]["patch"][0], free["patch"]);
    let shown = lab.done(&["plan", "large", "--memory", "300MiB"]);
    assert!(shown.contains("NOT the network that was asked for"), "{shown}");

    let refused =
        lab.voxfit(&["plan", "large", "--memory", "300MiB", "--set", "network.patch=[96,96,96]"]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("network.patch") && said.contains("300MiB"), "{said}");
    let refused = lab.voxfit(&["plan", "large", "--memory", "20MiB"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
}

/// Where a patch shows less than a quarter of a case this is said, and the coarser network is planned, written and trained;
/// which one it is, tests/nnunet_plans.rs holds against nnU-Net.
#[test]
fn a_patch_that_shows_little_of_a_case_is_told_and_a_coarser_network_planned() {
    let lab = Lab::new();
    lab.done(&["phantom", "large", "--cases", "2", "--size", "96,96,96", "--classes", "2"]);
    let small = ["--set", "network.design=64MiB", "--set", "network.features=8", "--effective-batch", "1"];
    let plan = |arguments: &[&str]| lab.done(&[&["plan", "large"], arguments, &small].concat());
    let page = |arguments: &[&str]| serde_json::from_str::<Value>(&plan(&[&["--json"], arguments].concat())).unwrap();
    let full = page(&[]);
    assert!(full["patch_share_of_median"].as_f64().unwrap() < 0.25, "{full}");
    assert!(plan(&[]).contains("less than a quarter"));

    let low = page(&["--low-resolution", "-o", "coarse.toml"]);
    assert_eq!(low["spacing_mm"], full["low_resolution"]["spacing_mm"]);
    assert_eq!(low["patch"], full["low_resolution"]["patch"]);
    assert_eq!(low["low_resolution"], Value::Null);
    assert!(low["patch_share_of_median"].as_f64().unwrap() > 0.24);
    let spacing = |page: &Value| page["spacing_mm"][0].as_f64().unwrap();
    assert!(spacing(&low) > 1.25 * spacing(&full), "{low}");
    lab.done(&["train", "coarse.toml", "--run", "coarse", "--steps", "1"]);

    // With a design that has room for a quarter there is nothing to plan.
    let refused = lab.voxfit(&["plan", "large", "--low-resolution"]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("% of a median case") && said.contains("--low-resolution"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_probe_finds_what_was_predicted() {
    let lab = Lab::new();
    let page = json(
        &lab,
        &["--config", "c.toml", "--probe", "--set", "network.features=16", "--set", "network.patch=[24,24,24]"],
    );
    let probe = &page["probe"];
    let [predicted, measured] = ["predicted_bytes", "measured_bytes"].map(|key| probe[key].as_f64().unwrap());
    // Never under by more than 2 %, over by at most 8 % or 12 MiB.
    assert!(
        predicted > 0.98 * measured && predicted < (1.08 * measured).max(measured + 12e6),
        "{predicted} {measured}"
    );
    assert_eq!(probe["corrected"], false);
}

/// The budget is a cap: a run ends as it would without one where the system gives no more than that.
#[cfg(target_os = "linux")]
#[test]
fn a_run_fits_a_limit_of_its_budget() {
    let lab = Lab::new();
    lab.done(&["phantom", "large", "--cases", "5", "--size", "64,64,64", "--classes", "2"]);
    let sets = ["network.patch=[64,64,64]", "network.features=32", "train.validate_every=100", "batch.effective=2"];
    let sets = sets.map(|set| format!("--set {set}")).join(" ");
    let train = |run: &str, before: &str, memory: &str| {
        let output = lab.shell(&format!(
            "{before} exec \"$VOXFIT\" -q train c.toml --data large --run {run} --steps 2 --memory {memory} {sets}"
        ));
        assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
        common::digest_of(&common::stdout(&output))
    };
    let free = train("free", "", "4GiB");
    let planned = lab.json("free/manifest.json")["planned_peak_bytes"].as_u64().unwrap();
    // Less than was planned with all the room, so that levers are used, and nothing was prepared before.
    let budget = (planned * 9 / 10) >> 10;
    let tight = train("tight", &format!("rm -r cache; ulimit -d {budget};"), &format!("{budget}KiB"));
    assert_eq!(tight, free);
    assert!(lab.json("tight/manifest.json")["run_peak_bytes"].as_u64().unwrap() <= budget << 10);
}

/// What ranks would hold and send: by hand for 8 samples, of whose gradient's P values each rank sends its parts of what the
/// others add up, and what it adds up itself to each of the others.
#[test]
fn the_cost_of_several_ranks_is_told() {
    let lab = Lab::new();
    let page = json(&lab, &["--config", "c.toml", "--effective-batch", "8", "--ranks", "4"]);
    let rows = page["ranks"].as_array().unwrap();
    let of = |key: &str| -> Vec<u64> { rows.iter().map(|row| row[key].as_u64().unwrap()).collect() };
    assert_eq!(of("ranks"), [1, 2, 3, 4]);
    assert_eq!(of("samples"), [8, 4, 3, 2]);
    let bytes = 4 * page["parameters"].as_u64().unwrap();
    // One part of 4 or 2 samples; of 3 to 5 it is sample 3 and samples 4 and 5.
    assert_eq!(of("sent_bytes_per_step"), [0, bytes, 2 * bytes, 3 * bytes / 2]);
    assert_eq!(rows[0]["predicted_peak_bytes"], page["predicted_peak_bytes"]);
    let seconds = |row: usize, network: usize| rows[row]["seconds_per_step"][network]["seconds"].as_f64().unwrap();
    let alone = page["seconds_per_step"].as_f64().unwrap();
    assert_eq!(seconds(0, 0), alone);
    let sent = 8.0 * bytes as f64 / 0.9e9;
    assert!((seconds(1, 0) - (alone / 2.0 + sent)).abs() < 1e-9 * alone, "{} {alone} {sent}", seconds(1, 0));
    assert!(seconds(1, 2) < seconds(1, 1) && seconds(1, 1) < seconds(1, 0));
    let shown = lab.done(&["plan", "data", "--config", "c.toml", "--ranks", "2"]);
    assert!(shown.contains("samples each") && shown.contains("10 Gbit/s"), "{shown}");
}
