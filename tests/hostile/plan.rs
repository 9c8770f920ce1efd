//! `plan.toml` of a run folder that came from somewhere.
use std::fs;

use proptest::prelude::*;
use voxfit::train::load_run;

use crate::allocation::{alone, measured};
use crate::common::Lab;
use crate::config::NEVER_CLOSED;
use crate::damage::fuzz;

const WORDS: &[&str] = &[
    "0",
    "-1",
    "9223372036854775807",
    "nan",
    "inf",
    "[]",
    "[0, 0, 0]",
    "[[network.stages]]\n",
    "\"\"",
    "{",
    "a.a.a=1\n",
    "1e300",
];

#[test]
fn damaged_plans_are_read_or_refused() {
    let _alone = alone();
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "r", "--set", "train.steps=1"]);
    let path = lab.path("r/plan.toml");
    let whole = fs::read(&path).unwrap();
    load_run(&lab.path("r")).unwrap();
    fuzz(1500, vec![whole], WORDS, |bytes| {
        fs::write(&path, bytes)?;
        let (read, peak) = measured(|| load_run(&lab.path("r")));
        prop_assert!(peak <= 64 << 20, "{peak} bytes were held");
        match read {
            Ok(plan) => {
                let divisor = plan.network.divisor();
                prop_assert!((0..3).all(|axis| plan.patch[axis] > 0 && plan.patch[axis] % divisor[axis] == 0));
                prop_assert_eq!(plan.channels.len(), plan.preparation.normalisation.len());
            }
            Err(error) => prop_assert!(error.to_string().contains("plan.toml: "), "{error}"),
        }
        Ok(())
    });
}

/// As in a configuration, and a plan may be longer.
#[test]
fn brackets_that_are_never_closed_do_not_end_the_process() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let text = NEVER_CLOSED.repeat((256 << 10) / NEVER_CLOSED.len());
    fs::write(folder.path().join("plan.toml"), text).unwrap();
    assert!(load_run(folder.path()).unwrap_err().to_string().contains("plan.toml: "));
}

/// Each of these would divide by zero, index beyond a list or ask for any amount of memory.
#[test]
fn plans_that_no_training_leaves_are_refused() {
    let _alone = alone();
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "r", "--set", "train.steps=1"]);
    let path = lab.path("r/plan.toml");
    let whole: toml::Table = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let zero = || toml::Value::Integer(0);
    let huge = || toml::Value::Integer(i64::MAX);
    type Change = Box<dyn Fn(&mut toml::Table)>;
    let changes: Vec<(&str, Change)> = vec![
        ("patch", Box::new(move |plan| plan["patch"][0] = zero())),
        ("patch", Box::new(move |plan| plan["patch"][1] = huge())),
        ("network", Box::new(|plan| plan["network"]["stages"] = toml::Value::Array(Vec::new()))),
        ("network", Box::new(move |plan| plan["network"]["stages"][0]["features"] = huge())),
        ("network", Box::new(move |plan| plan["network"]["stages"][1]["stride"][0] = zero())),
        ("network", Box::new(move |plan| plan["network"]["stages"][1]["kernel"][0] = huge())),
        ("channels", Box::new(move |plan| plan["network"]["in_channels"] = huge())),
        ("classes", Box::new(move |plan| plan["network"]["classes"] = huge())),
        ("classes", Box::new(|plan| plan["classes"] = toml::Value::Array(Vec::new()))),
        ("preparation.spacing", Box::new(|plan| plan["preparation"]["spacing"][0] = toml::Value::Float(1e-300))),
        ("preparation.spacing", Box::new(|plan| plan["preparation"]["spacing"][0] = toml::Value::Float(f64::NAN))),
    ];
    for (name, change) in changes {
        let mut plan = whole.clone();
        change(&mut plan);
        fs::write(&path, toml::to_string(&plan).unwrap()).unwrap();
        let said = lab.failure(&["predict", "r", "data/imagesTr", "-o", "out"]);
        assert!(said.contains(&format!("plan.toml: {name} ")) && said.contains("not what a training leaves"), "{said}");
        assert!(!lab.path("out").exists());
    }
}
