//! Both layouts, what is refused and how, and the digest.
use std::fs;
use std::path::Path;

use serde_json::json;
use voxfit::dataset::{Case, Dataset, check, prepare};
use voxfit::volume::normalise::Normalisation;

use crate::fixture;

#[test]
fn msd_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_msd(folder.path(), 3)).unwrap();
    assert_eq!(dataset.name, "Boxes");
    assert_eq!(dataset.classes, ["background", "large", "small"]);
    assert_eq!(dataset.ignore, None);
    assert_eq!(dataset.channels.iter().map(|c| (c.name.as_str(), c.is_ct)).collect::<Vec<_>>(), [("MRI", false)]);
    assert_eq!(
        dataset.cases.iter().map(|case| case.id.as_str()).collect::<Vec<_>>(),
        ["case_00", "case_01", "case_02"]
    );
    assert_eq!(dataset.cases[1].images, [folder.path().join("imagesTr/case_01.nii.gz")]);
    assert_eq!(dataset.cases[1].label, folder.path().join("labelsTr/case_01.nii.gz"));
}

#[test]
fn nnunet_is_read() {
    let folder = tempfile::tempdir().unwrap();
    fixture::write_nnunet(folder.path(), 2);
    // What macOS leaves beside files on foreign disks.
    fs::write(folder.path().join("imagesTr/._case_00_0000.nii.gz"), b"resource fork").unwrap();
    fs::write(folder.path().join("labelsTr/._case_00.nii.gz"), b"resource fork").unwrap();
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.name, folder.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(dataset.classes, ["background", "large", "small"]);
    assert_eq!(dataset.ignore, Some(3));
    assert_eq!(
        dataset.channels.iter().map(|c| (c.name.as_str(), c.is_ct)).collect::<Vec<_>>(),
        [("T1", false), ("ct", true)]
    );
    assert_eq!(
        dataset.cases[1],
        Case {
            id: "case_01".into(),
            images: (0..2).map(|c| folder.path().join(format!("imagesTr/case_01_000{c}.nii.gz"))).collect(),
            label: folder.path().join("labelsTr/case_01.nii.gz"),
        }
    );
}

/// Either file of a pair may be the ending, and a change of either is a change of the dataset.
#[test]
fn pairs_are_read_in_nnunets_layout() {
    let folder = tempfile::tempdir().unwrap();
    fixture::write_nnunet(folder.path(), 2);
    let files = Dataset::open(folder.path()).unwrap();
    let prepared = |dataset: &Dataset, channels| {
        let preparation = prepare::Preparation {
            spacing: [1.0; 3],
            normalisation: vec![Normalisation::ZScore { nonzero: false }; channels],
        };
        prepare::case(&dataset.cases[1], dataset.classes.len(), dataset.ignore, &preparation).unwrap()
    };
    let expected = prepared(&files, 2);
    fixture::into_pairs(folder.path());
    let mut description = fixture::read_description(folder.path());
    let mut digests = Vec::new();
    for ending in [".img", ".hdr"] {
        description["file_ending"] = json!(ending);
        fixture::write_description(folder.path(), &description);
        let dataset = Dataset::open(folder.path()).unwrap();
        assert!(dataset.cases[1].label.ends_with(format!("labelsTr/case_01{ending}")));
        assert!(check::check(&dataset).iter().all(|finding| finding.severity != check::Severity::Fault));
        assert_eq!(prepared(&dataset, 2), expected);
        digests.push(dataset.digest().unwrap());
    }
    assert_eq!(digests[0], digests[1]);
    for (file, at) in [("imagesTr/case_00_0001.hdr", 348), ("labelsTr/case_01.img", 3)] {
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        digests.push(Dataset::open(folder.path()).unwrap().digest().unwrap());
    }
    assert!(digests[1] != digests[2] && digests[2] != digests[3]);
    // Half a pair is named.
    fs::remove_file(folder.path().join("imagesTr/case_01_0000.img")).unwrap();
    let findings = check::check_folder(folder.path());
    assert!(findings.iter().any(|finding| finding.case == "case_01" && finding.field == "pair"), "{findings:?}");
}

