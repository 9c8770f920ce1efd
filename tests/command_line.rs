//! The program as typed: exit codes, one line on stderr, no panic, nothing half-written.
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn voxfit(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voxfit"));
    command.args(arguments).env_remove("VOXFIT_VOLUMES").env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
    command
}

fn output(arguments: &[&str]) -> Output {
    voxfit(arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Exit code 1 and one line, which is returned.
fn failure(arguments: &[&str]) -> String {
    let output = output(arguments);
    let said = stderr(&output);
    assert_eq!(code(&output), 1, "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    assert!(said.starts_with("voxfit: "), "{arguments:?}: {said}");
    assert!(stdout(&output).is_empty());
    said
}

/// A dataset of a few small cases; kept while the folder is.
fn phantom() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let dataset = folder.path().join("phantom").to_str().unwrap().to_owned();
    let made = output(&["phantom", &dataset, "--cases", "3", "--size", "24,20,16", "--classes", "2", "--seed", "7"]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    (folder, dataset)
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const VERBS: [&str; 17] = [
    "phantom",
    "check",
    "init",
    "plan",
    "train",
    "predict",
    "evaluate",
    "export",
    "import",
    "pack",
    "compare",
    "reproduce",
    "report",
    "runs",
    "devices",
    "clean",
    "schema",
];

#[test]
fn help_lists_the_verbs_that_work() {
    let help = output(&["--help"]);
    assert_eq!(code(&help), 0);
    let text = stdout(&help);
    let listed: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(listed, [&VERBS[..], &["completions", "help"]].concat());
    for verb in VERBS {
        let help = output(&[verb, "--help"]);
        let text = stdout(&help);
        assert_eq!(code(&help), 0);
        assert!(text.contains("Example:") && text.contains(&format!("voxfit {verb}")), "{text}");
        for global in ["--verbose", "--quiet", "--log-format"] {
            assert!(text.contains(global), "{verb} has no {global}");
        }
    }
    assert!(stdout(&output(&["--version"])).starts_with(concat!("voxfit ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &[][..],
        &["trian"],
        &["train"],
        &["train", "a.toml", "--steps", "0"],
        &["train", "a.toml", "--steps", "many"],
        &["train", "a.toml", "--fold", "-1"],
        &["train", "a.toml", "--fold", "some"],
        &["train", "a.toml", "--max-time", "5"],
        &["train", "a.toml", "--memory", "4GB"],
        &["train", "a.toml", "--micro-batch", "0"],
        &["train", "a.toml", "--threads", "0"],
        &["train", "a.toml", "--device", "gpu"],
        &["train", "a.toml", "--set", "steps"],
        &["predict", "run", "-o", "x"],
        &["predict", "run", "in", "-o", "x", "--overlap", "1"],
        &["phantom"],
        &["phantom", "x", "--size", "1,2"],
        &["check"],
        &["compare", "run"],
        &["reproduce"],
        &["reproduce", "run", "--stop-after", "0"],
        &["devices", "-v", "-q"],
        &["devices", "--log-format", "xml"],
    ] {
        let output = output(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty() && stdout(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_wrong_configuration_is_told_in_one_line() {
    let folder = TempDir::new().unwrap();
    let good = write(&folder, "good.toml", "data.dataset = \"nowhere\"\n");
    let unknown = write(&folder, "unknown.toml", "[train]\nstpes = 5\n");
    let range = write(&folder, "range.toml", "[sampling]\n\nforeground = 2\n");
    let broken = write(&folder, "broken.toml", "[train\n");
    let binary = folder.path().join("binary.toml");
    fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    for (arguments, part) in [
        (vec!["train", "missing.toml"], "missing.toml: "),
        (vec!["train", folder.path().to_str().unwrap()], "not a file"),
        (vec!["train", binary.to_str().unwrap()], "not UTF-8"),
        (vec!["train", &unknown], "unknown.toml:2: train.stpes is no key; the nearest is train.steps"),
        (vec!["train", &range], "range.toml:3: sampling.foreground is 2; expected a number from 0 to 1"),
        (vec!["train", &broken], "broken.toml:1: not TOML"),
        (vec!["train", &good], "nowhere: no such folder"),
        (vec!["train", &good, "--fold", "5"], "--fold 5: data.fold is 5; expected"),
        (vec!["train", &good, "--set", "train.seed=-1"], "--set train.seed=-1: train.seed is -1; expected"),
        (vec!["train", &good, "--set", "train.seed=1", "--device", "cuda:1"], "--device cuda:1: not in this build"),
        (
            vec!["train", &good, "--data", folder.path().to_str().unwrap(), "--weights", "missing"],
            "missing: no such file",
        ),
    ] {
        let said = failure(&arguments);
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn an_unset_variable_says_where_the_data_comes_from() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    for name in ["hippocampus.toml", "whole-head.toml"] {
        let said = failure(&["train", configs.join(name).to_str().unwrap()]);
        for part in ["VOXFIT_VOLUMES", "medicaldecathlon.com", "Task04_Hippocampus", "--data DIR"] {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[test]
fn a_phantom_is_made_checked_and_evaluated() {
    let (folder, dataset) = phantom();
    let checked = output(&["check", &dataset]);
    assert_eq!((code(&checked), stdout(&checked).contains("no fault")), (0, true), "{}", stdout(&checked));
    let json: serde_json::Value = serde_json::from_slice(&output(&["check", &dataset, "--json"]).stdout).unwrap();
    assert_eq!(json["findings"].as_array().unwrap().len(), 0);
    assert_eq!((&json["cases"], &json["faults"], &json["warnings"]), (&3.into(), &0.into(), &0.into()));
    for key in ["prepared_bytes", "preparing_bytes"] {
        assert!(json["room"][key].as_u64().unwrap() > 1000, "{json}");
    }

    // Labels against themselves: Dice 1.
    let labels = format!("{dataset}/labelsTr");
    let (figures, rows) = (folder.path().join("new/figures.json"), folder.path().join("rows.csv"));
    let evaluated = output(&[
        "evaluate",
        &labels,
        &labels,
        "--json",
        figures.to_str().unwrap(),
        "--csv",
        rows.to_str().unwrap(),
        "--tolerance",
        "2",
    ]);
    assert_eq!(code(&evaluated), 0, "{}", stderr(&evaluated));
    assert!(stdout(&evaluated).contains("Dice"));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(figures).unwrap()).unwrap();
    assert_eq!((json["tolerance_mm"].as_f64(), json["cases"].as_array().unwrap().len()), (Some(2.0), 3));
    assert_eq!(json["foreground_mean"]["dice"].as_f64(), Some(1.0));
    assert_eq!(fs::read_to_string(rows).unwrap().lines().count(), 1 + 3 * 2);
    assert!(failure(&["evaluate", &labels, "nowhere"]).contains("nowhere"));

    // A second phantom over the first is refused, and the first stays.
    failure(&["phantom", &dataset]);
    assert_eq!(code(&output(&["check", &dataset])), 0);
}

#[test]
fn faults_of_a_dataset_are_3() {
    let (_folder, dataset) = phantom();
    let case = format!("{dataset}/imagesTr/phantom_002.nii.gz");
    fs::write(&case, b"not a volume").unwrap();
    fs::remove_file(format!("{dataset}/labelsTr/phantom_003.nii.gz")).unwrap();
    let checked = output(&["check", &dataset]);
    assert_eq!(code(&checked), 3, "{}", stderr(&checked));
    let text = stdout(&checked);
    assert!(text.contains("phantom_002") && text.contains("phantom_003"), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&output(&["check", &dataset, "--json"]).stdout).unwrap();
    let findings = json["findings"].as_array().unwrap();
    assert_eq!((findings.len(), &json["faults"], &json["cases"]), (2, &2.into(), &2.into()), "{json}");
    for finding in findings {
        for field in ["severity", "case", "file", "field", "problem", "cure"] {
            assert!(finding[field].is_string(), "{finding}");
        }
    }
    assert!(failure(&["check", "nowhere"]).contains("nowhere: no such folder"));
}

/// Rust's `println!` panics where its reader has gone.
#[cfg(unix)]
/// A warning is no reason for another exit code.
#[test]
fn warnings_of_a_dataset_are_0() {
    let (_folder, dataset) = phantom();
    let path = format!("{dataset}/dataset.json");
    let mut description: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    description["groups"] =
        serde_json::json!({"phantom_001": "a", "phantom_002": "a", "phantom_003": "b", "gone": "b"});
    fs::write(&path, description.to_string()).unwrap();
    let checked = output(&["check", &dataset]);
    let text = stdout(&checked);
    assert_eq!((code(&checked), text.contains("3 cases, no fault found, 1 warning\n")), (0, true), "{text}");
    assert!(text.contains("warning  groups: names gone, which the dataset has not"), "{text}");
}

#[test]
fn a_closed_pipe_is_no_fault() {
    let (_folder, dataset) = phantom();
    for arguments in [&["check", &dataset, "--json"][..], &["devices"], &["--help"]] {
        let mut child = voxfit(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = voxfit(&["devices"]).stdout(full).output().unwrap();
    assert_eq!((code(&output), stderr(&output).contains("standard output")), (1, true), "{}", stderr(&output));
}

#[test]
fn devices_are_listed_with_reasons() {
    let output_json = output(&["devices", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output_json.stdout).unwrap();
    let devices = json["devices"].as_array().unwrap();
    assert_eq!(devices[0]["device"], "cpu");
    assert_eq!(devices[0]["usable"], true);
    assert!(devices[0]["threads"].as_u64().unwrap() > 0);
    if cfg!(target_os = "linux") {
        assert!(devices[0]["available_bytes"].as_u64().unwrap() > 0);
    }
    let names: Vec<_> = devices[0]["precisions"].as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
    assert_eq!(names, ["f32", "bf16", "f16"]);
    for device in &devices[1..] {
        let built = cfg!(feature = "vulkan") && device["device"].as_str().unwrap().starts_with("vulkan")
            || cfg!(feature = "cuda") && device["device"].as_str().unwrap().starts_with("cuda");
        let why = if built { "no driver" } else { "--features" };
        assert!(device["usable"] == true || device["reason"].as_str().unwrap().contains(why), "{device}");
    }
    assert_eq!(stdout(&output(&["devices"])).lines().count(), devices.len());
    assert!(devices.len() >= 3, "{devices:?}");
}

#[test]
fn clean_frees_the_cache_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    let kept = folder.path().join("kept");
    fs::create_dir(&kept).unwrap();
    let cleaned = voxfit(&["clean"]).env("VOXFIT_CACHE", &cache).output().unwrap();
    assert_eq!(code(&cleaned), 0, "{}", stderr(&cleaned));
    assert!(stdout(&cleaned).contains("0 bytes freed"), "{}", stdout(&cleaned));
    assert!(kept.is_dir());
}

#[test]
fn messages_can_be_json() {
    let (_folder, dataset) = phantom();
    let labels = format!("{dataset}/labelsTr");
    let logged = output(&["evaluate", &labels, &labels, "--log-format", "json"]);
    assert_eq!(code(&logged), 0);
    for line in stderr(&logged).lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(entry["level"].is_string());
    }
    assert!(!stderr(&logged).is_empty());
    let quiet = output(&["evaluate", &labels, &labels, "-q"]);
    assert_eq!((code(&quiet), stderr(&quiet).as_str()), (0, ""));
}
