//! The doctor: every fault at once, and none where there is none.
use std::fs;
use std::path::Path;

use ndarray::{Array3, s};
use serde_json::json;
use voxfit::dataset::check::{Asked, Severity};
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
    assert!(findings.iter().map(|finding| &finding.case).is_sorted(), "{}", check::text(&findings));
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
    assert!(findings.iter().all(|finding| finding.severity == Severity::Fault), "{text}");
    assert!(serde_json::to_string(&findings).unwrap().contains("\"case\":\"case_01\""));
    assert_eq!(findings, check::check_folder(&root));
}

#[test]
fn a_sound_dataset_has_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(check::check_folder(&fixture::write_msd(&folder.path().join("msd"), 3)), []);
    // Its second channel is called ct and holds numbers from 0 on.
    let findings = check::check_folder(&fixture::write_nnunet(&folder.path().join("nnunet"), 3));
    assert!(findings.len() == 1 && findings[0].problem.contains("no Hounsfield units"), "{findings:?}");
    assert_eq!(check::text(&[]), "");
}

/// What each warning is about, and that none of them is a fault.
#[test]
fn what_is_worth_a_look_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let root = fixture::write_msd(folder.path(), 6);
    let image = |case: usize| root.join(format!("imagesTr/{}.nii.gz", fixture::id(case)));
    let label = |case: usize| root.join(format!("labelsTr/{}.nii.gz", fixture::id(case)));

    // A qform beside the sform, 3 mm (1.5 voxels) up: code, quaternion (0, 0, 0) and qoffset_z.
    fixture::write_image(&image(0), &fixture::image_array(0, 0), &fixture::geometry());
    fixture::edit(&image(0), |bytes| {
        bytes[252..254].copy_from_slice(&1_i16.to_le_bytes());
        bytes[276..280].copy_from_slice(&3_f32.to_le_bytes());
    });
    // The same case with x and y run the other way.
    for path in [image(1), label(1)] {
        fixture::edit(&path, |bytes| {
            for (row, end) in [(0, 8.0_f32), (1, 10.5)] {
                let at = 280 + 16 * row + 4 * row;
                let step = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
                bytes[at..at + 4].copy_from_slice(&(-step).to_le_bytes());
                bytes[280 + 16 * row + 12..][..4].copy_from_slice(&end.to_le_bytes());
            }
        });
    }
    // Another person's outline of one image; nothing outlined; slices far apart.
    fixture::write_image(&image(3), &fixture::image_array(2, 0), &fixture::geometry());
    let mut labels = fixture::label_array(3);
    labels[[0, 0, 0]] = 1;
    fixture::write_labels(&label(3), &labels, &fixture::geometry());
    fixture::write_labels(&label(4), &Array3::zeros((7, 8, 9)), &fixture::geometry());
    let far = Geometry::new(fixture::SIZE, [1.0, 1.5, 9.0]);
    fixture::write_image(&image(5), &fixture::image_array(5, 0), &far);
    let large_only = fixture::label_array(5).mapv(|value| value.min(1));
    fixture::write_labels(&label(5), &large_only, &far);

    let findings = check::check_folder(&root);
    let text = check::text(&findings);
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning), "{text}");
    let said: Vec<String> =
        findings.iter().map(|finding| format!("{} {}: {}", finding.case, finding.field, finding.problem)).collect();
    let expected = [
        "case_00 sform: qform and sform are up to 3.000 mm (1.500 voxels) apart",
        "case_03 voxels: the same voxels as case_02, labelled otherwise",
        "case_04 voxels: every voxel is background",
        "case_05 pixdim: voxels 9.000 mm apart along z, where the median case has 2.000 mm",
        " orientation: the files' axes run differently: RAS (case_00 and 4 more), LPS (case_01)",
        " labels.2: class 2 (small) is in 4 of 6 cases only",
    ];
    assert_eq!(said.len(), expected.len(), "{text}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said} is not {expected}");
    }
    // How it looks.
    let file = |path: &str| path.replace('/', std::path::MAIN_SEPARATOR_STR);
    assert!(
        text.starts_with(&format!("case_00  {}\n  warning  sform: qform", file("imagesTr/case_00.nii.gz"))),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.starts_with("  warning  ")
            || line.starts_with("           -> ")
            || !line.starts_with(' '))
    );
    assert!(text.contains("\nall cases together\n  warning  orientation: "), "{text}");
}

