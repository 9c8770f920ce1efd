//! `dataset.json` of both layouts.
use std::fs;
use std::path::{Component, Path};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};
use voxfit::dataset::{Dataset, check};

use crate::allocation::{alone, measured};
use crate::damage::fuzz;
use crate::raw::{Raw, gzip};

/// Bytes that a description of some kilobytes may take.
const MOST: usize = 16 << 20;

const WORDS: &[&str] = &[
    "../",
    "..\\",
    "/",
    "//",
    "./",
    ".//",
    "C:",
    "\\u0000",
    "\\u001b[2J",
    "\\u202e",
    "null",
    "{}",
    "[]",
    "-1",
    "1e999",
    "65536",
    "18446744073709551616",
    "\"image\"",
    "\"label\"",
    "\"training\"",
    "\"labels\"",
    "\"ignore\"",
    "\"modality\"",
    "\"file_ending\"",
    "\"channel_names\"",
    "[[[[",
    "{\"0\":",
    ",",
    "\"",
    "\\ud800",
    "=1+1",
];

/// A dataset with room for both layouts: two cases of two channels.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut labels = Raw::new();
    labels.values.iter_mut().for_each(|value| *value %= 3.0);
    for (name, raw) in [("imagesTr", Raw::new()), ("labelsTr", labels)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        for file in ["a", "b", "a_0000", "b_0000", "a_0001", "b_0001"] {
            fs::write(folder.path().join(name).join(format!("{file}.nii.gz")), gzip(&raw.bytes())).unwrap();
        }
    }
    folder
}

