//! Predicting many cases: what is there is not made again, a case at fault does not stop the others, and stray parts go
//! where validation showed that they should.
mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{Lab, put, stderr};
use ndarray::Array3;
use serde_json::{Value, json};
use voxfit::volume;

fn trained() -> Lab {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "run", "--set", "train.learning_rate=0.05", "--steps", "12"]);
    lab
}

/// By case, what tells one making from another: no two take the same time to the last digit.
fn seconds(lab: &Lab, record: &str) -> BTreeMap<String, String> {
    let record = lab.json(record);
    let of = |case: &Value| (case["case"].as_str().unwrap().to_owned(), case["seconds"].to_string());
    record["cases"].as_array().unwrap().iter().map(of).collect()
}

/// The cases that were made between two looks.
fn made(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    after.iter().filter(|(case, seconds)| before.get(*case) != Some(seconds)).map(|(case, _)| case.clone()).collect()
}

fn labels(lab: &Lab, name: &str) -> Array3<u16> {
    volume::read_labels(&lab.path(name)).unwrap().data
}

const RECORD: &str = "out/predict.json";

#[test]
fn what_is_there_is_not_made_again() {
    let lab = trained();
    let all = ["predict", "run", "data/imagesTr", "-o", "out"];
    // Some of them first, as an interrupted run leaves them.
    lab.done(&["predict", "run", "data/imagesTr/phantom_002.nii.gz", "-o", "out"]);
    lab.done(&["predict", "run", "data/imagesTr/phantom_005.nii.gz", "-o", "out"]);
    let some = seconds(&lab, RECORD);
    assert_eq!(some.len(), 2);
    let output = lab.output(&all);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("2 of 6 cases are there"), "{}", stderr(&output));
    let mut before = seconds(&lab, RECORD);
    assert_eq!(made(&some, &before), ["phantom_001", "phantom_003", "phantom_004", "phantom_006"]);
    lab.done(&all);
    assert_eq!(seconds(&lab, RECORD), before);

    let mut again = |what: &str, arguments: &[&str], cases: &[&str]| {
        lab.done(arguments);
        let after = seconds(&lab, RECORD);
        assert_eq!(made(&before, &after), cases, "{what}");
        before = after;
    };
    let first = lab.path("out/phantom_001.nii.gz");
    let whole = fs::read(&first).unwrap();
    // An input that changed by a bit and is as long as before; a label map that is gone, and one that somebody touched.
    let image = "data/imagesTr/phantom_003.nii.gz";
    let old = fs::read(lab.path(image)).unwrap();
    lab.edit(image, |file| file[400] ^= 1);
    again("another input", &all, &["phantom_003"]);
    lab.write(image, &old);
    again("the old one", &all, &["phantom_003"]);
    fs::remove_file(&first).unwrap();
    again("no label map", &all, &["phantom_001"]);
    lab.edit("out/phantom_001.nii.gz", |file| file[352] ^= 1);
    again("another label map", &all, &["phantom_001"]);
    assert_eq!(fs::read(&first).unwrap(), whole);
    let every: Vec<String> = (1..=6).map(|case| format!("phantom_{case:03}")).collect();
    let every: Vec<&str> = every.iter().map(String::as_str).collect();
    again("asked for", &[&all[..], &["--again"]].concat(), &every);
    again("other options", &[&all[..], &["--overlap", "0.3"]].concat(), &every);
    again("the same", &[&all[..], &["--overlap", "0.3", "--memory", "auto", "--threads", "1"]].concat(), &[]);
    again("more files", &[&all[..], &["--overlap", "0.3", "--probabilities"]].concat(), &every);
    fs::remove_file(lab.path("out/phantom_004_probability_liver.nii.gz")).unwrap();
    again("one of them gone", &[&all[..], &["--overlap", "0.3", "--probabilities"]].concat(), &["phantom_004"]);
    again("as at first", &all, &every);
    // The weights are the same, the preparation is not.
    let plan = fs::read_to_string(lab.path("run/plan.toml")).unwrap();
    lab.write("run/plan.toml", plan.replace("nonzero = false", "nonzero = true").as_bytes());
    again("another plan", &all, &every);
    lab.done(&["train", "c.toml", "--run", "other", "--steps", "2"]);
    again("other weights", &["predict", "other", "data/imagesTr", "-o", "out"], &every);
    // A record that cannot be read is none.
    lab.write(RECORD, b"{");
    again("no record", &["predict", "other", "data/imagesTr", "-o", "out"], &every);
}

