//! Datasets: both layouts, what is refused and how, the doctor, the digest, the fingerprint, and a case's preparation.
mod dataset_fixture;

use std::fs;
use std::path::Path;

use dataset_fixture as fixture;
use ndarray::{Array3, Array4, s};
use serde_json::json;
use voxfit::dataset::fingerprint::{self, Intensities};
use voxfit::dataset::prepare::{self, Preparation};
use voxfit::dataset::{Case, Dataset, check};
use voxfit::volume::normalise::Normalisation;
use voxfit::volume::{self, Geometry};

fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs().max(1.0)
}

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
            &["0, 2, 3 are not consecutive", "0 -> 0, 2 -> 1, 3 -> 2"],
        ),
        (|d| d["labels"] = json!({"0": "z", "1": "a", "2": "a"}), &["are not two classes"]),
        (|d| d["labels"] = json!({"0": "z", "1": 1}), &["labels.0", "is no label"]),
        (|d| d["labels"] = json!({"0": "z", "1": "a", "70000": "b"}), &["labels.0: \"z\" is no label from 0 to 65535"]),
    ];
    let nnunet: &[(Change, &[&str])] = &[
        (|d| d["labels"]["whole"] = json!([1, 2]), &["labels.whole: is a region made of several labels"]),
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
fn files_missing_from_an_nnunet_folder_are_all_named() {
    let folder = tempfile::tempdir().unwrap();
    fixture::write_nnunet(folder.path(), 3);
    fs::remove_file(folder.path().join("labelsTr/case_00.nii.gz")).unwrap();
    fs::remove_file(folder.path().join("imagesTr/case_02_0001.nii.gz")).unwrap();
    fs::rename(folder.path().join("imagesTr/case_01_0000.nii.gz"), folder.path().join("imagesTr/case_01.nii.gz"))
        .unwrap();
    let findings = check::check_folder(folder.path());
    let named: Vec<&str> = findings.iter().map(|finding| finding.file.as_str()).collect();
    let file = |path: &str| path.replace('/', std::path::MAIN_SEPARATOR_STR);
    for expected in [
        "labelsTr/case_00.nii.gz",
        "imagesTr/case_02_0001.nii.gz",
        "imagesTr/case_01_0000.nii.gz",
        "imagesTr/case_01.nii.gz",
    ] {
        assert!(named.contains(&file(expected).as_str()), "{expected} is not in {named:?}");
    }
    assert!(findings.iter().any(|finding| finding.cure.contains("call it case_01_0000.nii.gz")));
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

#[test]
fn the_doctor_names_every_fault_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = fixture::write_msd(folder.path(), 9);
    let image = |case: usize| root.join(format!("imagesTr/{}.nii.gz", fixture::id(case)));
    let label = |case: usize| root.join(format!("labelsTr/{}.nii.gz", fixture::id(case)));
    let geometry = fixture::geometry();

    let mut shifted = geometry.clone();
    shifted.affine[0][3] += 2.0;
    fixture::write_labels(&label(1), &fixture::label_array(1), &shifted);
    let mut voxels = fixture::image_array(2, 0);
    (voxels[[1, 2, 3]], voxels[[2, 2, 2]]) = (f32::NAN, f32::INFINITY);
    fixture::write_image(&image(2), &voxels, &geometry);
    let mut labels = fixture::label_array(3);
    (labels[[0, 0, 0]], labels[[0, 0, 1]]) = (7, 7);
    fixture::write_labels(&label(3), &labels, &geometry);
    fs::remove_file(image(4)).unwrap();
    fixture::write_4d(&image(4), &[fixture::image_array(4, 0), fixture::image_array(4, 1)], fixture::SPACING);
    let cut = fixture::label_array(5).slice(s![.., .., 1..]).to_owned();
    fixture::write_labels(&label(5), &cut, &Geometry::new([8, 8, 7], fixture::SPACING));
    fs::write(image(6), b"no volume").unwrap();
    fixture::write_image(&image(7), &Array3::from_elem((7, 8, 9), 5.0), &geometry);
    let mut noise = geometry.clone();
    noise.affine.iter_mut().flatten().for_each(|value| *value += 1e-4);
    fixture::write_labels(&label(8), &fixture::label_array(8), &noise);
    let mut description = fixture::read_description(&root);
    description["labels"]["3"] = json!("nowhere");
    fixture::write_description(&root, &description);

    let findings = check::check(&Dataset::open(&root).unwrap());
    let text = check::text(&findings);
    let found: Vec<[&str; 2]> =
        findings.iter().map(|finding| [finding.case.as_str(), finding.field.as_str()]).collect();
    let cases: Vec<&str> = found.iter().map(|[case, _]| *case).collect();
    assert_eq!(cases, ["case_01", "case_02", "case_03", "case_04", "case_05", "case_06", "case_07", ""], "{text}");
    let said = |index: usize, part: &str| assert!(findings[index].problem.contains(part), "{part}: {text}");
    said(0, "2.000 mm (2.000 voxels)");
    said(1, "2 are NaN or infinite, the first (NaN) at x, y, z = 3, 2, 1");
    said(2, "7 (2 voxels)");
    said(3, "4D with 2 volumes");
    said(4, "8x8x7 voxels where case_05.nii.gz has 9x8x7");
    said(6, "every voxel is 5");
    said(7, "class 3 (nowhere) has no voxel");
    assert!(findings.iter().all(|finding| !finding.cure.is_empty() && !Path::new(&finding.file).is_absolute()));
    assert_eq!(text.lines().count(), findings.len());
    assert!(serde_json::to_string(&findings).unwrap().contains("\"case\":\"case_01\""));
    assert_eq!(findings, check::check_folder(&root));
}

#[test]
fn a_sound_dataset_has_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(check::check_folder(&fixture::write_msd(&folder.path().join("msd"), 3)), []);
    assert_eq!(check::check_folder(&fixture::write_nnunet(&folder.path().join("nnunet"), 3)), []);
    assert_eq!(check::text(&[]), "");
}

