//! One bad case among many: named before the night begins, left out where that is asked for, and named where only
//! training shows it. What was learnt is kept.
mod common;

use std::fs;
use std::path::PathBuf;

use common::{Lab, put, stderr};
use serde_json::{Value, json};

/// A label that nobody named, a label map that is not there, and a volume of NaN.
fn three_bad_cases(lab: &Lab) {
    lab.edit("data/labelsTr/phantom_002.nii.gz", |file| file[352] = 9);
    fs::remove_file(lab.path("data/labelsTr/phantom_003.nii.gz")).unwrap();
    lab.edit("data/imagesTr/phantom_005.nii.gz", |file| {
        put(file, 70, &[16, 0, 32, 0]);
        file.truncate(352);
        file.extend([0, 0, 0xc0, 0x7f].repeat(24 * 24 * 24));
    });
}

/// Takes cases out of a dataset's list.
fn unlist(lab: &Lab, cases: &[&str]) {
    let mut description = lab.json("data/dataset.json");
    let training = description["training"].as_array_mut().unwrap();
    training.retain(|entry| !cases.iter().any(|case| entry["image"].as_str().unwrap().contains(case)));
    lab.write("data/dataset.json", description.to_string().as_bytes());
}

#[test]
fn every_fault_is_named_before_anything_is_trained() {
    let lab = Lab::new();
    three_bad_cases(&lab);
    let said = lab.failure(&["train", "c.toml", "--run", "a"]);
    for part in ["phantom_003, phantom_002, phantom_005", "2 more", "voxfit check", "on_bad_case"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    // Not only the last line, but a line for each.
    let output = lab.output(&["train", "c.toml", "--run", "a"]);
    let said = stderr(&output);
    for (case, what) in [("phantom_002", "9 (1 voxels)"), ("phantom_003", "is not there"), ("phantom_005", "NaN")] {
        assert!(said.lines().any(|line| line.contains(case) && line.contains(what)), "{case} is not in: {said}");
    }
    assert_eq!(output.status.code(), Some(1));
    assert!(!lab.path("a").exists());
    // All of them are read and none is missing.
    unlist(&lab, &["phantom_003"]);
    let said = lab.failure(&["train", "c.toml", "--run", "a"]);
    assert!(said.contains("phantom_002, phantom_005") && said.contains("1 more"), "{said}");
}

#[test]
fn a_run_without_them_is_that_of_a_dataset_without_them() {
    let lab = Lab::new();
    let whole = lab.digest(&["train", "c.toml", "--run", "whole"]);
    three_bad_cases(&lab);
    let skip = ["--set", "data.on_bad_case=skip", "--set", "data.folds=2"];
    let output = lab.output(&[&["train", "c.toml", "--run", "a"], &skip[..]].concat());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let manifest = lab.json("a/manifest.json");
    let left_out: Vec<&Value> = manifest["left_out_cases"].as_array().unwrap().iter().collect();
    let cases = ["phantom_002", "phantom_003", "phantom_005"];
    assert_eq!(left_out.iter().map(|left_out| left_out["case"].as_str().unwrap()).collect::<Vec<_>>(), cases);
    for (case, reason) in cases.iter().zip(["9 (1 voxels)", "is not there", "NaN"]) {
        assert!(
            said.lines().any(|line| line.contains("left out") && line.contains(case) && line.contains(reason)),
            "{said}"
        );
        assert!(left_out.iter().any(|left_out| left_out["reason"].as_str().unwrap().contains(reason)), "{left_out:?}");
    }
    let used = [&manifest["train_cases"], &manifest["validation_cases"]];
    let mut used: Vec<&str> =
        used.iter().flat_map(|list| list.as_array().unwrap()).map(|c| c.as_str().unwrap()).collect();
    used.sort_unstable();
    assert_eq!(used, ["phantom_001", "phantom_004", "phantom_006"]);

    // It can be resumed, and it is what a dataset that never had them gives.
    lab.done(&[&["train", "c.toml", "--run", "a", "--resume"], &skip[..]].concat());
    unlist(&lab, &cases);
    lab.done(&["train", "c.toml", "--run", "b", "--set", "data.folds=2"]);
    let other = lab.json("b/manifest.json");
    for key in ["weights_sha256", "config_sha256", "data_sha256", "split_sha256"] {
        assert_eq!(manifest[key], other[key], "{key}");
    }
    assert_eq!(other["left_out_cases"], json!([]));
    assert_ne!(manifest["weights_sha256"], json!(whole));
}

#[test]
fn nothing_left_is_refused_and_so_is_a_fault_of_the_whole() {
    let lab = Lab::new();
    let skip = ["train", "c.toml", "--run", "a", "--set", "data.on_bad_case=skip"];
    let description = fs::read(lab.path("data/dataset.json")).unwrap();
    lab.write("data/dataset.json", b"{\"labels\": ");
    assert!(lab.failure(&skip).contains("dataset.json"));
    lab.write("data/dataset.json", &description);
    for case in 1..=6 {
        fs::write(lab.path(&format!("data/imagesTr/phantom_{case:03}.nii.gz")), b"").unwrap();
    }
    let said = lab.failure(&skip);
    assert!(said.contains("phantom_001, phantom_002") && said.contains("phantom_006"), "{said}");
    assert!(!lab.path("a").exists());
    assert!(lab.failure(&["train", "c.toml", "--set", "data.on_bad_case=drop"]).contains("\"stop\" or \"skip\""));
}

/// The prepared volume of a case.
fn prepared(lab: &Lab, case: &str) -> PathBuf {
    let stores = fs::read_dir(lab.path("cache")).unwrap().map(|entry| entry.unwrap().path());
    let files = stores.flat_map(|store| fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()));
    let id = format!("\"id\":\"{case}\"");
    let mut cases = files.filter(|file| file.extension().is_some_and(|ending| ending == "case"));
    cases.find(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).contains(&id)).unwrap()
}

