//! Runs held against each other and made again: what is equal is found equal, and what is not is named.
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Lab, stderr, stdout};
use serde_json::{Value, json};

/// `voxfit train c.toml --run RUN` with more arguments.
fn train(lab: &Lab, run: &str, arguments: &[&str]) -> String {
    let mut all = vec!["-q", "train", "c.toml", "--run", run];
    all.extend(arguments);
    lab.digest(&all)
}

/// Exit code and what was printed.
fn said(lab: &Lab, arguments: &[&str]) -> (i32, String) {
    let output = lab.output(arguments);
    (output.status.code().unwrap_or_else(|| panic!("{arguments:?}: {}", stderr(&output))), stdout(&output))
}

fn compared(lab: &Lab, a: &str, b: &str) -> (i32, Value) {
    let (code, text) = said(lab, &["compare", a, b, "--json"]);
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn keys(found: &Value, matters: bool) -> Vec<&str> {
    let settings = found["settings"].as_array().unwrap();
    settings.iter().filter(|s| s["matters"] == json!(matters)).map(|s| s["key"].as_str().unwrap()).collect()
}

/// Every file below a folder, with its bytes and the time of its last change.
fn everything(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            let changed = entry.metadata().unwrap().modified().unwrap();
            found.insert(path.clone(), (fs::read(&path).unwrap(), changed));
        }
    }
    found
}

/// Changes one voxel's low byte.
fn edit(lab: &Lab, name: &str) {
    lab.edit(name, |bytes| {
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
    });
}

/// Nothing is left beside the runs.
fn no_scratch(lab: &Lab) {
    for entry in fs::read_dir(lab.path(".")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with(".voxfit-reproduce"), "{name}");
    }
}

