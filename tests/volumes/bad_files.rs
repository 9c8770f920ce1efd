//! Every fault is refused in one sentence that names the file, the field and the cure; nothing panics or allocates.
use std::path::Path;

use ndarray::Array3;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use voxfit::volume::{Geometry, NativeGrid, VolumeError, first_non_finite, read_channels, read_header, read_image};
use voxfit::volume::{read_labels, write_labels};

use crate::raw::{Raw, file, gzip};

/// The message names the file, starts with `field` after it, and holds `words` (of the problem and the cure).
fn assert_says(error: &VolumeError, path: &Path, field: &str, words: &[&str]) {
    let message = error.to_string();
    let start = format!("{}: {field}: ", path.display());
    assert!(message.starts_with(&start), "{message:?} does not start with {start:?}");
    for word in words {
        assert!(message.contains(word), "{message:?} does not hold {word:?}");
    }
    assert!(!message.contains('\n'), "{message:?} is more than a line");
    assert!(message.contains("; "), "{message:?} names no cure");
}

fn assert_refused(bytes: &[u8], field: &str, words: &[&str]) {
    for (name, bytes) in [("case.nii", bytes.to_vec()), ("case.nii.gz", gzip(bytes))] {
        let (_folder, path) = file(name, &bytes);
        assert_says(&read_image(&path).unwrap_err(), &path, field, words);
    }
}

fn changed(change: impl Fn(&mut Raw)) -> Vec<u8> {
    let mut raw = Raw::new();
    change(&mut raw);
    raw.bytes()
}

#[test]
fn the_unchanged_file_is_read() {
    let (_folder, path) = file("case.nii", &Raw::new().bytes());
    assert_eq!(read_image(&path).unwrap().data.as_slice().unwrap()[..3], [0.0, 1.0, 2.0]);
}

#[test]
fn header_fields_are_checked() {
    assert_refused(&changed(|raw| raw.magic = *b"nope"), "magic", &["nope", "n+1", "ANALYZE"]);
    assert_refused(&changed(|raw| raw.magic = *b"ni1\0"), "magic", &[".img", "one file"]);
    assert_refused(&changed(|raw| raw.sizeof_hdr = 349), "sizeof_hdr", &["349", "348", "540"]);
    assert_refused(&changed(|raw| raw.dim[0] = 1), "dim[0]", &["1 dimensions"]);
    assert_refused(&changed(|raw| raw.dim[0] = 8), "dim[0]", &["8 dimensions"]);
    assert_refused(&changed(|raw| raw.dim[0] = -3), "dim[0]", &["-3"]);
    assert_refused(&changed(|raw| raw.dim[2] = 0), "dim[2]", &["0 voxels"]);
    assert_refused(&changed(|raw| raw.dim[3] = -2), "dim[3]", &["-2 voxels"]);
    assert_refused(&changed(|raw| raw.bitpix = 8), "bitpix", &["8 bits", "int16 has 16"]);
    assert_refused(&changed(|raw| raw.vox_offset = 100.0), "vox_offset", &["100", "352"]);
    assert_refused(&changed(|raw| raw.vox_offset = f64::NAN), "vox_offset", &["NaN"]);
    assert_refused(&changed(|raw| raw.vox_offset = -352.0), "vox_offset", &["-352"]);
    assert_refused(&changed(|raw| raw.scl = [2.0, f64::INFINITY]), "scl_inter", &["inf", "intercept"]);
}

#[test]
fn types_that_are_no_real_number_are_refused_by_name() {
    for (code, name) in [
        (32, "complex64"),
        (1792, "complex128"),
        (2048, "complex256"),
        (128, "RGB24"),
        (2304, "RGBA32"),
        (1536, "float128"),
        (1, "binary"),
        (0, "unknown"),
        (77, "NIfTI standard"),
    ] {
        assert_refused(&changed(|raw| raw.datatype = code), "datatype", &[name]);
    }
}