#[test]
fn a_channel_on_another_grid_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = fixture::write_nnunet(folder.path(), 2);
    let mut shifted = fixture::geometry();
    shifted.affine[1][3] -= 0.75;
    fixture::write_image(&root.join("imagesTr/case_01_0001.nii.gz"), &fixture::image_array(1, 1), &shifted);
    let dataset = Dataset::open(&root).unwrap();
    let findings = check::check(&dataset);
    assert_eq!(findings.len(), 1, "{}", check::text(&findings));
    assert!(findings[0].file.ends_with("case_01_0001.nii.gz"));
    assert!(findings[0].problem.contains("0.750 mm (0.500 voxels) off case_01_0000.nii.gz"), "{}", findings[0].problem);
    let preparation =
        Preparation { spacing: fixture::SPACING, normalisation: vec![Normalisation::ZScore { nonzero: false }; 2] };
    let error = prepare::case(&dataset.cases[1], 3, Some(3), &preparation).unwrap_err().to_string();
    assert!(error.contains("case_01_0001.nii.gz: affine: "), "{error}");
}

/// Reference: NumPy over the same formulas, every foreground voxel weighted 1 / (foreground voxels of its case x 3):
/// `m = (v * w).sum(); sd = sqrt((w * (v - m) ** 2).sum())`, percentiles where the sorted weights' sum passes p.
#[test]
fn the_fingerprint_is_that_of_numpy() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_nnunet(folder.path(), 3)).unwrap();
    let found = fingerprint::fingerprint(&dataset).unwrap();
    assert_eq!(found.sizes, [[7, 6, 5]; 3]);
    assert!(found.spacings.iter().flatten().zip([1.0, 1.5, 2.0].into_iter().cycle()).all(|(a, b)| close(*a, b, 1e-6)));
    assert!(close(found.median_relative_size_after_crop, 210.0 / 504.0, 1e-12));
    let expected = [
        Intensities {
            mean: 53.44206349,
            deviation: 28.08389883,
            median: 54.0,
            min: 1.0,
            max: 100.0,
            percentile_00_5: 1.0,
            percentile_99_5: 100.0,
        },
        Intensities {
            mean: 52.77936508,
            deviation: 30.58878132,
            median: 55.0,
            min: 1.0,
            max: 101.0,
            percentile_00_5: 1.0,
            percentile_99_5: 101.0,
        },
    ];
    for (found, expected) in found.intensities.iter().zip(expected) {
        assert!(
            close(found.mean, expected.mean, 1e-5) && close(found.deviation, expected.deviation, 1e-5),
            "{found:?}"
        );
        let rest = |i: &Intensities| [i.median, i.min, i.max, i.percentile_00_5, i.percentile_99_5];
        assert_eq!(rest(found), rest(&expected));
    }
    let cache = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        assert_eq!(fingerprint::remembered(&dataset, cache.path(), 1 << 20).unwrap(), found);
    }
    assert_eq!(fs::read_dir(cache.path().join("fingerprints")).unwrap().count(), 1);
}