/// Makes every voxel of a prepared image NaN; no checksum that is looked at covers voxels.
fn spoil(file: &PathBuf) {
    let mut bytes = fs::read(file).unwrap();
    let length = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
    let header: Value = serde_json::from_slice(&bytes[48..48 + length]).unwrap();
    assert_eq!(header["image"], "f16");
    let locations: u64 = header["classes"].as_array().unwrap().iter().map(|class| class[1].as_u64().unwrap()).sum();
    let voxels: u64 = header["size"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product();
    let start = 48 + length + 4 * locations as usize;
    bytes[start..start + 2 * voxels as usize].as_chunks_mut::<2>().0.fill([0, 0x7e]);
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_loss_that_is_no_number_is_traced_to_its_sample() {
    let lab = Lab::new();
    let long = ["--steps", "40", "--set", "train.validate_every=1000", "--set", "train.checkpoint_every=1000"];
    lab.done(&[&["train", "c.toml", "--run", "whole"], &long[..]].concat());
    let sound = prepared(&lab, "phantom_002");
    let bytes = fs::read(&sound).unwrap();
    spoil(&sound);
    let mut places = Vec::new();
    for (run, more) in [
        ("two", &[][..]),
        ("one", &["--micro-batch", "1"]),
        ("three", &["--micro-batch", "3"]),
        ("again", &["--set", "memory.recompute=blocks"]),
        ("f32", &["--set", "precision.activations=f32"]),
    ] {
        let said = lab.failure(&[&["train", "c.toml", "--run", run], &long[..], more].concat());
        let (place, cure) = said.split_once("; ").unwrap();
        assert!(place.contains("step ") && place.contains(" of 3 (case phantom_002)"), "{said}");
        let step: usize = place.split_once("step ").unwrap().1.split_once(':').unwrap().0.parse().unwrap();
        assert!(cure.contains(&format!("the weights of step {} are in checkpoints/last", step - 1)), "{said}");
        assert_eq!(lab.metrics(run).len(), step - 1, "{said}");
        lab.done(&["predict", run, "data/imagesTr/phantom_003.nii.gz", "-o", &format!("{run}/out")]);
        assert_eq!(lab.json(&format!("{run}/out/predict.json"))["steps"], json!([step - 1]));
        places.push(place.to_owned());
    }
    places.dedup();
    assert_eq!(places.len(), 1, "{places:?}");
    // With f16 a step may be skipped, but not without a word where the loss scale has no part in it.
    let f16 = ["train", "c.toml", "--run", "f16", "--set", "precision.activations=f16"];
    let output = lab.output(&[&f16[..], &long[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // A step may be skipped for the scale alone, too: its loss is a number.
    let is_none = |line: &&Value| line["skipped"] == json!(true) && line["loss"].is_null();
    let skipped = lab.metrics("f16").iter().filter(is_none).count();
    let named = stderr(&output)
        .lines()
        .filter(|line| line.contains("is skipped") && line.contains("(case phantom_002)"))
        .count();
    assert!(skipped > 0 && named == skipped, "{named} of {skipped}: {}", stderr(&output));
    // With the case as it was, the run goes on to what it would have been.
    fs::write(&sound, bytes).unwrap();
    let arguments = [&["train", "c.toml", "--run", "two", "--resume"], &long[..]].concat();
    assert_eq!(lab.digest(&arguments), lab.json("whole/manifest.json")["weights_sha256"].as_str().unwrap());
}

/// A prepared volume becomes a pipe that nobody writes into: opening it waits without end, as a dead share does.
#[cfg(unix)]
#[test]
fn a_read_that_does_not_come_back_is_named() {
    let lab = Lab::new();
    let long = ["--steps", "1000", "--set", "train.validate_every=100000", "--set", "train.checkpoint_every=100000"];
    let digest = lab.digest(&[&["train", "c.toml", "--run", "whole"], &long[..]].concat());
    let file = prepared(&lab, "phantom_002");
    let aside = file.with_extension("aside");
    let mut command = lab.voxfit(&[&["train", "c.toml", "--run", "a"], &long[..]].concat());
    command.env("VOXFIT_TEST_STALL", "0.2").stdout(std::process::Stdio::null());
    command.stderr(fs::File::create(lab.path("said")).unwrap());
    let mut child = command.spawn().unwrap();
    let wait = |what: &dyn Fn() -> bool| {
        for _ in 0..6000 {
            if what() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("waited in vain: {}", fs::read_to_string(lab.path("said")).unwrap());
    };
    wait(&|| fs::read_to_string(lab.path("a/metrics.jsonl")).is_ok_and(|text| text.lines().count() > 5));
    let pipe = lab.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&file, &aside).unwrap();
    fs::rename(&pipe, &file).unwrap();
    let said = || fs::read_to_string(lab.path("said")).unwrap();
    wait(&|| said().contains("has not been read after"));
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let line = said().lines().find(|line| line.contains("has not been read")).unwrap().to_owned();
    assert!(line.contains("case phantom_002") && line.contains(&name), "{line}");
    assert!(!line.contains(lab.path("cache").to_str().unwrap()), "{line}");

    // The pipe ends empty: the read fails, and what was learnt is kept although no checkpoint was due.
    use std::os::unix::fs::OpenOptionsExt;
    wait(&|| {
        // Of several threads that read, each may come to wait at a time of its own.
        drop(fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&file));
        said().contains("voxfit: ")
    });
    assert_eq!(child.wait().unwrap().code(), Some(1), "{}", said());
    assert!(said().lines().last().unwrap().contains(&name), "{}", said());
    fs::remove_file(&file).unwrap();
    fs::rename(&aside, &file).unwrap();
    let output = lab.output(&[&["train", "c.toml", "--run", "a", "--resume"], &long[..]].concat());
    assert!(
        stderr(&output).contains("resumed from step") && !stderr(&output).contains("from step 0"),
        "{}",
        stderr(&output)
    );
    assert_eq!(common::digest_of(&common::stdout(&output)), digest);
}