#[test]
fn a_description_with_keys_of_both_kinds_is_decided_by_its_labels() {
    let folder = tempfile::tempdir().unwrap();
    fixture::write_nnunet(folder.path(), 2);
    let mut description = fixture::read_description(folder.path());
    description["training"] = json!([{"image": "./imagesTr/case_00.nii.gz", "label": "./labelsTr/case_00.nii.gz"}]);
    description["modality"] = json!({"0": "T1", "1": "ct"});
    fixture::write_description(folder.path(), &description);
    assert_eq!(Dataset::open(folder.path()).unwrap().cases.len(), 2);

    // nnU-Net v1: MSD's description, channels numbered in the files' names alone.
    description["labels"] = json!({"0": "background", "1": "large", "2": "small"});
    fixture::write_description(folder.path(), &description);
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!((dataset.cases.len(), dataset.cases[0].images.len()), (1, 2));
    assert_eq!(dataset.cases[0].id, "case_00");
}

/// Each change to a sound description, and what the one sentence says: file, field, problem, cure.
#[test]
fn a_broken_description_is_refused_with_its_field_and_a_cure() {
    type Change = fn(&mut serde_json::Value);
    let msd: &[(Change, &[&str])] = &[
        (|d| d["training"] = json!([]), &["dataset.json: training: lists no case"]),
        (|d| d["training"] = json!(3), &["dataset.json: training: is no list", "\"image\""]),
        (|d| d["training"][1] = json!({"image": "imagesTr/case_00.nii.gz"}), &["training[1].label: is missing"]),
        (|d| d["training"][0]["image"] = json!(7), &["training[0].image: is missing or no path"]),
        (|d| d["training"][0]["label"] = json!("../x.nii.gz"), &["training[0].label", "below the dataset's folder"]),
        (|d| d["training"][0]["image"] = json!("/x.nii.gz"), &["training[0].image", "below the dataset's folder"]),
        (|d| d["training"][0]["image"] = json!("imagesTr/no.nii.gz"), &["imagesTr/no.nii.gz: image: is not there"]),
        (|d| d["training"][0]["label"] = json!("labelsTr"), &["labelsTr: label: is no file"]),
        (|d| d["training"][0] = d["training"][1].clone(), &["two cases are called case_00"]),
        (|d| drop(d.as_object_mut().unwrap().remove("modality")), &["dataset.json: modality: is missing", "\"0\""]),
        (|d| d["modality"] = json!({"1": "MRI"}), &["modality: has 1 entries but none for channel 0"]),
        (|d| drop(d.as_object_mut().unwrap().remove("labels")), &["dataset.json: labels: is missing"]),
        (|d| drop(d.as_object_mut().unwrap().remove("training")), &["training: neither a list of cases"]),
        (|d| d["labels"] = json!({"0": "background"}), &["no class besides the background"]),
        (|d| d["labels"] = json!({"1": "a", "2": "b"}), &["value 0 has no name", "add the background as label 0"]),
        (
            |d| d["labels"] = json!({"0": "z", "2": "a", "3": "b"}),
            &["0, 2, 3 are not consecutive", "write `remap = { 2 = 1, 3 = 2 }` under [data]"],
        ),
        (|d| d["labels"] = json!({"0": "z", "1": "a", "2": "a"}), &["are not two classes"]),
        (|d| d["labels"] = json!({"0": "z", "1": 1}), &["labels.0", "is no label"]),
        (|d| d["labels"] = json!({"0": "z", "1": "a", "70000": "b"}), &["labels.0: \"z\" is no label from 0 to 65535"]),
    ];
    let nnunet: &[(Change, &[&str])] = &[
        (|d| d["labels"]["whole"] = json!([1, 2]), &["regions_class_order: is missing"]),
        (|d| d["labels"]["ignore"] = json!(1), &["labels: \"ignore\" = 1 and \"large\" = 1 are not two classes"]),
        (|d| d["labels"]["more"] = json!(4), &["labels.ignore: is 3 but the highest label is 4"]),
        (|d| d["labels"]["large"] = json!(-1), &["labels.large: -1 is no label"]),
        (|d| d["numTraining"] = json!(3), &["numTraining: is 3 but imagesTr holds 2 cases"]),
        (|d| d["file_ending"] = json!(".png"), &["file_ending: \".png\" is not read"]),
        (|d| drop(d.as_object_mut().unwrap().remove("file_ending")), &["file_ending: is missing"]),
        (
            |d| d["channel_names"] = json!({"0": "T1"}),
            &["case_00_0001.nii.gz", "is channel 1 but dataset.json names 1 channel"],
        ),
        (|d| d["channel_names"]["2"] = json!("T2"), &["case_00_0002.nii.gz: image: is not there"]),
    ];
    for (write, changes) in [(fixture::write_msd as fn(&Path, usize) -> _, msd), (fixture::write_nnunet, nnunet)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 2);
        let sound = fixture::read_description(folder.path());
        for (change, parts) in changes {
            let mut description = sound.clone();
            change(&mut description);
            fixture::write_description(folder.path(), &description);
            let error = Dataset::open(folder.path()).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}\nlacks one of {parts:?}");
            assert!(error.contains(folder.path().to_str().unwrap()) && error.contains("; "), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(!check::check_folder(folder.path()).is_empty());
        }
    }
}