/// A copy is found however it was packed, and cases of one patient by how they are called.
#[test]
fn copies_and_patients_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let root = fixture::write_nnunet(folder.path(), 3);
    let file = |name: &str| root.join(name);
    for name in ["imagesTr/case_02_0000.nii.gz", "imagesTr/case_02_0001.nii.gz", "labelsTr/case_02.nii.gz"] {
        let from = file(&name.replace("_02", "_00"));
        fs::copy(from, file(name)).unwrap();
        // Packed anew.
        let before = fs::read(file(name)).unwrap();
        fixture::edit(&file(name), |_| {});
        assert_ne!(before, fs::read(file(name)).unwrap());
    }
    let findings = check::check_folder(&root);
    let said: Vec<_> =
        findings.iter().map(|found| (found.severity, found.case.as_str(), found.problem.as_str())).collect();
    let ct = "channel 1 (ct) has no voxel below 0 in any case: these are no Hounsfield units";
    assert_eq!(
        said,
        [(Severity::Fault, "case_02", "the same voxels and labels as case_00"), (Severity::Warning, "", ct)]
    );

    // A channel twice.
    fs::copy(file("imagesTr/case_01_0000.nii.gz"), file("imagesTr/case_01_0001.nii.gz")).unwrap();
    let problems: Vec<String> = check::check_folder(&root).into_iter().map(|finding| finding.problem).collect();
    assert!(problems.contains(&"channel 1 has the same voxels as channel 0".to_owned()), "{problems:?}");

    for (names, group) in [
        (["P1_pre", "P1_post", "P2"], Some("^(.+)[-_](?i:pre|post")),
        (["sub-1_ses-1", "sub-1_ses-2_T1", "sub-2_ses-1"], Some("^(.+?)[-_](?i:ses|")),
        (["P1_1", "P1_2", "P2_1"], Some("`group = \"^(.+)[-_][0-9]+$\"`")),
        (["case_1", "case_2", "case_3"], None),
        (["a", "b", "c"], None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = fixture::write_msd(folder.path(), 3);
        let mut description = fixture::read_description(&root);
        for (case, name) in names.into_iter().enumerate() {
            for part in ["imagesTr", "labelsTr"] {
                let [old, new] =
                    [fixture::id(case).as_str(), name].map(|name| root.join(format!("{part}/{name}.nii.gz")));
                fs::rename(old, new).unwrap();
            }
            let file = |part: &str| format!("{part}/{name}.nii.gz");
            description["training"][case] = json!({"image": file("imagesTr"), "label": file("labelsTr")});
        }
        fixture::write_description(&root, &description);
        let findings = check::check_folder(&root);
        let cures: Vec<&str> = findings.iter().map(|finding| finding.cure.as_str()).collect();
        match group {
            Some(group) => assert!(cures.len() == 1 && cures[0].contains(group), "{cures:?}"),
            None => assert!(cures.is_empty(), "{cures:?}"),
        }
        // Where it is said who is whose, there is nothing to suspect; what it leaves open is named.
        let asked = |group: &str| {
            check::examine(&root, &Asked { group: group.into(), ..Asked::default() }, &|_, _| {}).findings
        };
        assert_eq!(asked("^[a-zA-Z0-9]+"), []);
        description["groups"] = json!({ names[0]: "one", names[1]: "one", "nobody": "two" });
        fixture::write_description(&root, &description);
        let problems: Vec<String> = check::check_folder(&root).into_iter().map(|finding| finding.problem).collect();
        let of = format!("dataset.json names no patient of {}", names[2]);
        assert_eq!(problems, [of, "names nobody, which the dataset has not".into()]);
    }
}

/// The line to paste: for classes that those cases lack, in order; else for the background.
#[test]
fn a_remap_is_offered_where_it_can_be_told() {
    for (values, cure) in [
        ([0, 127, 255], "if 127 is large and 255 is small, write `remap = { 127 = 1, 255 = 2 }` under [data]"),
        ([0, 1, 255], "if 255 is small, write `remap = { 255 = 2 }` under [data]"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = fixture::write_msd(folder.path(), 2);
        for case in 0..2 {
            let labels = fixture::label_array(case).mapv(|label| values[usize::from(label)]);
            fixture::write_labels(
                &root.join(format!("labelsTr/{}.nii.gz", fixture::id(case))),
                &labels,
                &fixture::geometry(),
            );
        }
        let findings = check::check_folder(&root);
        let of_case = findings.iter().filter(|finding| !finding.case.is_empty());
        assert!(
            of_case.clone().count() == 2 && of_case.clone().all(|finding| finding.cure.starts_with(cure)),
            "{findings:?}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let root = fixture::write_msd(folder.path(), 2);
    let mut labels = fixture::label_array(1);
    labels[[0, 0, 0]] = 7;
    fixture::write_labels(&root.join("labelsTr/case_01.nii.gz"), &labels, &fixture::geometry());
    let findings = check::check_folder(&root);
    assert!(
        findings.len() == 1 && findings[0].cure.contains("if 7 is background, write `remap = { 7 = 0 }`"),
        "{findings:?}"
    );
}

#[test]
fn a_channel_on_another_grid_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = fixture::write_nnunet(folder.path(), 2);
    let mut shifted = fixture::geometry();
    shifted.affine[1][3] -= 0.75;
    fixture::write_image(&root.join("imagesTr/case_01_0001.nii.gz"), &fixture::image_array(1, 1), &shifted);
    let dataset = Dataset::open(&root).unwrap();
    let mut findings = check::check(&dataset);
    findings.retain(|finding| finding.severity == Severity::Fault);
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
