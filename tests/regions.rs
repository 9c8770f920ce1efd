//! Regions that overlap, from a dataset's description to the label map.
mod common;

use common::Lab;
use serde_json::{Value, json};
use voxfit::volume;

/// The phantom's two classes as regions in nnU-Net's way: both, and the second.
fn lab() -> Lab {
    let lab = Lab::new();
    describe(&lab, |description| {
        description["regions_class_order"] = json!([1, 2]);
    });
    lab
}

/// Writes the description anew with regions, in an order that is not that of names.
fn describe(lab: &Lab, edit: impl Fn(&mut Value)) {
    let mut description = lab.json("data/dataset.json");
    description["labels"] = json!("LABELS");
    edit(&mut description);
    let labels = r#"{"background": 0, "whole": [1, 2], "core": [2]}"#;
    lab.write("data/dataset.json", description.to_string().replace("\"LABELS\"", labels).as_bytes());
}

#[test]
fn regions_are_trained_validated_and_painted() {
    let lab = lab();
    lab.done(&["check", "data"]);
    let digest = lab.digest(&["train", "c.toml", "--run", "a"]);
    let summary = lab.json("a/validation/summary.json");
    let names: Vec<&str> = summary["classes"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["whole", "core"]);

    // Whatever is in memory at once; another loss gives other weights.
    let micro = ["--micro-batch", "1", "--set", "memory.recompute=blocks"];
    assert_eq!(lab.digest(&[&["train", "c.toml", "--run", "b"], &micro[..]].concat()), digest);
    let one_dice = ["--set", "train.batch_dice=true"];
    let of_batch = lab.digest(&[&["train", "c.toml", "--run", "c"], &one_dice[..]].concat());
    assert_ne!(of_batch, digest);
    assert_eq!(lab.digest(&[&["train", "c.toml", "--run", "d"], &one_dice[..], &micro[..]].concat()), of_batch);

    // Every voxel is painted by what the probabilities say, the smaller region over the larger.
    lab.done(&["predict", "a", "data/imagesTr/phantom_001.nii.gz", "-o", "p", "--probabilities"]);
    let labels = volume::read_labels(&lab.path("p/phantom_001.nii.gz")).unwrap().data;
    let probability =
        |name: &str| volume::read_image(&lab.path(&format!("p/phantom_001_probability_{name}.nii.gz"))).unwrap().data;
    let (whole, core) = (probability("whole"), probability("core"));
    assert!(whole.iter().chain(&core).all(|p| (0.0..=1.0).contains(p)));
    let expected = ndarray::Zip::from(&whole).and(&core).map_collect(|&whole, &core| match (whole > 0.5, core > 0.5) {
        (_, true) => 2,
        (true, false) => 1,
        (false, false) => 0,
    });
    assert_eq!(labels, expected);
    assert!(labels.iter().any(|label| *label != 0), "three steps must find something for this to be a test");
    // And without probabilities it is the same map.
    lab.done(&["predict", "a", "data/imagesTr/phantom_001.nii.gz", "-o", "q"]);
    assert_eq!(volume::read_labels(&lab.path("q/phantom_001.nii.gz")).unwrap().data, labels);
}

/// `evaluate` finds the regions in the description beside the labels, and the figures that the training had.
#[test]
fn evaluate_is_of_regions_too() {
    let lab = lab();
    lab.done(&["train", "c.toml", "--run", "a"]);
    let held_out = lab.json("a/manifest.json")["validation_cases"].clone();
    for case in held_out.as_array().unwrap().iter().map(|case| case.as_str().unwrap()) {
        let image = format!("data/imagesTr/{case}.nii.gz");
        lab.done(&["predict", "a", &image, "-o", "p", "--no-postprocessing"]);
    }
    lab.done(&["evaluate", "p", "data/labelsTr", "--json", "f.json"]);
    let (found, expected) = (lab.json("f.json"), lab.json("a/validation/summary.json"));
    assert_eq!(found["cases"].as_array().unwrap().len(), held_out.as_array().unwrap().len());
    for key in ["foreground_mean", "cases"] {
        assert_eq!(found[key], expected[key]);
    }
    let name = |summary: &Value, at: usize| summary["classes"][at]["name"].clone();
    assert_eq!((name(&found, 0), name(&found, 1)), (json!("whole"), json!("core")));
}

/// A region's figures are those of its voxels, whatever they were painted with.
#[test]
fn figures_are_of_regions() {
    use voxfit::dataset::Region;
    let region = |name: &str, values: &[u16], paint| Region { name: name.into(), values: values.to_vec(), paint };
    let regions = [region("whole", &[1, 2], 1), region("core", &[2], 2)];
    let map = |values: [u16; 6]| ndarray::Array3::from_shape_vec((1, 1, 6), values.to_vec()).unwrap();
    let (prediction, label) = (map([1, 1, 2, 0, 0, 2]), map([2, 1, 2, 1, 0, 3]));
    let figures =
        voxfit::evaluate::region_figures("a", prediction.view(), label.view(), &regions, Some(3), [1.0; 3], Some(1.0));
    let dice: Vec<f64> = figures.classes.iter().map(|class| class.figures.dice).collect();
    // The last voxel is ignored: 3 of 3 and 4 in both; 1 of 1 and 2.
    assert_eq!(dice, [6.0 / 7.0, 2.0 / 3.0]);
}

#[test]
fn descriptions_of_regions_that_cannot_be_are_refused() {
    let lab = lab();
    let refused = |edit: &dyn Fn(&mut Value), said: &str| {
        describe(&lab, |description| edit(description));
        let output = lab.output(&["check", "data"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(3) && text.contains(said), "`{said}` is not in: {text}");
    };
    refused(&|d| d["regions_class_order"] = json!([1]), "regions_class_order: has 1 entries for 2 regions");
    refused(&|d| d["regions_class_order"] = json!([1, 1]), "1 is no label of region \"core\"");
    refused(&|d| d["regions_class_order"] = json!("12"), "regions_class_order: is no list");
    refused(&|d| drop(d.as_object_mut().unwrap().remove("regions_class_order")), "regions_class_order: is missing");
    let labels = |labels: Value| {
        move |d: &mut Value| {
            d["labels"] = labels.clone();
            d["regions_class_order"] = json!([1, 2]);
        }
    };
    refused(
        &|d: &mut Value| {
            d["labels"] = json!({"background": 0, "a": [1, 3], "b": [3]});
            d["regions_class_order"] = json!([1, 3]);
        },
        "no region holds 2",
    );
    refused(&labels(json!({"background": 0, "a": [0, 1], "b": [2]})), "labels.a: holds the background");
    refused(&labels(json!({"background": 0, "a": [1, 2], "b": [2], "ignore": 7})), "is 7 but the highest label is 2");
    refused(&labels(json!({"background": 0, "a": [1, "x"], "b": [2]})), "labels.a: is neither a label");
    refused(&labels(json!({"background": [0]})), "name no class besides");
}