/// Reference: NumPy and `scipy.ndimage.zoom(z, factors, order=3, mode='nearest', grid_mode=True)`, clipped to z's range,
/// on the formula's case 1 cut to its nonzero box, z = (v - v.mean()) / v.std().
#[test]
fn a_case_is_cropped_normalised_and_resampled() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_msd(folder.path(), 2)).unwrap();
    let z_score = vec![Normalisation::ZScore { nonzero: false }];
    let same = Preparation { spacing: fixture::SPACING, normalisation: z_score.clone() };
    let (image, labels) = prepare::case(&dataset.cases[1], 3, None, &same).unwrap();
    assert_eq!(image.dim(), (1, 5, 6, 7));
    for (place, expected) in [([0, 0, 0, 0], 0.6155726), ([0, 2, 3, 4], 1.4420207), ([0, 4, 5, 6], 1.3387146)] {
        assert!(close(image[place].into(), expected, 1e-5), "{place:?}: {}", image[place]);
    }
    assert_eq!(labels, fixture::label_array(1).slice(s![1..-1, 1..-1, 1..-1]));

    let other = Preparation { spacing: [2.0, 1.5, 1.0], normalisation: z_score };
    let (image, labels) = prepare::case(&dataset.cases[1], 3, None, &other).unwrap();
    assert_eq!(image.dim(), (1, 10, 6, 4));
    assert_eq!(labels.dim(), (10, 6, 4));
    for (place, expected) in [([0, 0, 0, 0], 0.6642127), ([0, 3, 2, 1], -0.2185669), ([0, 9, 5, 3], 1.3407339)] {
        assert!(close(image[place].into(), expected, 1e-4), "{place:?}: {}", image[place]);
    }
}

#[test]
fn ct_is_clipped_and_a_mask_leaves_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let geometry = Geometry::new([6, 5, 4], [1.0; 3]);
    let mut voxels = Array3::from_shape_fn((4, 5, 6), |(z, y, x)| 10.0 + (z * 30 + y * 6 + x) as f32);
    // A corner of zeros inside the nonzero box.
    voxels.slice_mut(s![..2, ..2, ..2]).fill(0.0);
    let path = folder.path().join("a.nii");
    fixture::write_image(&path, &voxels, &geometry);
    let prepared = |normalisation| {
        let preparation = Preparation { spacing: [1.0; 3], normalisation: vec![normalisation] };
        prepare::image(std::slice::from_ref(&path), &preparation).unwrap().data
    };
    let ct = prepared(Normalisation::Ct { low: 20.0, high: 100.0, mean: 50.0, deviation: 10.0 });
    assert_eq!([ct[[0, 0, 0, 0]], ct[[0, 0, 2, 0]], ct[[0, 3, 4, 5]]], [-3.0, -2.8, 5.0]);
    let z = prepared(Normalisation::ZScore { nonzero: true });
    assert!(z.slice(s![0, ..2, ..2, ..2]).iter().all(|&value| value == 0.0));
    let inside: Vec<f64> = voxels.iter().zip(&z).filter(|(v, _)| **v != 0.0).map(|(_, &z)| f64::from(z)).collect();
    assert_eq!(inside.len(), 112);
    assert!((inside.iter().sum::<f64>() / 112.0).abs() < 1e-6);
    assert!((inside.iter().map(|z| z * z).sum::<f64>() / 112.0 - 1.0).abs() < 1e-6);
}