#[test]
fn equal_runs_are_equal_at_any_micro_batch_and_number_of_threads() {
    let lab = Lab::new();
    let digest = train(&lab, "a", &[]);
    train(&lab, "b", &["--micro-batch", "1", "--threads", "1", "--set", "train.validate_every=1"]);
    let (code, text) = said(&lab, &["compare", "a", "b"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("the same weights, bit for bit, after 3 steps") && text.contains(&digest), "{text}");
    let (code, found) = compared(&lab, "a", "b");
    assert_eq!((code, &found["same_weights"], &found["differing_tensors"]), (0, &json!(true), &json!([])));
    assert_eq!((&found["first_differing_step"], &found["steps_compared"]), (&Value::Null, &json!(3)));
    assert!(keys(&found, true).is_empty(), "{found}");
    let without_effect = keys(&found, false);
    for key in ["batch.micro", "threads", "train.validate_every"] {
        assert!(without_effect.contains(&key), "{found}");
    }
    // Every step has a digest, no two the same.
    let steps = |run: &str| -> Vec<String> {
        lab.metrics(run).iter().filter_map(|line| Some(line["weights_digest"].as_str()?.to_owned())).collect()
    };
    assert_eq!(steps("a"), steps("b"));
    assert_eq!(steps("a").iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    assert!(steps("a").iter().all(|digest| digest.len() == 16), "{:?}", steps("a"));
}

#[test]
fn another_seed_parts_at_the_first_step_and_a_longer_schedule_at_the_second() {
    let lab = Lab::new();
    train(&lab, "a", &[]);
    train(&lab, "seed", &["--set", "train.seed=1"]);
    train(&lab, "long", &["--steps", "4"]);
    let (code, found) = compared(&lab, "a", "seed");
    assert_eq!((code, &found["first_differing_step"], &found["same_weights"]), (3, &json!(1), &json!(false)));
    assert_eq!(keys(&found, true), ["train.seed"]);
    assert_eq!((&found["same_configuration"], &found["same_data"]), (&json!(false), &json!(true)));
    assert_eq!((&found["same_split"], &found["same_version"]), (&json!(true), &json!(true)));
    train(&lab, "split", &["--set", "data.split_seed=1"]);
    let (_, found) = compared(&lab, "a", "split");
    assert_eq!(keys(&found, true), ["data.split_seed", "split_sha256"]);
    assert_eq!(found["same_split"], json!(false));
    assert!(said(&lab, &["compare", "a", "split"]).1.contains("split DIFFERENT"));
    let (_, found) = compared(&lab, "a", "seed");
    let tensors = found["differing_tensors"].as_array().unwrap();
    let names: Vec<&str> = tensors.iter().map(|tensor| tensor["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.len() > 5, "{names:?}");

    // The figures of a tensor by another way: from the files.
    let weights = |run: &str| fs::read(lab.path(run).join("checkpoints/last/checkpoint.safetensors")).unwrap();
    let (a, b) = (weights("a"), weights("seed"));
    let values = |file: &[u8]| -> Vec<f64> {
        let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
        let tensor = tensors.tensor(&format!("weights/{}", names[0])).unwrap();
        tensor.data().as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
    };
    let pairs: Vec<(f64, f64)> = values(&a).into_iter().zip(values(&b)).filter(|(a, b)| a != b).collect();
    let largest = |of: fn(f64, f64) -> f64| pairs.iter().map(|(a, b)| of(*a, *b)).fold(0.0, f64::max);
    assert_eq!(tensors[0]["values"].as_u64(), Some(pairs.len() as u64));
    assert_eq!(tensors[0]["absolute"].as_f64(), Some(largest(|a, b| (a - b).abs())));
    assert_eq!(tensors[0]["relative"].as_f64(), Some(largest(|a, b| (a - b).abs() / a.abs().max(b.abs()))));

    let (code, text) = said(&lab, &["compare", "a", "seed"]);
    assert_eq!(code, 3);
    for part in
        ["first differing step: 1", "split the same", "train.seed", names[0], "tensors differ", "which --json lists"]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    // The rate of the first step is the same in both.
    let (code, text) = said(&lab, &["compare", "a", "long"]);
    assert_eq!(code, 3);
    assert!(text.contains("first differing step: 2") && text.contains("A has 3 steps, B has 4 steps"), "{text}");
}

#[test]
fn other_data_and_other_networks_are_named() {
    let lab = Lab::new();
    train(&lab, "a", &[]);
    let own = lab.json("a/manifest.json")["volumes_sha256"].clone();
    assert_eq!(own.as_object().unwrap().len(), 6);
    let file = fs::read(lab.path("data/labelsTr/phantom_003.nii.gz")).unwrap();
    assert_eq!(own["phantom_003"]["label"], json!(voxfit::files::sha256_hex(&file)));
    let folder = lab.path("").to_string_lossy().into_owned();
    assert!(!fs::read_to_string(lab.path("a/manifest.json")).unwrap().contains(folder.trim_end_matches('/')));
    train(&lab, "wide", &["--set", "network.features=6"]);
    edit(&lab, "data/imagesTr/phantom_003.nii.gz");
    train(&lab, "edited", &[]);
    let (_, found) = compared(&lab, "a", "edited");
    assert_eq!(found["same_data"], json!(false));
    assert_eq!(keys(&found, true), ["data_sha256", "volumes_sha256.phantom_003.image_0000"]);
    let (code, text) = said(&lab, &["compare", "a", "wide"]);
    assert_eq!(code, 3);
    assert!(text.contains("other shape") && text.contains("network.features"), "{text}");
}

#[test]
fn what_is_no_finished_run_is_said() {
    let lab = Lab::new();
    train(&lab, "a", &[]);
    train(&lab, "folds", &["--set", "data.folds=2", "--fold", "each"]);
    let arguments = ["train", "c.toml", "--run", "stopped", "--steps", "1000000", "--max-time", "1s"];
    assert_eq!(lab.output(&arguments).status.code(), Some(4));
    fs::create_dir(lab.path("empty")).unwrap();
    for (other, part) in [
        ("missing", "missing: no such folder"),
        ("empty", "empty: no run folder"),
        ("folds", "as in RUN/fold_0"),
        ("stopped", "stopped: the run is unfinished"),
    ] {
        assert!(lab.failure(&["compare", "a", other]).contains(part), "{other}");
        assert!(lab.failure(&["compare", other, "a"]).contains(part), "{other}");
    }
    for (other, part) in [("missing", "no such folder"), ("empty", "no run folder"), ("folds", "as in RUN/fold_0")] {
        assert!(lab.failure(&["reproduce", other]).contains(part), "{other}");
    }
    // Weights that the manifest does not speak of.
    fs::copy(
        lab.path("folds/fold_0/checkpoints/last/checkpoint.safetensors"),
        lab.path("a/checkpoints/last/checkpoint.safetensors"),
    )
    .unwrap();
    assert!(lab.failure(&["compare", "a", "folds/fold_1"]).contains("not those that manifest.json speaks of"));
}

#[test]
fn a_run_is_reproduced_and_its_folder_left_alone() {
    let lab = Lab::new();
    let digest = train(&lab, "a", &["--micro-batch", "3"]);
    let before = everything(&lab.path("a"));
    let (code, text) = said(&lab, &["reproduce", "a", "--threads", "1"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("after each of the first 3 steps") && text.contains(&digest), "{text}");
    let (code, text) = said(&lab, &["reproduce", "a", "--stop-after", "2"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("after each of the first 2 of 3 steps") && !text.contains("weights_sha256"), "{text}");
    assert!(lab.failure(&["reproduce", "a", "--stop-after", "4"]).contains("the run has 3 steps"));
    assert_eq!(everything(&lab.path("a")), before);
    no_scratch(&lab);
    // A training on all cases has no validation to be stopped in.
    let digest =
        train(&lab, "all", &["--fold", "all", "--set", "network.norm=batch", "--set", "network.batch_norm_min=1"]);
    let (code, text) = said(&lab, &["reproduce", "all"]);
    assert!(code == 0 && text.contains(&digest), "{text}");
    // As it was stopped and gone on with.
    let long = ["--steps", "40", "--set", "train.checkpoint_every=7"];
    train(&lab, "long", &long);
    let metrics = fs::read_to_string(lab.path("long/metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("weights_digest").count(), 40);
    let (code, text) = said(&lab, &["reproduce", "long", "--stop-after", "12"]);
    assert!(code == 0 && text.contains("first 12 of 40"), "{text}");
}

#[test]
fn a_reproduction_stops_at_the_first_step_that_parts() {
    let lab = Lab::new();
    train(&lab, "a", &["--steps", "6"]);
    let path = lab.path("a/metrics.jsonl");
    let metrics = fs::read_to_string(&path).unwrap();
    let digest = lab.metrics("a").iter().find(|line| line["step"] == 4).unwrap()["weights_digest"].clone();
    let digest = digest.as_str().unwrap();
    fs::write(&path, metrics.replace(digest, "0123456789abcdef")).unwrap();
    let (code, text) = said(&lab, &["reproduce", "a"]);
    assert_eq!(code, 3, "{text}");
    assert_eq!(text.trim(), format!("different weights after step 4: {digest}, and the run has 0123456789abcdef"));
    assert_eq!(said(&lab, &["reproduce", "a", "--stop-after", "3"]).0, 0);
    fs::write(&path, metrics).unwrap();
    // The weights of the last step by their SHA-256 too.
    let manifest = fs::read_to_string(lab.path("a/manifest.json")).unwrap();
    let digest = lab.json("a/manifest.json")["weights_sha256"].as_str().unwrap().to_owned();
    lab.write("a/manifest.json", manifest.replace(&digest, &"0".repeat(64)).as_bytes());
    let (code, text) = said(&lab, &["reproduce", "a"]);
    assert!(code == 3 && text.contains(&digest), "{text}");
    no_scratch(&lab);
}

#[test]
fn an_input_that_changed_is_named_and_refused() {
    let lab = Lab::new();
    train(&lab, "a", &[]);
    let file = fs::read(lab.path("data/labelsTr/phantom_005.nii.gz")).unwrap();
    edit(&lab, "data/labelsTr/phantom_005.nii.gz");
    let said = lab.failure(&["reproduce", "a"]);
    assert!(said.contains("labelsTr/phantom_005.nii.gz: label of case phantom_005 is not the file"), "{said}");
    assert!(!said.contains("more like it"), "{said}");
    edit(&lab, "data/imagesTr/phantom_001.nii.gz");
    let said = lab.failure(&["reproduce", "a"]);
    assert!(said.contains("image_0000 of case phantom_001") && said.contains("and 1 more"), "{said}");
    lab.write("data/labelsTr/phantom_005.nii.gz", &file);

    // A dataset with other cases, with other classes, and none.
    lab.done(&["phantom", "more", "--cases", "7", "--size", "24,24,24", "--classes", "2", "--seed", "7"]);
    assert!(lab.failure(&["reproduce", "a", "--data", "more"]).contains("phantom_007"));
    lab.done(&["phantom", "same", "--cases", "6", "--size", "24,24,24", "--classes", "2", "--seed", "7"]);
    let description = fs::read_to_string(lab.path("same/dataset.json")).unwrap();
    assert_eq!(lab.output(&["reproduce", "a", "--data", "same"]).status.code(), Some(0));
    lab.write("same/dataset.json", description.replace("kidney", "spleen").as_bytes());
    assert!(lab.failure(&["reproduce", "a", "--data", "same"]).contains("same/dataset.json: the channels, classes"));
    assert!(lab.failure(&["reproduce", "a", "--data", "missing"]).contains("missing: no such folder"));

    // The configuration is an input too.
    let config = fs::read_to_string(lab.path("a/config.toml")).unwrap();
    lab.write("same/dataset.json", description.as_bytes());
    lab.write("a/config.toml", config.replace("learning_rate = 0.01", "learning_rate = 0.02").as_bytes());
    let said = lab.failure(&["reproduce", "a", "--data", "same"]);
    assert!(said.contains("config.toml is not what manifest.json has a digest of"), "{said}");
    no_scratch(&lab);
}

#[test]
fn data_that_moved_is_asked_for() {
    let lab = Lab::new();
    train(&lab, "a", &[]);
    fs::rename(lab.path("data"), lab.path("moved")).unwrap();
    let said = lab.failure(&["reproduce", "a"]);
    assert!(said.contains("give its folder by --data DIR"), "{said}");
    assert_eq!(lab.output(&["reproduce", "a", "--data", "moved"]).status.code(), Some(0));
    // A run that began with the weights of a file, which is not kept.
    let weights = ["--weights", "a/checkpoints/last/checkpoint.safetensors", "--data", "moved"];
    train(&lab, "tuned", &weights);
    assert!(lab.failure(&["reproduce", "tuned", "--data", "moved"]).contains("started from the weights of a file"));
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_behind() {
    let lab = Lab::new();
    train(&lab, "a", &["--steps", "400", "--set", "train.validate_every=1000"]);
    for times in [1, 2] {
        let mut command = lab.voxfit(&["reproduce", "a", "--threads", "1"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let scratch = || {
            let entries = fs::read_dir(lab.path(".")).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.to_string_lossy().contains(".voxfit-reproduce")).last()
        };
        while scratch().is_none_or(|folder| !folder.join("run/metrics.jsonl").exists()) {
            assert!(child.try_wait().unwrap().is_none(), "it was over before it was seen");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let script = format!("kill -INT {0}; [ {times} = 1 ] || kill -INT {0}; true", child.id());
        assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        match (times, output.status.code()) {
            (1, code) => {
                assert_eq!(code, Some(4), "{}", stderr(&output));
                assert!(stdout(&output).contains("the same so far"), "{}", stdout(&output));
            }
            // The second may come when all is over.
            (_, code) => assert!([Some(130), Some(4)].contains(&code), "{code:?}: {}", stderr(&output)),
        }
        no_scratch(&lab);
    }
}

#[test]
fn an_unfinished_run_is_reproduced_as_far_as_its_record_goes() {
    let lab = Lab::new();
    let digest = train(&lab, "a", &["--steps", "9"]);
    // As a process leaves it that died while it wrote the line of the sixth step.
    let manifest = fs::read_to_string(lab.path("a/manifest.json")).unwrap();
    lab.write("a/manifest.json", manifest.replace(&digest, "").as_bytes());
    let metrics = fs::read_to_string(lab.path("a/metrics.jsonl")).unwrap();
    let cut = metrics.find("\"step\":6,").unwrap() + 20;
    lab.write("a/metrics.jsonl", &metrics.as_bytes()[..cut]);
    let (code, text) = said(&lab, &["reproduce", "a"]);
    assert!(code == 0 && text.contains("first 5 of 9 steps") && !text.contains("weights_sha256"), "{text}");
    assert_eq!(said(&lab, &["reproduce", "a", "--stop-after", "4"]).0, 0);
    assert!(lab.failure(&["reproduce", "a", "--stop-after", "6"]).contains("unfinished, after 5 of 9 steps"));
}