#[test]
fn spacing_and_placement_are_checked() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_refused(&changed(|raw| raw.pixdim[3] = bad), "pixdim[3]", &["spacing", "mm"]);
    }
    assert_refused(&changed(|raw| raw.srow[1][3] = f64::NAN), "srow_y[3]", &["NaN", "sform_code"]);
    assert_refused(&changed(|raw| raw.srow[0][0] = f64::INFINITY), "srow_x[0]", &["inf", "sform_code"]);
    assert_refused(&changed(|raw| raw.srow[1][1] = 0.0), "srow_x, srow_y, srow_z", &["spacing of 0 along y"]);
    let twice = changed(|raw| raw.srow[1] = [2.0, 0.0, 0.0, 0.0]);
    assert_refused(&twice, "srow_x, srow_y, srow_z", &["spacing of 0 along y"]);
    let singular = changed(|raw| raw.srow = [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
    assert_refused(&singular, "srow_x, srow_y, srow_z", &["singular"]);
    let quaternion = |change: fn(&mut Raw)| {
        changed(|raw| {
            raw.sform_code = 0;
            change(raw);
        })
    };
    assert_refused(&quaternion(|raw| raw.quatern = [0.9, 0.9, 0.0]), "quatern_b", &["unit quaternion", "qform_code"]);
    assert_refused(&quaternion(|raw| raw.quatern[2] = f64::NAN), "quatern_d", &["NaN"]);
    assert_refused(&quaternion(|raw| raw.qoffset[1] = f64::NAN), "qoffset_y", &["NaN"]);
}

#[test]
fn sizes_beyond_the_file_are_refused_without_allocating() {
    let huge = changed(|raw| raw.dim[1..4].fill(32767));
    assert_refused(&huge, "dim", &["header asks for 70362301923678 bytes"]);
    assert_refused(
        &changed(|raw| raw.dim = [7, 32767, 32767, 32767, 32767, 32767, 32767, 32767]),
        "dim",
        &["any memory"],
    );
    let mut second = Raw::new().second_version();
    second.dim[1..4].fill(i64::MAX);
    assert_refused(&second.bytes(), "dim", &["any memory"]);
    second.dim = [3, 4, 3, 2, 1, 1, 1, 1];
    second.vox_offset = 4e15;
    assert_refused(&second.bytes(), "vox_offset", &["asks for 4000000000000000"]);
    assert_refused(&changed(|raw| raw.vox_offset = 1e15), "vox_offset", &["header asks for"]);
}

#[test]
fn files_cut_short_are_refused() {
    let whole = Raw::new().bytes();
    for length in [0, 3, 100, 347] {
        let words: &[&str] = &["again"];
        let (_folder, path) = file("case.nii", &whole[..length]);
        assert_says(&read_image(&path).unwrap_err(), &path, "header", words);
    }
    let (_folder, path) = file("case.nii", &whole[..whole.len() - 1]);
    assert_says(&read_header(&path).unwrap_err(), &path, "dim", &["400 bytes", "399", "again"]);

    let mut noise = Raw::new();
    noise.dim[1..4].fill(20);
    noise.values = (0..8000u32).map(|index| f64::from(index.wrapping_mul(2_654_435_761) >> 18)).collect();
    let packed = gzip(&noise.bytes());
    for length in [packed.len() / 2, packed.len() - 9, packed.len() - 1] {
        let (_folder, path) = file("case.nii.gz", &packed[..length]);
        assert_says(&read_image(&path).unwrap_err(), &path, "gzip stream", &["ends early", "again"]);
    }
    // A file that was cut and then packed is whole as gzip and short as a volume.
    let (_folder, path) = file("case.nii.gz", &gzip(&noise.bytes()[..9000]));
    assert_says(&read_image(&path).unwrap_err(), &path, "voxel data", &["9000 bytes", "again"]);
}

#[test]
fn damaged_gzip_is_refused() {
    let mut packed = gzip(&Raw::new().bytes());
    let check_sum = packed.len() - 8;
    packed[check_sum] ^= 1;
    let (_folder, path) = file("case.nii.gz", &packed);
    assert_says(&read_image(&path).unwrap_err(), &path, "gzip stream", &["damaged", "again"]);
}

#[test]
fn other_formats_are_refused_with_their_converter() {
    for (name, words) in [
        ("case.dcm", ["DICOM", "dcm2niix"]),
        ("case.nrrd", ["NRRD", "Slicer"]),
        ("case.mha", ["MetaImage", "SimpleITK"]),
        ("case.MHD", ["MetaImage", "SimpleITK"]),
        ("case.mgz", ["FreeSurfer", "mri_convert"]),
    ] {
        let (_folder, path) = file(name, b"anything");
        assert_says(&read_image(&path).unwrap_err(), &path, "format", &words);
    }
    let mut dicom = vec![0; 400];
    dicom[128..132].copy_from_slice(b"DICM");
    assert_refused(&dicom, "format", &["DICOM", "dcm2niix"]);
    assert_refused(b"NRRD0004\n", "format", &["NRRD"]);
    assert_refused(&b"<!DOCTYPE html><title>Not found</title>".repeat(20), "sizeof_hdr", &["not a NIfTI file"]);
}

#[test]
fn several_volumes_are_channels_not_an_image() {
    let mut raw = Raw::new();
    raw.dim = [4, 4, 3, 2, 2, 1, 1, 1];
    raw.values = (0..48).map(f64::from).collect();
    assert_refused(&raw.bytes(), "dim[4]", &["4D volume of 2 volumes", "dataset.json"]);
    let mut vectors = raw.clone();
    vectors.dim = [5, 4, 3, 2, 1, 2, 1, 1];
    assert_refused(&vectors.bytes(), "dim[5]", &["of 2 volumes"]);
    let (_folder, path) = file("case.nii", &raw.bytes());
    assert_eq!(read_header(&path).unwrap().volumes, 2);
    let (data, geometry, native) = read_channels(&path).unwrap();
    assert_eq!(data.dim(), (2, 2, 3, 4));
    assert_eq!((data[[1, 0, 0, 0]], data[[1, 1, 2, 3]]), (24.0, 47.0));
    assert_eq!(geometry.size, [4, 3, 2]);
    // A label map of one volume goes back on the grid.
    let out = path.with_file_name("out.nii");
    write_labels(&out, Array3::ones((2, 3, 4)).view(), &native).unwrap();
    assert_eq!(read_labels(&out).unwrap().geometry, geometry);
}

#[test]
fn values_that_are_no_labels_are_named_with_their_voxel() {
    let labels = |value: f64| {
        let mut raw = Raw::new();
        (raw.datatype, raw.bitpix) = (64, 64);
        // The file's x runs to the left: its voxel (1, 2, 0) is (2, 2, 0) in RAS.
        raw.srow[0][0] = -1.0;
        raw.values[1 + 4 * 2] = value;
        let (folder, path) = file("labels.nii", &raw.bytes());
        (folder, path.clone(), read_labels(&path))
    };
    for (value, shown) in [(1.5, "1.5"), (-1.0, "-1"), (65536.0, "65536"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let (_folder, path, result) = labels(value);
        assert_says(&result.unwrap_err(), &path, "voxel (2, 2, 0)", &[shown, "whole numbers", "nearest"]);
    }
    assert_eq!(labels(65535.0).2.unwrap().data[[0, 2, 2]], 65535);
    assert_eq!(labels(-0.0).2.unwrap().data[[0, 2, 2]], 0);
}

#[test]
fn values_that_are_not_finite_are_kept_and_found() {
    let mut raw = Raw::new();
    (raw.datatype, raw.bitpix) = (16, 32);
    raw.values[3 + 4 + 12] = f64::NAN;
    let (_folder, path) = file("case.nii", &raw.bytes());
    let image = read_image(&path).unwrap();
    assert_eq!(first_non_finite(image.data.view()), Some([3, 1, 1]));
    raw.values[19] = 0.0;
    std::fs::write(&path, raw.bytes()).unwrap();
    assert_eq!(first_non_finite(read_image(&path).unwrap().data.view()), None);
}

#[test]
fn the_file_system_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.nii.gz");
    let error = read_image(&missing).unwrap_err();
    assert!(matches!(&error, VolumeError::Io { path, .. } if *path == missing), "{error:?}");
    assert_says(&read_image(folder.path()).unwrap_err(), folder.path(), "file", &["a folder"]);

    let native = NativeGrid::from_geometry(&Geometry::new([2, 2, 2], [1.0; 3]));
    let labels = Array3::<u16>::zeros((2, 2, 2));
    // A file stands where the folder should be.
    let blocker = folder.path().join("blocker");
    std::fs::write(&blocker, b"").unwrap();
    let error = write_labels(&blocker.join("out.nii.gz"), labels.view(), &native).unwrap_err();
    assert!(matches!(error, VolumeError::Io { .. }), "{error:?}");
    let other = folder.path().join("out.mha");
    assert_says(&write_labels(&other, labels.view(), &native).unwrap_err(), &other, "file name", &[".nii.gz"]);
    let out = folder.path().join("out.nii");
    let larger = Array3::<u16>::zeros((2, 2, 3));
    assert_says(&write_labels(&out, larger.view(), &native).unwrap_err(), &out, "size", &["3 x 2 x 2", "2 x 2 x 2"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
}

/// A folder that takes no file, whoever asks.
#[cfg(target_os = "linux")]
#[test]
fn folder_that_takes_no_file_is_an_error_with_the_path() {
    let native = NativeGrid::from_geometry(&Geometry::new([2, 2, 2], [1.0; 3]));
    for path in ["/proc/out.nii.gz", "/proc/voxfit/out.nii"].map(Path::new) {
        let error = write_labels(path, Array3::<u16>::zeros((2, 2, 2)).view(), &native).unwrap_err();
        assert!(matches!(&error, VolumeError::Io { path: named, .. } if named == path), "{error:?}");
    }
}

#[test]
fn any_two_bytes_of_a_header_may_be_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.nii");
    let mut runner = TestRunner::new(Config { cases: 4000, failure_persistence: None, ..Config::default() });
    let damage = (any::<bool>(), [(0usize..544, any::<u8>()), (0usize..544, any::<u8>())]);
    runner
        .run(&damage, |(second, changes)| {
            let raw = if second { Raw::new().second_version() } else { Raw::new() };
            let mut bytes = raw.bytes();
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            std::fs::write(&path, &bytes)?;
            match read_channels(&path) {
                Ok((data, geometry, native)) => {
                    prop_assert!(data.len() <= bytes.len());
                    prop_assert!(geometry.affine.iter().flatten().all(|value| value.is_finite()));
                    prop_assert_eq!(native.array_shape(), [geometry.size[2], geometry.size[1], geometry.size[0]]);
                }
                Err(error) => prop_assert!(error.to_string().starts_with(&path.display().to_string())),
            }
            Ok(())
        })
        .unwrap();
}