#[test]
fn channels_of_a_4d_file_are_those_of_separate_files() {
    let folder = tempfile::tempdir().unwrap();
    let channels = [fixture::image_array(0, 0), fixture::image_array(0, 1)];
    let whole = folder.path().join("whole.nii");
    fixture::write_4d(&whole, &channels, fixture::SPACING);
    let parts: Vec<_> = (0..2).map(|channel| folder.path().join(format!("part_{channel:04}.nii"))).collect();
    for (path, channel) in parts.iter().zip(&channels) {
        fixture::write_image(path, channel, &fixture::geometry());
    }
    let preparation =
        |count| Preparation { spacing: [1.0; 3], normalisation: vec![Normalisation::ZScore { nonzero: true }; count] };
    let together = prepare::image(std::slice::from_ref(&whole), &preparation(2)).unwrap();
    assert_eq!(together.data, prepare::image(&parts, &preparation(2)).unwrap().data);
    for (files, count) in [(&parts[..], 3), (&parts[..], 1), (std::slice::from_ref(&whole), 3)] {
        let error = prepare::image(files, &preparation(count)).err().unwrap().to_string();
        assert!(error.contains("nii: ") && error.contains("channels") && error.contains("; "), "{error}");
    }
}

#[test]
fn an_image_of_zeros_is_prepared_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nii.gz");
    fixture::write_image(&path, &Array3::zeros((7, 8, 9)), &fixture::geometry());
    for nonzero in [false, true] {
        let preparation =
            Preparation { spacing: fixture::SPACING, normalisation: vec![Normalisation::ZScore { nonzero }] };
        let prepared = prepare::image(std::slice::from_ref(&path), &preparation).unwrap();
        assert_eq!(prepared.data, Array4::<f32>::zeros((1, 7, 8, 9)));
    }
}

#[test]
fn a_case_that_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = fixture::write_msd(folder.path(), 2);
    let dataset = Dataset::open(&root).unwrap();
    let preparation = Preparation { spacing: [1.0; 3], normalisation: vec![Normalisation::ZScore { nonzero: false }] };
    let refused = |classes| prepare::case(&dataset.cases[0], classes, None, &preparation).unwrap_err().to_string();
    assert!(refused(2).contains("labelsTr"), "{}", refused(2));
    assert!(refused(2).contains("voxels: values that dataset.json does not name: 2 (4 voxels)"), "{}", refused(2));
    let mut shifted = fixture::geometry();
    shifted.affine[2][3] += 1.0;
    fixture::write_labels(&dataset.cases[0].label, &fixture::label_array(0), &shifted);
    assert!(refused(3).contains("case_00.nii.gz: affine: stands up to 1.000 mm (0.500 voxels) off"), "{}", refused(3));
    let mut voxels = fixture::image_array(0, 0);
    voxels[[3, 4, 5]] = f32::NAN;
    fixture::write_image(&dataset.cases[0].images[0], &voxels, &fixture::geometry());
    assert!(refused(3).contains("x, y, z = 5, 4, 3; replace"), "{}", refused(3));
}

