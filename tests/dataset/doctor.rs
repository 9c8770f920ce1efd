//! The doctor: every fault at once, and none where there is none.
use std::fs;
use std::path::Path;

use ndarray::{Array3, s};
use serde_json::json;
use voxfit::dataset::prepare::{self, Preparation};
use voxfit::dataset::{Dataset, check};
use voxfit::volume::Geometry;
use voxfit::volume::normalise::Normalisation;

use crate::fixture;

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

#[test]
fn real_datasets_are_clean() {
    for name in ["Task04_Hippocampus", "MNI152", "CT_Torso"] {
        let Some(root) = fixture::real(name) else { continue };
        let findings = check::check_folder(&root);
        assert!(findings.is_empty(), "{name}\n{}", check::text(&findings));
    }
}
