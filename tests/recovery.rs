//! A budget that shrinks while a run goes on changes nothing but memory and time.
mod common;

use std::process::Output;

use common::{Lab, digest_of, stderr, stdout};
use serde_json::Value;

/// Four samples a step, of a network whose steps take some tens of MiB.
const CONFIG: &str = r#"
[data]
dataset = "data"
[batch]
effective = 4
micro = 4
[network]
patch = [48, 48, 48]
features = 8
features_max = 32
[train]
steps = 4
validate_every = 2
checkpoint_every = 1
"#;

struct Runs {
    lab: Lab,
}

impl Runs {
    fn new() -> Self {
        let lab = Lab::new();
        lab.write("cut.toml", CONFIG.as_bytes());
        Self { lab }
    }

    /// Bytes that the plan of a run with these settings holds.
    fn planned(&self, settings: &[&str]) -> u64 {
        let mut arguments = vec!["plan", "data", "--config", "cut.toml", "--json", "--memory", "64GiB"];
        settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
        let page: Value = serde_json::from_str(&self.lab.done(&arguments)).unwrap();
        page["predicted_peak_bytes"].as_u64().unwrap()
    }

    fn train(&self, run: &str, cut: Option<String>, settings: &[&str]) -> Output {
        let mut arguments = vec!["train", "cut.toml", "--run", run, "--memory", "64GiB"];
        settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
        let mut command = self.lab.voxfit(&arguments);
        command.env_remove("VOXFIT_TEST_BUDGET");
        if let Some(cut) = cut {
            command.env("VOXFIT_TEST_BUDGET", cut);
        }
        command.output().unwrap()
    }

    /// Losses of all steps.
    fn losses(&self, run: &str) -> Vec<String> {
        self.lab.metrics(run).iter().filter_map(|line| line.get("loss").map(Value::to_string)).collect()
    }
}

fn digest(output: &Output) -> String {
    digest_of(&stdout(output))
}

/// Between what two settings hold.
fn between(a: u64, b: u64) -> u64 {
    a.midpoint(b) >> 10
}

#[test]
fn a_budget_cut_in_mid_step_changes_no_bit() {
    let runs = Runs::new();
    let whole = runs.train("whole", None, &[]);
    assert!(whole.status.success(), "{}", stderr(&whole));
    let all = runs.planned(&[]);
    let two = runs.planned(&["batch.micro=2"]);
    let one = runs.planned(&["batch.micro=1"]);
    assert!(one < two && two < all, "{one} {two} {all}");
    for (run, step, budget, told) in [
        ("half", 1, between(two, all), "2 samples at a time, nothing computed again"),
        ("one", 3, between(one, two), "1 sample at a time, nothing computed again"),
    ] {
        let cut = runs.train(run, Some(format!("{step}:{budget}KiB")), &[]);
        assert!(cut.status.success(), "{}", stderr(&cut));
        let told = format!("step {step} starts again with {told}");
        assert!(stderr(&cut).contains(&told), "{told}: {}", stderr(&cut));
        assert_eq!(digest(&cut), digest(&whole));
        assert_eq!(runs.losses(run), runs.losses("whole"));
    }
}

#[test]
fn what_no_smaller_step_fits_is_said_and_can_be_resumed() {
    let runs = Runs::new();
    let whole = runs.train("whole", None, &[]);
    let stopped = runs.train("run", Some("3:1MiB".into()), &[]);
    let text = stderr(&stopped);
    assert_eq!(stopped.status.code(), Some(1), "{text}");
    assert!(text.contains("step 3: ") && text.contains("resume with more memory"), "{text}");
    let resumed = runs.lab.output(&["train", "cut.toml", "--run", "run", "--memory", "64GiB", "--resume"]);
    assert!(stderr(&resumed).contains("resumed from step 2"), "{}", stderr(&resumed));
    assert_eq!(digest(&resumed), digest(&whole));
}

/// Of a batch norm the micro-batch is part of the result: it is kept, and where computing again does not help the run ends.
#[test]
fn a_batch_norm_keeps_its_micro_batch() {
    let runs = Runs::new();
    let norm = ["network.norm=\"batch\"", "network.batch_norm_min=4"];
    let whole = runs.train("whole", None, &norm);
    assert!(whole.status.success(), "{}", stderr(&whole));
    let all = runs.planned(&norm);
    let blocks = runs.planned(&[norm[0], norm[1], "memory.recompute=\"blocks\""]);
    let again = runs.train("again", Some(format!("2:{}KiB", between(blocks, all))), &norm);
    assert!(stderr(&again).contains("4 samples at a time, blocks computed again"), "{}", stderr(&again));
    assert_eq!(digest(&again), digest(&whole));
    let refused = runs.train("refused", Some("2:1MiB".into()), &norm);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("network.norm = \"group\""), "{}", stderr(&refused));
}

#[test]
fn a_cut_that_cannot_be_read_is_refused() {
    let runs = Runs::new();
    let refused = runs.train("run", Some("soon".into()), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("VOXFIT_TEST_BUDGET") && stderr(&refused).contains("STEP:SIZE"));
}
