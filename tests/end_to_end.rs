//! Train, stop, resume, predict and evaluate as typed: the same bits whichever way, and figures that agree.
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{Lab, digest_of, put, stderr, stdout, unpacked};
use ndarray::{Array3, ArrayView3};
use serde_json::{Value, json};
use voxfit::volume;

const IMAGE: &str = "data/imagesTr/phantom_003.nii.gz";

/// `voxfit train c.toml --run RUN` with more arguments.
fn train(lab: &Lab, run: &str, arguments: &[&str]) -> String {
    let mut all = vec!["-q", "train", "c.toml", "--run", run];
    all.extend(arguments);
    lab.digest(&all)
}

#[test]
fn the_digest_depends_on_what_it_should_and_nothing_else() {
    let lab = Lab::new();
    let digest = train(&lab, "a", &[]);
    for (run, arguments) in [
        ("again", &[][..]),
        ("one", &["--micro-batch", "1"]),
        ("two", &["--micro-batch", "2", "--threads", "1"]),
        ("three", &["--micro-batch", "3", "--threads", "2"]),
        ("looks", &["--set", "train.validate_every=1", "--set", "train.checkpoint_every=1"]),
    ] {
        assert_eq!(train(&lab, run, arguments), digest, "{run}");
    }
    let mut seen = BTreeSet::from([digest]);
    for (run, set) in [
        ("seed", "train.seed=1"),
        ("batch", "batch.effective=4"),
        ("steps", "train.steps=4"),
        ("rate", "train.learning_rate=0.02"),
        ("warmup", "train.warmup=2"),
        ("schedule", "train.schedule=cosine"),
        ("average", "train.ema_decay=0.9"),
        ("fold", "data.fold=1"),
        ("norm", "network.norm=instance"),
        ("type", "precision.activations=f32"),
        ("rule", "train.optimizer=adamw"),
        ("share", "sampling.foreground=1.0"),
        ("augment", "augment.enabled=false"),
    ] {
        assert!(seen.insert(train(&lab, run, &["--set", set])), "{set} changes nothing");
    }
}

#[test]
fn a_run_folder_is_complete_and_can_be_repeated() {
    let lab = Lab::new();
    let digest = train(&lab, "a", &[]);
    for name in ["config.toml", "plan.toml", "manifest.json", "metrics.jsonl", "validation/summary.json"] {
        assert!(lab.path("a").join(name).is_file(), "{name}");
    }
    let manifest = lab.json("a/manifest.json");
    assert_eq!(manifest["weights_sha256"], json!(digest));
    assert_eq!((&manifest["effective_batch"], &manifest["micro_batch"]), (&json!(3), &json!(2)));
    assert_eq!(manifest["norm"]["used"], "group");
    let held_out: Vec<&str> =
        manifest["validation_cases"].as_array().unwrap().iter().map(|case| case.as_str().unwrap()).collect();
    assert_eq!((held_out.len(), manifest["train_cases"].as_array().unwrap().len()), (2, 4));
    let steps: Vec<Value> = lab.metrics("a");
    let of = |key: &str| steps.iter().filter(|line| line.get(key).is_some()).count();
    assert_eq!((of("loss"), of("mean_dice")), (3, 2));
    assert!(steps.iter().all(|line| line["loss"].is_null() || line["peak_bytes"].as_u64() > Some(1 << 20)));

    // Its own configuration, from another place.
    fs::create_dir(lab.path("elsewhere")).unwrap();
    fs::copy(lab.path("a/config.toml"), lab.path("elsewhere/c.toml")).unwrap();
    assert_eq!(lab.digest(&["train", "elsewhere/c.toml", "--data", "data", "--run", "b"]), digest);
    assert_eq!(fs::read(lab.path("a/config.toml")).unwrap(), fs::read(lab.path("b/config.toml")).unwrap());

    // predict and evaluate, typed, give the figures of the run's own validation, which are those of what is predicted.
    let inputs: Vec<String> = held_out.iter().map(|case| format!("data/imagesTr/{case}.nii.gz")).collect();
    let mut arguments = vec!["predict", "a", "-o", "out", "--no-postprocessing"];
    arguments.extend(inputs.iter().map(String::as_str));
    lab.done(&arguments);
    lab.done(&["evaluate", "out", "data/labelsTr", "--json", "figures.json"]);
    let (figures, own) = (lab.json("figures.json"), lab.json("a/validation/summary.json"));
    assert_eq!(figures["cases"].as_array().unwrap().len(), 2);
    assert_eq!(figures["cases"], own["cases"]);
    assert_eq!(figures["classes"], own["classes"]);
    let mean = figures["foreground_mean"]["dice"].as_f64().unwrap();
    assert_eq!(steps.last().unwrap()["mean_dice"].as_f64(), Some(mean));
    assert!(mean > 0.0, "a mean of 0 would agree with anything");

    let record = lab.json("out/predict.json");
    assert_eq!(record["weights_sha256"], json!([digest]));
    assert_eq!((&record["steps"], &record["checkpoint"], &record["tta"]), (&json!([3]), &json!("last"), &json!(false)));
    assert_eq!(record["classes"], json!(["background", "liver", "kidney"]));
    assert_eq!(record["notice"], json!("For research use only; not a medical device."));
    assert!(record["voxfit"].as_str().unwrap().starts_with(env!("CARGO_PKG_VERSION")));
    for (case, name) in record["cases"].as_array().unwrap().iter().zip(&held_out) {
        assert_eq!((&case["case"], &case["warnings"]), (&json!(name), &json!([])));
        assert_eq!(case["output"], json!(format!("out/{name}.nii.gz")));
    }
}