#[test]
fn a_missing_or_malformed_description_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Dataset::open(folder.path()).unwrap_err().to_string();
    assert!(open().contains("dataset.json: file: is not there; name the folder"), "{}", open());
    fs::write(folder.path().join("dataset.json"), "{\"labels\": {\n  \"0\" \"background\"}}").unwrap();
    assert!(open().contains("dataset.json: JSON: expected `:` at line 2"), "{}", open());
    fs::write(folder.path().join("dataset.json"), "[1, 2]").unwrap();
    assert!(open().contains("dataset.json: JSON: invalid type"), "{}", open());
    fs::write(folder.path().join("dataset.json"), [0xff, 0xfe, 0]).unwrap();
    assert!(open().contains("dataset.json: JSON: "), "{}", open());
    fs::write(folder.path().join("dataset.json"), "{}").unwrap();
    assert!(open().contains("dataset.json: labels: is missing"), "{}", open());
}

#[test]
fn a_byte_order_mark_is_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    fixture::write_msd(folder.path(), 1);
    let description = fs::read(folder.path().join("dataset.json")).unwrap();
    fs::write(folder.path().join("dataset.json"), [b"\xef\xbb\xbf".as_slice(), &description].concat()).unwrap();
    Dataset::open(folder.path()).unwrap();
}

#[test]
fn the_digest_is_that_of_the_content() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let digest = |root: &Path| Dataset::open(root).unwrap().digest().unwrap();
    let first = digest(&fixture::write_msd(one.path(), 2));
    assert_eq!(first, digest(&fixture::write_msd(two.path(), 2)), "another folder");

    let mut description = fixture::read_description(two.path());
    description["description"] = json!("a remark");
    fixture::write_description(two.path(), &description);
    assert_eq!(first, digest(two.path()), "a remark");
    description["labels"]["2"] = json!("tiny");
    fixture::write_description(two.path(), &description);
    assert_ne!(first, digest(two.path()), "another class");

    let cache = tempfile::tempdir().unwrap();
    let remembered = || Dataset::open(one.path()).unwrap().digest_memoised(cache.path()).unwrap();
    assert_eq!([remembered(), remembered()], [first.clone(), first.clone()]);
    let mut labels = fixture::label_array(1);
    labels[[0, 0, 0]] = 1;
    fixture::write_labels(&one.path().join("labelsTr/case_01.nii.gz"), &labels, &fixture::geometry());
    assert_ne!(first, remembered(), "another voxel");
    assert_eq!(digest(one.path()), remembered());
}

/// Every value of a description, in turn, replaced by something else or taken away: whatever comes of it is a dataset or
/// one sentence, never a panic.
#[test]
fn no_description_is_too_odd() {
    fn places(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_string());
        let children: Vec<(String, &serde_json::Value)> = match value {
            serde_json::Value::Object(entries) => entries.iter().map(|(key, value)| (key.clone(), value)).collect(),
            serde_json::Value::Array(list) => {
                list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        children.into_iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found));
    }
    let odd = [
        json!(null),
        json!(true),
        json!(-1.5),
        json!(1e300),
        json!(""),
        json!("é/\u{0}"),
        json!([]),
        json!({}),
        json!([{}]),
    ];
    for write in [fixture::write_msd as fn(&Path, usize) -> _, fixture::write_nnunet] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1);
        let sound = fixture::read_description(folder.path());
        let mut found = Vec::new();
        places(&sound, "", &mut found);
        for place in found {
            for odd in &odd {
                let mut description = sound.clone();
                *description.pointer_mut(&place).unwrap() = odd.clone();
                fixture::write_description(folder.path(), &description);
                if let Err(error) = Dataset::open(folder.path()) {
                    let error = error.to_string();
                    assert!(error.lines().count() == 1 && error.contains("; "), "{place} = {odd}: {error}");
                }
            }
        }
    }
}