fn msd() -> Value {
    json!({
        "name": "Boxes", "modality": {"0": "MRI"}, "numTraining": 2,
        "labels": {"0": "background", "1": "large", "2": "small"},
        "training": [
            {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"},
            {"image": "imagesTr\\b.nii.gz", "label": "labelsTr/b.nii.gz"},
        ],
        "test": ["./imagesTs/c.nii.gz"],
    })
}

fn nnunet() -> Value {
    json!({
        "channel_names": {"0": "T1", "1": "CT"}, "labels": {"background": 0, "large": 1, "small": 2, "ignore": 3},
        "numTraining": 2, "file_ending": ".nii.gz",
    })
}

fn is_below(root: &Path, path: &Path) -> bool {
    path.strip_prefix(root).is_ok_and(|rest| rest.components().all(|part| matches!(part, Component::Normal(_))))
}

/// Reads the description as it is now, with all that follows from it.
fn look(root: &Path) -> TestCaseResult {
    let (result, peak) = measured(|| {
        match Dataset::open(root) {
            Ok(dataset) => {
                for case in &dataset.cases {
                    prop_assert!(case.images.iter().chain([&case.label]).all(|file| is_below(root, file)), "{case:?}");
                    prop_assert!(!case.id.contains(['/', '\\']) && case.id != "..", "{case:?}");
                }
                prop_assert!(dataset.digest().is_ok());
            }
            Err(error) => prop_assert!(error.to_string().len() < 4000, "{error}"),
        }
        let findings = check::check_folder(root);
        let text = check::text(&findings);
        prop_assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
        prop_assert_eq!(
            text.lines().filter(|line| line.starts_with("  fault ") || line.starts_with("  warning ")).count(),
            findings.len()
        );
        Ok(())
    });
    result?;
    prop_assert!(peak <= MOST, "{peak} bytes were held");
    Ok(())
}

#[test]
fn damaged_descriptions_are_read_or_refused() {
    let _alone = alone();
    let folder = folder();
    let seeds = [msd(), nnunet()].map(|seed| serde_json::to_vec_pretty(&seed).unwrap());
    fuzz(2000, seeds.to_vec(), WORDS, |bytes| {
        fs::write(folder.path().join("dataset.json"), bytes)?;
        look(folder.path())
    });
}

/// Paths put together from what could lead out of a folder: none does, whatever file stands there.
#[test]
fn no_path_leads_out_of_the_folder() {
    let _alone = alone();
    let folder = folder();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.nii.gz");
    fs::write(&secret, gzip(&Raw::new().bytes())).unwrap();
    let absolute = secret.to_str().unwrap();
    let up = format!("{}{}", "../".repeat(40), absolute.trim_start_matches('/'));
    let mut paths: Vec<String> = vec![absolute.into(), up.clone(), format!("imagesTr/{up}")];
    for dots in ["./", ".//", "././", ".///", "././/./", ".\\", ".\\/", "imagesTr/..//", "imagesTr//..//"] {
        paths.push(format!("{dots}{absolute}"));
        paths.push(format!("{dots}{}", absolute.trim_start_matches('/')));
        paths.push(format!("{dots}{up}"));
    }
    paths.extend(paths.clone().iter().map(|path| path.replace('/', "\\")));
    for path in paths {
        for key in ["image", "label"] {
            let mut description = msd();
            description["training"][0][key] = json!(path);
            fs::write(folder.path().join("dataset.json"), description.to_string()).unwrap();
            let opened = Dataset::open(folder.path());
            assert!(opened.is_err(), "{path} was read: {:?}", opened.unwrap().cases);
        }
    }
}

/// A dataset is often links to where the volumes are: those its owner made.
#[cfg(unix)]
#[test]
fn links_that_the_owner_made_are_followed() {
    let _alone = alone();
    let (there, here) = (folder(), tempfile::tempdir().unwrap());
    for name in ["imagesTr", "labelsTr"] {
        std::os::unix::fs::symlink(there.path().join(name), here.path().join(name)).unwrap();
    }
    fs::write(here.path().join("dataset.json"), msd().to_string()).unwrap();
    assert_eq!(Dataset::open(here.path()).unwrap().cases.len(), 2);
}

/// Descriptions that ask for much: of each the bytes and what is held.
#[test]
fn large_descriptions_take_little() {
    let _alone = alone();
    let folder = folder();
    let channels =
        |count: usize| (0..count).map(|channel| (channel.to_string(), json!("c"))).collect::<serde_json::Map<_, _>>();
    let mut many_channels = nnunet();
    many_channels["channel_names"] = Value::Object(channels(10_000));
    let mut many_entries = msd();
    many_entries["training"] = Value::Array(vec![json!(0); 2_000_000]);
    let mut many_cases = msd();
    many_cases["training"] = Value::Array(vec![json!({"image": "a", "label": "b"}); 99_000]);
    let mut many_images = msd();
    many_images["training"][0]["image"] = Value::Array(vec![json!("x"); 1_500_000]);
    let mut long_name = msd();
    long_name["labels"]["1"] = json!("x".repeat(1 << 20));
    let mut long_path = msd();
    long_path["training"][0]["image"] = json!(format!("/{}", "x".repeat(1 << 20)));
    let mut long_field = msd();
    long_field["labels"]["x".repeat(1 << 20)] = json!("a");
    for (name, description, most) in [
        ("channels", many_channels, 32 << 20),
        ("entries", many_entries, 256 << 20),
        ("cases", many_cases, 400 << 20),
        ("images", many_images, 256 << 20),
        ("name", long_name, 32 << 20),
        ("path", long_path, 32 << 20),
        ("field", long_field, 32 << 20),
    ] {
        fs::write(folder.path().join("dataset.json"), description.to_string()).unwrap();
        drop(description);
        let (said, peak) = measured(|| Dataset::open(folder.path()).unwrap_err().to_string());
        assert!(said.len() < 4000 && peak < most, "{name}: {peak} bytes, {} letters said", said.len());
    }
    fs::write(folder.path().join("dataset.json"), vec![b' '; (16 << 20) + 1]).unwrap();
    assert!(Dataset::open(folder.path()).unwrap_err().to_string().contains("too large for a description"));
}

/// 200 cases of 10 000 channels: each names some of its missing files and counts the rest.
#[test]
fn missing_channels_are_not_named_without_end() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let names: serde_json::Map<_, _> = (0..10_000).map(|channel| (channel.to_string(), json!("c"))).collect();
    let description = json!({"channel_names": names, "labels": {"background": 0, "a": 1}, "file_ending": ".nii"});
    fs::write(folder.path().join("dataset.json"), description.to_string()).unwrap();
    for name in ["imagesTr", "labelsTr"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        for case in 0..200 {
            let ending = if name == "imagesTr" { "_0000" } else { "" };
            fs::write(folder.path().join(name).join(format!("{case}{ending}.nii")), b"").unwrap();
        }
    }
    let (findings, peak) = measured(|| check::check_folder(folder.path()));
    assert_eq!(findings.len(), 200 * 9);
    assert!(findings.iter().any(|finding| finding.problem.contains("9991 more files")) && peak < 16 << 20, "{peak}");
}