#[test]
fn mirrorings_are_averaged_where_the_configuration_says_so() {
    let lab = Lab::new();
    let digest = train(&lab, "plain", &[]);
    assert_eq!(train(&lab, "mirrored", &["--set", "predict.mirror=true"]), digest);
    let own = |run: &str| lab.json(&format!("{run}/validation/summary.json"))["cases"].clone();
    assert_ne!(own("plain"), own("mirrored"));
    // `predict` does as the run did, or as it is told.
    let cases: Vec<String> = lab.json("plain/manifest.json")["validation_cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| format!("data/imagesTr/{}.nii.gz", case.as_str().unwrap()))
        .collect();
    for (run, word, expected) in [
        ("mirrored", None, "mirrored"),
        ("mirrored", Some("--no-tta"), "plain"),
        ("plain", None, "plain"),
        ("plain", Some("--tta"), "mirrored"),
    ] {
        let mut arguments = vec!["predict", run, "-o", "out", "--no-postprocessing", "--again"];
        arguments.extend(word);
        arguments.extend(cases.iter().map(String::as_str));
        lab.done(&arguments);
        lab.done(&["evaluate", "out", "data/labelsTr", "--json", "figures.json"]);
        assert_eq!(lab.json("figures.json")["cases"], own(expected), "{run} {word:?}");
        assert_eq!(lab.json("out/predict.json")["tta"], json!(expected == "mirrored"));
    }
    // What was never mirrored in training is not mirrored afterwards.
    train(&lab, "never", &["--set", "predict.mirror=true", "--set", "augment.mirror.probability=0"]);
    train(&lab, "never_plain", &["--set", "augment.mirror.probability=0"]);
    assert_eq!(own("never"), own("never_plain"));
}

/// Waits until a run has so many lines of metrics.
fn wait_for(lab: &Lab, run: &str, lines: usize) {
    for _ in 0..6000 {
        if fs::read_to_string(lab.path(run).join("metrics.jsonl")).is_ok_and(|text| text.lines().count() >= lines) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{run} made no steps");
}

const LONG: [&str; 6] = ["--steps", "120", "--set", "train.validate_every=25", "--set", "train.checkpoint_every=9"];

/// Every line but for what depends on the clock.
fn timeless(mut lines: Vec<Value>) -> Vec<Value> {
    for line in &mut lines {
        let object = line.as_object_mut().unwrap();
        for key in ["seconds", "samples_per_second", "peak_bytes", "run_peak_bytes", "validation_seconds"] {
            object.remove(key);
        }
    }
    lines
}

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_or_killed_ends_with_the_same_bits() {
    let lab = Lab::new();
    // With an average of the weights, two sets of them have to be gone on with.
    let average = ["--set", "train.ema_decay=0.9"];
    let averaged = [&LONG[..], &average].concat();
    train(&lab, "whole", &LONG);
    train(&lab, "whole_averaged", &averaged);
    for (run, signal, settings, whole) in [
        ("stopped", "-INT", &averaged[..], "whole_averaged"),
        ("asked", "-TERM", &LONG[..], "whole"),
        ("killed", "-KILL", &LONG[..], "whole"),
        ("killed_averaged", "-KILL", &averaged[..], "whole_averaged"),
    ] {
        let digest = lab.json(&format!("{whole}/manifest.json"))["weights_sha256"].as_str().unwrap().to_owned();
        let expected = timeless(lab.metrics(whole));
        let mut arguments = vec!["train", "c.toml", "--run", run];
        arguments.extend(settings);
        let mut command = lab.voxfit(&arguments);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        wait_for(&lab, run, 20);
        let sent = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        let goes_on = if signal == "-KILL" {
            assert_eq!(output.status.code(), None);
            format!("voxfit {} --resume", arguments.join(" "))
        } else {
            assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
            let said = stdout(&output);
            assert!(said.contains("stopped after step") && said.contains("of 120"), "{said}");
            said.lines().last().unwrap().trim().to_owned()
        };
        // What it says is typed as it stands.
        let output = lab.shell(&goes_on.replacen("voxfit", "exec \"$VOXFIT\"", 1));
        assert_eq!(output.status.code(), Some(0), "{goes_on}: {}", stderr(&output));
        assert!(stderr(&output).contains("resumed from step"), "{}", stderr(&output));
        assert_eq!(digest_of(&stdout(&output)), digest, "{run}");
        assert_eq!(timeless(lab.metrics(run)), expected, "{run}");
        let best = |run: &str| fs::read(lab.path(run).join("checkpoints/best/checkpoint.safetensors")).unwrap().len();
        assert_eq!(best(run), best(whole));
    }
}

#[cfg(unix)]
#[test]
fn a_stop_during_preparation_is_in_order_too() {
    let lab = Lab::new();
    lab.done(&["phantom", "large", "--cases", "12", "--size", "64,64,64", "--classes", "2"]);
    let mut command = lab.voxfit(&["train", "c.toml", "--data", "large", "--run", "a", "--steps", "1000000"]);
    command.stdout(std::process::Stdio::piped()).stderr(fs::File::create(lab.path("said")).unwrap());
    let child = command.spawn().unwrap();
    // The first notice comes before any case is read.
    while !fs::read_to_string(lab.path("said")).unwrap().contains("12 cases") {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", fs::read_to_string(lab.path("said")).unwrap());
    let said = stdout(&output);
    assert!(said.contains("stopped before the first step") && said.contains("--steps 1000000 --resume"), "{said}");
    assert!(!lab.path("a").exists());
}

#[test]
fn out_of_time_is_resumable_and_a_finished_run_says_its_digest() {
    let lab = Lab::new();
    // More steps than any machine makes in that time.
    let mut reached = 0;
    for resume in [&[][..], &["--resume"]] {
        let mut arguments = vec!["train", "c.toml", "--run", "timed", "--steps", "1000000", "--max-time", "3s"];
        arguments.extend(["--set", "train.validate_every=1000000"]);
        arguments.extend(resume);
        let output = lab.output(&arguments);
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        assert!(
            stdout(&output).contains("--max-time 3s --set train.validate_every=1000000 --resume"),
            "{}",
            stdout(&output)
        );
        let steps = lab.metrics("timed").len();
        assert!(steps > reached, "{steps} steps after {reached}");
        reached = steps;
    }
    let digest = train(&lab, "a", &[]);
    // Once finished, whether asked once or twice, nothing changes.
    let before = fs::read(lab.path("a/metrics.jsonl")).unwrap();
    assert_eq!(train(&lab, "a", &["--resume"]), digest);
    assert_eq!(fs::read(lab.path("a/metrics.jsonl")).unwrap(), before);
    // Without a checkpoint, and without a folder.
    fs::remove_dir_all(lab.path("a/checkpoints")).unwrap();
    for run in ["a", "new"] {
        let output = lab.output(&["train", "c.toml", "--run", run, "--resume"]);
        assert_eq!(digest_of(&stdout(&output)), digest);
        assert!(stderr(&output).contains("no checkpoint to resume from: starting at step 0"), "{}", stderr(&output));
        assert_eq!(lab.metrics(run).len(), before.split(|byte| *byte == b'\n').count() - 1);
    }
}

/// Mean and spread over folds, and over all cases, from the folds' own files.
fn folds_are_summed_up(lab: &Lab) {
    let summary = lab.json("folds/cross_validation.json");
    let folds: Vec<Value> =
        (0..2).map(|fold| lab.json(&format!("folds/fold_{fold}/validation/summary.json"))).collect();
    let close = |found: &Value, expected: f64| assert!((found.as_f64().unwrap() - expected).abs() < 1e-12, "{found}");
    let means: Vec<f64> = folds.iter().map(|fold| fold["foreground_mean"]["dice"].as_f64().unwrap()).collect();
    let mean = (means[0] + means[1]) / 2.0;
    close(&summary["mean_dice"], mean);
    close(&summary["mean_dice_spread"]["sd"], (means[0] - means[1]).abs() / 2f64.sqrt());
    assert_eq!(summary["all_cases"]["cases"], json!(6));
    for class in 0..2 {
        let of_fold = |fold: &Value| fold["classes"][class]["mean"]["dice"].as_f64().unwrap();
        close(&summary["classes"][class]["dice"]["mean"], (of_fold(&folds[0]) + of_fold(&folds[1])) / 2.0);
        let cases = folds.iter().flat_map(|fold| fold["cases"].as_array().unwrap().clone());
        let dice: Vec<f64> = cases.filter_map(|case| case["classes"][class]["dice"].as_f64()).collect();
        close(&summary["all_cases"]["classes"][class]["dice"], dice.iter().sum::<f64>() / dice.len() as f64);
    }
}

#[test]
fn every_fold_is_a_run_and_prediction_averages_them() {
    let lab = Lab::new();
    let folds = ["--set", "data.folds=2", "--fold", "each"];
    train(&lab, "folds", &folds);
    let mut held_out = Vec::new();
    for fold in 0..2 {
        let manifest = lab.json(&format!("folds/fold_{fold}/manifest.json"));
        held_out.extend(manifest["validation_cases"].as_array().unwrap().clone());
        let alone = train(&lab, &format!("alone_{fold}"), &["--set", "data.folds=2", "--fold", &fold.to_string()]);
        assert_eq!(manifest["weights_sha256"], json!(alone));
    }
    held_out.sort_by_key(ToString::to_string);
    let all: Vec<Value> = (1..=6).map(|case| json!(format!("phantom_{case:03}"))).collect();
    assert_eq!(held_out, all);
    folds_are_summed_up(&lab);
    assert_eq!(train(&lab, "folds", &[&folds[..], &["--resume"]].concat()).len(), 64);

    // The mean of two networks' logits lies between them; the label map of the whole is that of the mean.
    for run in ["folds", "folds/fold_0", "folds/fold_1"] {
        lab.done(&["predict", run, IMAGE, "-o", &format!("{run}/out"), "--probabilities"]);
    }
    assert_eq!(lab.json("folds/out/predict.json")["weights_sha256"].as_array().unwrap().len(), 2);
    let scores = |run: &str, class: &str| {
        let name = format!("{run}/out/phantom_003_probability_{class}.nii.gz");
        volume::read_image(&lab.path(&name)).unwrap().data
    };
    let log_ratio = |run: &str| {
        let (liver, background) = (scores(run, "liver"), scores(run, "background"));
        ndarray::Zip::from(&liver).and(&background).map_collect(|a, b| (a / b).ln())
    };
    let (mean, first, second) = (log_ratio("folds"), log_ratio("folds/fold_0"), log_ratio("folds/fold_1"));
    let mut apart = 0f32;
    ndarray::Zip::from(&mean).and(&first).and(&second).for_each(|mean, first, second| {
        assert!((mean - (first + second) / 2.0).abs() < 1e-2, "{mean} {first} {second}");
        apart = apart.max((first - second).abs());
    });
    assert!(apart > 0.1, "the folds do not differ: {apart}");

    // All cases, none held out.
    train(&lab, "all", &["--fold", "all"]);
    let manifest = lab.json("all/manifest.json");
    assert_eq!((manifest["train_cases"].as_array().unwrap().len(), &manifest["mean_dice"]), (6, &Value::Null));
    assert!(!lab.path("all/validation").exists());
    assert!(lab.failure(&["predict", "all", IMAGE, "-o", "out", "--checkpoint", "best"]).contains("--checkpoint last"));
}

#[test]
fn fewer_cases_than_folds_are_marked() {
    let lab = Lab::new();
    lab.done(&["phantom", "few", "--cases", "2", "--size", "24,24,24", "--classes", "2"]);
    let printed = lab.done(&["train", "c.toml", "--data", "few", "--run", "a"]);
    assert!(printed.contains("validation: on training cases"), "{printed}");
    assert_eq!(lab.json("a/manifest.json")["validation_on_training_cases"], json!(true));
    assert_eq!(lab.json("a/validation/summary.json")["cases"].as_array().unwrap().len(), 2);
}

#[test]
fn norms_types_and_rules_all_train() {
    let lab = Lab::new();
    for (run, set) in [
        ("f32", &["precision.activations=f32"][..]),
        ("bf16", &["precision.activations=bf16"]),
        ("f16", &["precision.activations=f16"]),
        ("f16_fixed", &["precision.activations=f16", "precision.loss_scale=128"]),
        ("adamw", &["train.optimizer=adamw", "train.learning_rate=0.001"]),
        ("sgd", &["train.optimizer=sgd"]),
        ("instance", &["network.norm=instance"]),
        ("flat", &["network.deep_supervision=false"]),
    ] {
        let sets: Vec<&str> = set.iter().flat_map(|set| ["--set", *set]).collect();
        train(&lab, run, &sets);
        let losses: Vec<f64> = lab.metrics(run).iter().filter_map(|line| line["loss"].as_f64()).collect();
        assert!(losses.len() == 3 && losses.iter().all(|loss| (-1.0..3.0).contains(loss)), "{run}: {losses:?}");
        assert_eq!(lab.metrics(run)[0]["loss_scale"].as_f64(), (run == "f16").then_some(65536.0), "{run}");
    }
    // BatchNorm holds from eight written samples on, with running statistics in the weights.
    let eight = ["--set", "network.norm=batch", "--set", "batch.effective=8"];
    train(&lab, "batch", &[&eight[..], &["--micro-batch", "8"]].concat());
    assert_eq!(lab.json("batch/manifest.json")["norm"]["used"], "batch");
    let file = fs::read(lab.path("batch/checkpoints/last/checkpoint.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let running: Vec<_> = tensors.iter().filter(|(name, _)| name.contains("running_var")).collect();
    assert!(!running.is_empty());
    for (name, tensor) in running {
        let moved = tensor.data().as_chunks::<4>().0.iter().any(|bytes| f32::from_le_bytes(*bytes) != 1.0);
        assert!(moved, "{name} is as at the start");
    }
    lab.done(&["predict", "batch", IMAGE, "-o", "out"]);
    // Otherwise it is swapped, which the run says and repeats.
    let swapped = train(&lab, "swapped", &eight);
    let manifest = lab.json("swapped/manifest.json");
    assert_eq!((&manifest["norm"]["requested"], &manifest["norm"]["used"]), (&json!("batch"), &json!("group")));
    assert!(!manifest["norm"]["swaps"].as_array().unwrap().is_empty());
    assert_eq!(train(&lab, "group", &["--set", "network.norm=group", "--set", "batch.effective=8"]), swapped);
    assert_eq!(lab.digest(&["train", "swapped/config.toml", "--data", "data", "--run", "swapped_again"]), swapped);
}

#[test]
fn the_average_of_the_weights_is_the_result() {
    let lab = Lab::new();
    train(&lab, "plain", &[]);
    let average = ["--set", "train.ema_decay=0.9"];
    let digest = train(&lab, "averaged", &average);
    assert_eq!(train(&lab, "ones", &[&average[..], &["--micro-batch", "1", "--threads", "1"]].concat()), digest);
    // Steps are as without it, and so is what they would go on from; what is kept is another set of weights.
    let steps = |run: &str| lab.metrics(run).iter().map(|line| line["weights_digest"].clone()).collect::<Vec<_>>();
    assert_eq!(steps("averaged"), steps("plain"));
    let tensors = |run: &str, prefix: &str| -> Vec<(String, Vec<u8>)> {
        let file = fs::read(lab.path(run).join("checkpoints/last/checkpoint.safetensors")).unwrap();
        let found = safetensors::SafeTensors::deserialize(&file).unwrap();
        let named = |(name, tensor): (&str, safetensors::tensor::TensorView<'_>)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.data().to_vec()))
        };
        let mut named: Vec<_> = found.iter().filter_map(named).collect();
        named.sort();
        named
    };
    assert_eq!(tensors("averaged", "optimizer/trained/"), tensors("plain", "weights/"));
    assert_ne!(tensors("averaged", "weights/"), tensors("plain", "weights/"));
    // What is predicted with gives the figures of the run.
    let own = lab.json("averaged/validation/summary.json")["cases"].clone();
    let held_out = lab.json("averaged/manifest.json")["validation_cases"].clone();
    let inputs =
        held_out.as_array().unwrap().iter().map(|case| format!("data/imagesTr/{}.nii.gz", case.as_str().unwrap()));
    let inputs: Vec<String> = inputs.collect();
    let arguments = ["predict", "averaged", "-o", "out", "--no-postprocessing"].into_iter();
    lab.done(&arguments.chain(inputs.iter().map(String::as_str)).collect::<Vec<_>>());
    lab.done(&["evaluate", "out", "data/labelsTr", "--json", "figures.json"]);
    assert_eq!(lab.json("figures.json")["cases"], own);
    assert_ne!(lab.json("plain/validation/summary.json")["cases"], own);

    let batch = ["train", "c.toml", "--run", "batch", "--micro-batch", "8", "--set", "batch.effective=8"];
    let said = lab.failure(&[&batch[..], &["--set", "network.norm=batch"], &average].concat());
    assert!(said.contains("train.ema_decay") && said.contains("network.norm = \"group\""), "{said}");
}

/// Label values of a `.nii.gz` of bytes in the file's order, `[k, j, i]`.
fn stored(path: &Path) -> Array3<u8> {
    let file = unpacked(path);
    let dim = |axis: usize| usize::from(u16::from_le_bytes([file[40 + 2 * axis], file[41 + 2 * axis]]));
    assert_eq!(&file[70..72], [2, 0], "stored as bytes");
    Array3::from_shape_vec([dim(3), dim(2), dim(1)], file[352..].to_vec()).unwrap()
}

/// The volume with axes i' = z backwards, j' = x, k' = y backwards.
fn turned<T: Copy>(volume: ArrayView3<'_, T>) -> Array3<T> {
    let mut view = volume.permuted_axes([1, 2, 0]);
    view.invert_axis(ndarray::Axis(0));
    view.invert_axis(ndarray::Axis(2));
    view.to_owned()
}

#[test]
fn the_same_patient_in_another_orientation_is_predicted_the_same() {
    let lab = Lab::new();
    train(&lab, "a", &LONG[..2]);
    lab.done(&["phantom", "other", "--cases", "1", "--size", "26,23,19", "--spacing", "1,1.1,1.3", "--classes", "2"]);
    let source = lab.path("other/imagesTr/phantom_001.nii.gz");
    let file = unpacked(&source);
    let voxels: Vec<[u8; 2]> = file[352..].as_chunks::<2>().0.to_vec();
    let volume = turned(Array3::from_shape_vec([19, 23, 26], voxels).unwrap().view());
    assert_eq!(volume.shape(), [23, 26, 19]);
    let float = |at: usize| f32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
    let spacing = [80, 84, 88].map(float);
    let origin = [292, 308, 324].map(float);
    let mut new = file[..352].to_vec();
    put(&mut new, 42, &[19, 0, 26, 0, 23, 0]);
    for (axis, mm) in [spacing[2], spacing[0], spacing[1]].into_iter().enumerate() {
        put(&mut new, 80 + 4 * axis, &mm.to_le_bytes());
    }
    let rows = [
        [0.0, spacing[0], 0.0, origin[0]],
        [0.0, 0.0, -spacing[1], origin[1] + 22.0 * spacing[1]],
        [-spacing[2], 0.0, 0.0, origin[2] + 18.0 * spacing[2]],
    ];
    for (index, value) in rows.iter().flatten().enumerate() {
        put(&mut new, 280 + 4 * index, &value.to_le_bytes());
    }
    new.extend(volume.iter().flatten());
    lab.write("turned.nii", &new);
    lab.done(&["predict", "a", source.to_str().unwrap(), "-o", "straight.nii.gz"]);
    lab.done(&["predict", "a", "turned.nii", "-o", "turned_labels.nii.gz"]);
    let (straight, other) = (stored(&lab.path("straight.nii.gz")), stored(&lab.path("turned_labels.nii.gz")));
    assert!(straight.iter().any(|label| *label != 0), "nothing found is the same in any orientation");
    assert_eq!(turned(straight.view()), other);
    // The header is that of the input, where it says how the patient lies.
    let header = unpacked(&lab.path("turned_labels.nii.gz"));
    assert_eq!((&header[40..56], &header[252..328]), (&new[40..56], &new[252..328]));
}

#[test]
fn volumes_of_any_size_are_predicted_on_their_own_grid() {
    let lab = Lab::new();
    train(&lab, "a", &[]);
    let image = volume::read_image(&lab.path(IMAGE)).unwrap();
    let file = unpacked(&lab.path(IMAGE));
    for size in [[1usize, 1, 1], [24, 24, 1], [1, 24, 24], [5, 9, 7], [17, 31, 23], [40, 3, 18]] {
        let mut new = file[..352].to_vec();
        for (axis, voxels) in size.into_iter().enumerate() {
            put(&mut new, 42 + 2 * axis, &(voxels as u16).to_le_bytes());
        }
        for index in 0..size.iter().product::<usize>() {
            let value = image.data.iter().nth(7 * index % image.data.len()).unwrap();
            new.extend((*value as i16).to_le_bytes());
        }
        lab.write("odd.nii", &new);
        for extra in [&[][..], &["--tta"], &["--probabilities", "--overlap", "0"]] {
            let mut arguments = vec!["predict", "a", "odd.nii", "-o", "out"];
            arguments.extend(extra);
            lab.done(&arguments);
            let labels = stored(&lab.path("out/odd.nii.gz"));
            assert_eq!(labels.shape(), [size[2], size[1], size[0]], "{extra:?}");
            assert!(labels.iter().all(|label| *label < 3));
        }
        let classes = ["background", "liver", "kidney"]
            .map(|class| volume::read_image(&lab.path(&format!("out/odd_probability_{class}.nii.gz"))).unwrap().data);
        let sum = &classes[0] + &classes[1] + &classes[2];
        assert!(sum.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{size:?}");
        assert!(classes.iter().flatten().all(|share| (0.0..=1.0).contains(share)));
    }
    // Averaging over mirrorings makes a difference, and the record says so.
    lab.done(&["predict", "a", IMAGE, "-o", "plain", "--probabilities"]);
    lab.done(&["predict", "a", IMAGE, "-o", "mirrored", "--probabilities", "--tta"]);
    let share = |folder: &str| fs::read(lab.path(folder).join("phantom_003_probability_liver.nii.gz")).unwrap();
    assert_ne!(share("plain"), share("mirrored"));
    assert_eq!(lab.json("mirrored/predict.json")["tta"], json!(true));
}

#[test]
fn spacing_far_from_training_is_resampled_and_warned_of() {
    let lab = Lab::new();
    lab.done(&["phantom", "thick", "--cases", "6", "--size", "32,32,16", "--spacing", "1,1,4", "--classes", "2"]);
    let digest =
        lab.digest(&["train", "c.toml", "--data", "thick", "--run", "thick_run", "--set", "network.patch=[16,16,8]"]);
    assert_eq!(digest.len(), 64);
    lab.done(&["predict", "thick_run", "thick/imagesTr", "-o", "thick_out"]);
    lab.done(&["evaluate", "thick_out", "thick/labelsTr"]);
    let output = lab.output(&["predict", "thick_run", IMAGE, "-o", "out"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("along z is outside the 4.000 to 4.000 mm trained on"), "{}", stderr(&output));
    let warnings = lab.json("out/predict.json")["cases"][0]["warnings"].clone();
    assert_eq!(warnings.as_array().unwrap().len(), 1, "{warnings}");
    assert_eq!(stored(&lab.path("out/phantom_003.nii.gz")).shape(), [24, 24, 24]);
}

#[test]
fn two_channels_in_the_other_layout() {
    let lab = Lab::new();
    for case in 1..=6 {
        let image = volume::read_image(&lab.path(&format!("data/imagesTr/phantom_{case:03}.nii.gz"))).unwrap();
        fs::create_dir_all(lab.path("two/labelsTr")).unwrap();
        let label = format!("labelsTr/phantom_{case:03}.nii.gz");
        fs::copy(lab.path("data").join(&label), lab.path("two").join(&label)).unwrap();
        for (channel, data) in [image.data.clone(), image.data.mapv(|value| 100.0 - value / 2.0)].iter().enumerate() {
            let name = format!("two/imagesTr/phantom_{case:03}_{channel:04}.nii.gz");
            volume::write_image(&lab.path(&name), data.view(), &image.native).unwrap();
        }
    }
    let description = json!({ "channel_names": {"0": "T1", "1": "T2"}, "file_ending": ".nii.gz", "numTraining": 6,
        "labels": {"background": 0, "liver": 1, "kidney": 2} });
    lab.write("two/dataset.json", description.to_string().as_bytes());
    lab.done(&["check", "two"]);
    let digest = lab.digest(&["train", "c.toml", "--data", "two", "--run", "a"]);
    assert_ne!(digest, train(&lab, "b", &[]));
    lab.done(&["predict", "a", "two/imagesTr", "-o", "out"]);
    assert_eq!(lab.json("out/predict.json")["cases"][5]["files"].as_array().unwrap().len(), 2);
    lab.done(&["evaluate", "out", "two/labelsTr", "--json", "figures.json"]);
    assert_eq!(lab.json("figures.json")["cases"].as_array().unwrap().len(), 6);
    let said = lab.failure(&["predict", "a", "two/imagesTr/phantom_001_0000.nii.gz", "-o", "one"]);
    assert!(said.contains("case phantom_001 has 1 file(s), the network 2 channel(s)"), "{said}");
    let said = lab.failure(&["predict", "a", IMAGE, "-o", "one"]);
    assert!(said.contains("1 channel") && said.contains("2"), "{said}");
    assert!(!lab.path("one").exists());
}

/// Started where there is next to nothing: no home, no terminal, output closed.
#[cfg(unix)]
#[test]
fn odd_surroundings() {
    let lab = Lab::new();
    let digest = train(&lab, "a", &[]);
    let output = lab.shell("exec env -i TERM=dumb \"$VOXFIT\" train c.toml --run nothing");
    assert_eq!(digest_of(&stdout(&output)), digest, "{}", stderr(&output));
    assert!(lab.path(".voxfit-cache").is_dir());
    for (run, redirection) in [("out", ">&-"), ("err", "2>&-"), ("both", ">&- 2>&-"), ("pipe", "| head -c 1")] {
        let output = lab.shell(&format!("\"$VOXFIT\" train c.toml --run {run} {redirection}"));
        assert_eq!(output.status.code(), Some(0), "{run}: {}", stderr(&output));
        assert_eq!(train(&lab, run, &["--resume"]), digest);
    }
}
