//! `voxfit runs`.
use serde_json::Value;

use crate::common::{Lab, stderr};
use crate::stopped;

fn rows(lab: &Lab, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["runs", "runs", "--json"], arguments].concat();
    serde_json::from_str(&lab.done(&arguments)).unwrap()
}

#[test]
fn runs_are_listed_with_what_they_came_to() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "runs/b"]);
    lab.done(&["train", "c.toml", "--run", "runs/deeper/a", "--set", "batch.effective=2"]);
    lab.done(&["train", "c.toml", "--run", "runs/seeds", "--seeds", "2"]);
    let step = stopped(&lab, "runs/stopped", &[]);

    let by_name = rows(&lab, &["--sort", "name"]);
    let names: Vec<&str> = by_name.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["b", "deeper/a", "seeds", "stopped"]);
    let [b, a, seeds, unfinished] = &by_name[..] else { panic!() };
    let metrics = lab.metrics("runs/b");
    let steps: Vec<&Value> = metrics.iter().filter(|line| line["loss"].is_number()).collect();
    let peak = steps.iter().filter_map(|line| line["peak_bytes"].as_u64()).max();
    assert_eq!((&b["state"], b["step"].as_u64(), b["peak_bytes"].as_u64()), (&"finished".into(), Some(3), peak));
    let seconds = steps.iter().map(|line| line["seconds"].as_f64().unwrap()).sum::<f64>() / 3.0;
    assert!((b["seconds_per_step"].as_f64().unwrap() - seconds).abs() < 1e-9);
    let manifest = lab.json("runs/b/manifest.json");
    assert_eq!(b["mean_dice"]["mean"], manifest["mean_dice"]);
    assert_eq!((&b["norm"], &b["activations"]), (&manifest["norm"]["used"], &manifest["activations"]));
    assert_eq!((&b["patch"], &a["effective_batch"]), (&serde_json::json!([16, 16, 16]), &2.into()));
    // Of a series mean and deviation, as seeds.json has them.
    let spread = &lab.json("runs/seeds/seeds.json")["mean_dice"];
    for key in ["mean", "sd"] {
        let (found, expected) = (seeds["mean_dice"][key].as_f64().unwrap(), spread[key].as_f64().unwrap());
        assert!((found - expected).abs() < 1e-12);
    }
    assert_eq!((&seeds["runs"], &seeds["steps"], &seeds["started_from"]), (&2.into(), &6.into(), &"2 seeds".into()));
    assert_eq!(
        (&unfinished["state"], &unfinished["step"], &unfinished["mean_dice"]["mean"]),
        (&"stopped".into(), &step.into(), &Value::Null)
    );

    let best: Vec<f64> = rows(&lab, &[]).iter().filter_map(|row| row["mean_dice"]["mean"].as_f64()).collect();
    assert!(best.len() == 3 && best.is_sorted_by(|a, b| a >= b), "{best:?}");
    assert_eq!(rows(&lab, &["--sort", "time"])[0]["name"], "stopped");
    let table = lab.done(&["runs", "runs"]);
    assert!(
        table.contains("seeds (2)") && table.contains(" ± ") && table.contains(&format!("{step}/1000000")),
        "{table}"
    );

    // A folder that cannot be read is said, the others are shown.
    let said = |expected: &str| {
        let output = lab.output(&["runs", "runs", "--json"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    };
    std::fs::remove_file(lab.path("runs/b/config.toml")).unwrap();
    said("config.toml");
    lab.write("runs/b/manifest.json", b"{");
    said("manifest.json");
    assert!(lab.failure(&["runs", "nowhere"]).contains("no such folder"));
    assert!(lab.done(&["runs", "data"]).starts_with("no run in data"));
}

#[test]
fn a_dry_run_says_what_would_be_and_leaves_nothing() {
    let lab = Lab::new();
    let said = lab.done(&["train", "c.toml", "--run", "r", "--dry-run"]);
    for part in
        ["run folder r", "4 cases to train on, 2 held out", "16 x 16 x 16", "3 samples a step", "nothing was written"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!lab.path("r").exists());
    // No case was prepared.
    let stored = |entry: std::fs::DirEntry| entry.path().join("store.json").exists();
    let cache = std::fs::read_dir(lab.path("cache")).into_iter().flatten().flatten();
    assert!(!cache.into_iter().any(stored));
    let said = lab.done(&["train", "c.toml", "--run", "r", "--dry-run", "--fold", "each", "--set", "data.folds=2"]);
    assert!(said.contains("fold_0") && said.contains("fold_1"), "{said}");
    // What would stop the training stops this, with the same sentence.
    for wrong in [&["--memory", "8MiB"][..], &["--set", "network.stages=9"]] {
        let of = |more: &[&str]| lab.failure(&[&["train", "c.toml", "--run", "r"], wrong, more].concat());
        // Bytes that a process holds are never quite the same twice.
        let words = |text: String| text.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
        assert_eq!(words(of(&["--dry-run"])), words(of(&[])));
    }
    lab.done(&["train", "c.toml", "--run", "r"]);
    assert!(lab.failure(&["train", "c.toml", "--run", "r", "--dry-run"]).contains("the run folder exists"));
    let said = lab.done(&["train", "c.toml", "--run", "r", "--dry-run", "--resume"]);
    assert!(said.contains("going on from step 3"), "{said}");
}

#[test]
fn shells_complete_every_verb() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = lab.done(&["completions", shell]);
        for word in ["train", "report", "resume", "voxfit"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let output = std::process::Command::new("bash").arg("-n").stdin(std::process::Stdio::piped()).spawn();
    let Ok(mut bash) = output else { return eprintln!("skipped: no bash here") };
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), lab.done(&["completions", "bash"]).as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success(), "bash reads it");
}