#[test]
fn scores_are_restored_to_the_grid_they_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_msd(folder.path(), 1)).unwrap();
    let one_hot = |labels: &Array3<u16>| {
        let (z, y, x) = labels.dim();
        Array4::from_shape_fn((3, z, y, x), |(class, z, y, x)| f32::from(usize::from(labels[[z, y, x]]) == class))
    };
    let z_score = vec![Normalisation::ZScore { nonzero: false }];
    let same = Preparation { spacing: fixture::SPACING, normalisation: z_score.clone() };
    let prepared = prepare::image(&dataset.cases[0].images, &same).unwrap();
    let labels = fixture::label_array(0);
    let scores = one_hot(&labels.slice(s![1..-1, 1..-1, 1..-1]).to_owned());
    assert_eq!(prepare::restore_labels(scores.view(), &prepared.origin, &same), labels);

    // Twice as fine: every voxel's eight parts agree, so linear interpolation at its centre gives it back.
    let fine = Preparation { spacing: fixture::SPACING.map(|mm| mm / 2.0), normalisation: z_score };
    let prepared = prepare::image(&dataset.cases[0].images, &fine).unwrap();
    assert_eq!(prepared.data.dim(), (1, 10, 12, 14));
    let scores = one_hot(&Array3::from_shape_fn((10, 12, 14), |(z, y, x)| labels[[1 + z / 2, 1 + y / 2, 1 + x / 2]]));
    assert_eq!(prepare::restore_labels(scores.view(), &prepared.origin, &fine), labels);
    let path = folder.path().join("out.nii.gz");
    volume::write_labels(&path, labels.view(), &prepared.origin.native).unwrap();
    assert_eq!(volume::read_labels(&path).unwrap().data, labels);
}

#[test]
fn real_datasets_are_clean() {
    for name in ["Task04_Hippocampus", "MNI152", "CT_Torso"] {
        let Some(root) = fixture::real(name) else { continue };
        let findings = check::check_folder(&root);
        assert!(findings.is_empty(), "{name}\n{}", check::text(&findings));
    }
}

/// Reference: nibabel and NumPy over the folders, v = image[label > 0] of each case inside the nonzero box, every voxel
/// weighted 1 / len(v) and the weights normalised (the expectation of nnU-Net's draws): weighted mean and deviation,
/// percentiles where the sorted weights' sum passes p; the sum of sizes after the crop; the median relative size.
#[test]
fn the_fingerprint_of_real_datasets_is_that_of_numpy() {
    let expected = [
        ("Task04_Hippocampus", [19661.3826, 56151.4068, 360.449432, 28.0, 264156.969], [7337, 10393, 7419], 1.0),
        ("CT_Torso", [-58.3970045, 273.814019, 36.0, -999.0, 77.0], [122, 101, 30], 1.0),
        ("MNI152", [183.838881, 27.8079161, 182.0, 119.0, 234.0], [145, 181, 155], 0.468915214),
    ];
    for (name, intensities, sizes, relative) in expected {
        let Some(root) = fixture::real(name) else { continue };
        let found = fingerprint::fingerprint(&Dataset::open(&root).unwrap()).unwrap();
        let of = &found.intensities[0];
        let figures = [of.mean, of.deviation, of.median, of.percentile_00_5, of.percentile_99_5];
        for (found, expected) in figures.into_iter().zip(intensities) {
            assert!(close(found, expected, 2e-4), "{name}: {figures:?}");
        }
        assert_eq!(
            found.sizes.iter().fold([0; 3], |sum, size| std::array::from_fn(|axis| sum[axis] + size[axis])),
            sizes
        );
        assert!(close(found.median_relative_size_after_crop, relative, 1e-8), "{name}");
        assert!(found.spacings.iter().flatten().all(|&mm| close(mm, if name == "CT_Torso" { 3.0 } else { 1.0 }, 1e-6)));
    }
}