#[test]
fn a_case_at_fault_does_not_stop_the_others() {
    let lab = trained();
    let whole = fs::read(lab.path("data/imagesTr/phantom_002.nii.gz")).unwrap();
    lab.edit("data/imagesTr/phantom_002.nii.gz", |file| put(file, 70, &[0xff, 0]));
    lab.write("data/imagesTr/phantom_004.nii.gz", b"");
    let all = ["-q", "predict", "run", "data/imagesTr", "-o", "out"];
    let output = lab.output(&all);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let last = said.lines().last().unwrap();
    for part in ["voxfit: 2 case(s) could not be predicted: phantom_002, phantom_004", "in out"] {
        assert!(last.contains(part), "`{part}` is not in: {said}");
    }
    assert!(said.contains("phantom_002: data/imagesTr/phantom_002.nii.gz: datatype"), "{said}");
    let record = lab.json(RECORD);
    let of = |key: &str| {
        record[key].as_array().unwrap().iter().map(|case| case["case"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("failed"), ["phantom_002", "phantom_004"]);
    assert_eq!(of("cases"), ["phantom_001", "phantom_003", "phantom_005", "phantom_006"]);
    assert!(record["failed"][0]["error"].as_str().unwrap().contains("datatype"), "{record}");
    let before = seconds(&lab, RECORD);
    for case in 1..=6 {
        assert_eq!(lab.path(&format!("out/phantom_{case:03}.nii.gz")).exists(), case != 2 && case != 4);
    }
    // Mended, it alone is left to do.
    lab.write("data/imagesTr/phantom_002.nii.gz", &whole);
    let output = lab.output(&all);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(made(&before, &seconds(&lab, RECORD)), ["phantom_002"]);
    assert_eq!(lab.json(RECORD)["failed"].as_array().unwrap().len(), 1);
    // A label map of an earlier input is pointed at.
    lab.write("data/imagesTr/phantom_002.nii.gz", b"");
    assert!(stderr(&lab.output(&all)).contains("the label map that is there is an earlier one"));
    // A fault of the output is no fault of a case: it is said once.
    lab.write("file", b"mine");
    let said = lab.failure(&[
        "predict",
        "run",
        "data/imagesTr/phantom_001.nii.gz",
        "data/imagesTr/phantom_003.nii.gz",
        "-o",
        "file",
    ]);
    assert!(said.contains("file"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_stop_within_a_case_is_in_order() {
    let lab = trained();
    lab.done(&["phantom", "large", "--cases", "1", "--size", "200,200,160", "--classes", "2"]);
    fs::create_dir(lab.path("in")).unwrap();
    fs::copy(lab.path("data/imagesTr/phantom_001.nii.gz"), lab.path("in/a.nii.gz")).unwrap();
    fs::copy(lab.path("large/imagesTr/phantom_001.nii.gz"), lab.path("in/b.nii.gz")).unwrap();
    let mut command = lab.voxfit(&["predict", "run", "in", "-o", "out", "--overlap", "0.9"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // The first case is taken down before the second, which would take minutes, begins.
    while !lab.path(RECORD).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert_eq!(seconds(&lab, RECORD).into_keys().collect::<Vec<_>>(), ["a"]);
    let mut names: Vec<_> = fs::read_dir(lab.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.nii.gz", "predict.json"], "something is left behind");
}

/// Parts by growing from voxel to neighbouring voxel, slowly and plainly: their number, and whether each voxel is in the
/// largest.
fn parts(mask: &Array3<bool>) -> (usize, Array3<bool>) {
    let mut number = Array3::<usize>::zeros(mask.dim());
    let mut sizes = vec![0];
    for (start, _) in mask.indexed_iter().filter(|(_, inside)| **inside) {
        if number[start] > 0 {
            continue;
        }
        sizes.push(0);
        number[start] = sizes.len() - 1;
        let mut pending = vec![start];
        while let Some((z, y, x)) = pending.pop() {
            *sizes.last_mut().unwrap() += 1;
            let near = |at: usize, edge: usize| at.saturating_sub(1)..(at + 2).min(edge);
            let (depth, height, width) = mask.dim();
            for z in near(z, depth) {
                for (y, x) in near(y, height).flat_map(|y| near(x, width).map(move |x| (y, x))) {
                    if mask[(z, y, x)] && number[(z, y, x)] == 0 {
                        number[(z, y, x)] = sizes.len() - 1;
                        pending.push((z, y, x));
                    }
                }
            }
        }
    }
    let largest = sizes[1..].iter().max().copied().unwrap_or_default();
    (sizes.len() - 1, number.mapv(|part| part > 0 && sizes[part] == largest))
}

#[test]
fn stray_parts_go_where_validation_says_so() {
    let lab = trained();
    // What is in the file is what predict and evaluate, typed, give.
    let found = lab.json("run/validation/postprocessing.json");
    let summary = lab.json("run/validation/summary.json");
    assert_eq!((&found["neighbours"], &found["on_training_cases"]), (&json!(26), &json!(false)));
    let held_out: Vec<&str> =
        found["cases"].as_array().unwrap().iter().map(|case| case["case"].as_str().unwrap()).collect();
    assert_eq!(held_out.len(), 2);
    let mut removed = 0;
    for (place, case) in held_out.iter().enumerate() {
        let image = format!("data/imagesTr/{case}.nii.gz");
        lab.done(&["predict", "run", &image, "-o", "raw", "--no-postprocessing"]);
        let raw = labels(&lab, &format!("raw/{case}.nii.gz"));
        let truth = labels(&lab, &format!("data/labelsTr/{case}.nii.gz"));
        let (count, kept) = parts(&raw.mapv(|label| label > 0));
        assert!(count > 1, "one part alone proves nothing");
        removed += count - 1;
        for class in 0..2u16 {
            let of = |choice: &str| found["cases"][place]["classes"][usize::from(class)][choice].as_f64().unwrap();
            let dice = |keep: &dyn Fn((usize, usize, usize)) -> bool| {
                let count = |inside: &dyn Fn(u16, u16) -> bool| {
                    let mut both = raw.indexed_iter().zip(&truth);
                    both.by_ref()
                        .filter(|((at, raw), truth)| inside(if keep(*at) { **raw } else { 0 }, **truth))
                        .count()
                };
                let (found, label) = (count(&|a, _| a == class + 1), count(&|_, b| b == class + 1));
                2.0 * count(&|a, b| a == class + 1 && b == class + 1) as f64 / (found + label) as f64
            };
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{case} {class}: {a} {b}");
            close(of("plain"), summary["cases"][place]["classes"][usize::from(class)]["dice"].as_f64().unwrap());
            close(of("plain"), dice(&|_| true));
            close(of("foreground"), dice(&|at| kept[at]));
            let (_, largest) = parts(&raw.mapv(|label| label == class + 1));
            close(of("largest"), dice(&|at| largest[at] || raw[at] != class + 1));
            let (_, both) = parts(&Array3::from_shape_fn(raw.dim(), |at| kept[at] && raw[at] == class + 1));
            close(of("foreground_largest"), dice(&|at| both[at] || raw[at] != class + 1));
        }
    }
    assert!(removed > 0);

    // As if validation had found that it helps, and that it does not.
    let image = "data/imagesTr/phantom_003.nii.gz";
    let decided = |dice: Value| {
        let mut file = found.clone();
        file["cases"] = json!([{ "case": "a", "classes": dice }]);
        lab.write("run/validation/postprocessing.json", file.to_string().as_bytes());
        lab.done(&["predict", "run", image, "-o", "out"]);
        (labels(&lab, "out/phantom_003.nii.gz"), lab.json(RECORD)["postprocessing"].clone())
    };
    let class = |class: u16, [plain, largest, foreground, both]: [f64; 4]| json!({ "class": class, "plain": plain, "largest": largest, "foreground": foreground, "foreground_largest": both });
    let (raw, said) = decided(json!([class(1, [0.5; 4]), class(2, [0.5; 4])]));
    assert_eq!((&said["foreground"], &said["classes"]), (&json!(false), &json!([])));
    assert!(said["because"].as_str().unwrap().contains("1 held-out case"), "{said}");
    let (together, said) = decided(json!([class(1, [0.5, 0.5, 0.6, 0.6]), class(2, [0.5; 4])]));
    assert_eq!((&said["foreground"], &said["classes"]), (&json!(true), &json!([])));
    let (_, kept) = parts(&raw.mapv(|label| label > 0));
    assert_eq!(together, Array3::from_shape_fn(raw.dim(), |at| if kept[at] { raw[at] } else { 0 }));
    assert_ne!(together, raw);
    let (second, said) = decided(json!([class(1, [0.5, 0.4, 0.4, 0.4]), class(2, [0.5, 0.6, 0.5, 0.5])]));
    assert_eq!((&said["foreground"], &said["classes"]), (&json!(false), &json!([2])));
    let (_, kept) = parts(&raw.mapv(|label| label == 2));
    assert_eq!(second, Array3::from_shape_fn(raw.dim(), |at| if raw[at] != 2 || kept[at] { raw[at] } else { 0 }));
    // Nothing of it lies in memory: the same.
    lab.done(&["-v", "predict", "run", image, "-o", "tight", "--memory", "64MiB"]);
    assert_eq!(labels(&lab, "tight/phantom_003.nii.gz"), second);

    lab.write("run/validation/postprocessing.json", b"{\"neighbours\": 26}");
    assert!(lab.failure(&["predict", "run", image, "-o", "new"]).contains("--no-postprocessing"));
    lab.done(&["predict", "run", image, "-o", "out", "--no-postprocessing"]);
    assert_eq!(labels(&lab, "out/phantom_003.nii.gz"), raw);
    assert_eq!(lab.json(RECORD)["postprocessing"]["because"], json!("--no-postprocessing"));
    fs::remove_file(lab.path("run/validation/postprocessing.json")).unwrap();
    lab.done(&["predict", "run", image, "-o", "out"]);
    assert_eq!(labels(&lab, "out/phantom_003.nii.gz"), raw);
}
