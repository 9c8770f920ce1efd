//! NIfTI files, plain and packed.
use std::path::Path;

use ndarray::Array3;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use voxfit::dataset::Case;
use voxfit::dataset::prepare::{self, Preparation};
use voxfit::volume::normalise::Normalisation;
use voxfit::volume::{Geometry, NativeGrid, write_image, write_labels};
use voxfit::volume::{read_channels, read_header, read_image, read_labels, read_pieces};

use crate::allocation::{alone, measured};
use crate::common::{Lab, put};
use crate::damage::{fuzz, run};
use crate::raw::{Raw, TYPES, file, gzip};

/// Bytes that reading a file of some kilobytes may take: buffers, a piece of planes, and what gzip can make of it.
const MOST: usize = 32 << 20;

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, (datatype, bitpix)) in TYPES.into_iter().enumerate() {
        let mut raw = Raw::new();
        (raw.datatype, raw.bitpix, raw.big_endian) = (datatype, bitpix, number % 2 == 1);
        if number % 3 == 0 {
            (raw.sform_code, raw.qform_code) = (0, number as i32 % 2);
        }
        if number % 4 == 3 {
            raw.dim = [4, 4, 3, 1, 2, 1, 1, 1];
        }
        seeds.push(if number % 2 == 0 { raw.bytes() } else { raw.clone().second_version().bytes() });
    }
    seeds
}

/// Everything that reads a volume, on the file at `path`.
fn read(path: &Path) -> TestCaseResult {
    let (result, peak) = measured(|| {
        let header = read_header(path);
        let (image, labels) = (read_image(path), read_labels(path));
        let channels = read_channels(path);
        if let Ok(header) = &header {
            let spacing = header.geometry.spacing();
            let known = header.native.size();
            prop_assert!((0..3).all(|axis| known[axis] > 0), "{known:?}");
            prop_assert!(spacing.iter().all(|mm| mm.is_finite() && *mm > 0.0), "{spacing:?}");
            let _ = read_pieces(path, (header.volumes, header.native.array_shape()), |_, _, _| Ok(()));
        } else {
            prop_assert!(image.is_err() && labels.is_err() && channels.is_err());
        }
        // As predict does it, at a spacing that makes little of any volume.
        let preparation =
            Preparation { spacing: [50.0; 3], normalisation: vec![Normalisation::ZScore { nonzero: true }] };
        let _ = prepare::image(&[path.to_owned()], &preparation);
        for error in [header.err(), image.err(), labels.err(), channels.err()].into_iter().flatten() {
            let said = error.to_string();
            prop_assert!(said.starts_with(&path.display().to_string()) && said.contains("; "), "{said}");
        }
        Ok(())
    });
    result?;
    prop_assert!(peak <= MOST, "{peak} bytes were held");
    Ok(())
}

#[test]
fn damaged_volumes_are_read_or_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.nii");
    fuzz(3000, seeds(), &["n+1\0", "n+2\0", "\r\n\x1a\n"], |bytes| {
        std::fs::write(&path, bytes)?;
        read(&path)
    });
}

/// What is packed is damaged, or the packing.
#[test]
fn damaged_packed_volumes_are_read_or_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.nii.gz");
    fuzz(1500, seeds(), &[], |bytes| {
        std::fs::write(&path, gzip(bytes))?;
        read(&path)
    });
    fuzz(1500, seeds().iter().map(|bytes| gzip(bytes)).collect(), &["\x1f\u{8b}\x08"], |bytes| {
        std::fs::write(&path, bytes)?;
        read(&path)
    });
}

/// Fields by name at extremes, several at once.
#[test]
fn extreme_headers_are_read_or_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.nii");
    let size = || prop::sample::select(vec![-1i64, 0, 1, 2, 3, 4, 7, 300, 32767, 1 << 31, 1 << 40, i64::MAX]);
    let real = || {
        let odd = vec![0.0, -1.0, 1e-30, 0.01, 0.5, 1.0, 99.0, 1e4, 1e12, 1e38, 1e300, f64::NAN, f64::INFINITY];
        prop::sample::select(odd)
    };
    let (sizes, reals) =
        (prop::collection::vec((0usize..8, size()), 0..4), prop::collection::vec((0usize..40, real()), 0..5));
    run(
        2000,
        &(any::<bool>(), sizes, reals, 0usize..10, 0i32..4, any::<bool>()),
        |(second, sizes, reals, kind, code, pack)| {
            let mut raw = Raw::new();
            if second {
                raw = raw.second_version();
            }
            sizes.into_iter().for_each(|(axis, size)| raw.dim[axis] = size);
            (raw.datatype, raw.bitpix) = TYPES[kind];
            (raw.sform_code, raw.qform_code) = (code & 1, code >> 1);
            for (field, value) in reals {
                match field {
                    0..8 => raw.pixdim[field] = value,
                    8..20 => raw.srow[field / 4 - 2][field % 4] = value,
                    20..23 => raw.quatern[field - 20] = value,
                    23..26 => raw.qoffset[field - 23] = value,
                    26..28 => raw.scl[field - 26] = value,
                    28..30 => raw.vox_offset = value,
                    _ => raw.values[field - 30] = value,
                }
            }
            std::fs::write(&path, if pack { gzip(&raw.bytes()) } else { raw.bytes() })?;
            read(&path)
        },
    );
}

#[test]
fn spacings_of_no_patient_are_refused_by_name() {
    let _alone = alone();
    for spacing in [0.0099, 101.0, 1e-6, 1e6] {
        for axis in 0..3 {
            let mut raw = Raw::new();
            (raw.sform_code, raw.qform_code) = (0, 0);
            raw.pixdim[axis + 1] = spacing;
            let said = refused(&raw);
            assert!(said.contains(&format!("pixdim[{}]: ", axis + 1)) && said.contains("0.01 to 100"), "{said}");
            raw.sform_code = 1;
            raw.pixdim[axis + 1] = 1.0;
            raw.srow[axis][axis] = spacing;
            let said = refused(&raw);
            assert!(said.contains("srow_x") && said.contains(&format!("along {}", ["x", "y", "z"][axis])), "{said}");
        }
    }
    // In metres, 1 is 1000 mm.
    let mut raw = Raw::new();
    raw.units = 1;
    assert!(refused(&raw).contains("xyzt_units"));
    for spacing in [0.01, 100.0] {
        let mut raw = Raw::new();
        raw.srow[0][0] = spacing;
        let (_folder, path) = file("case.nii", &raw.bytes());
        assert!(read_header(&path).is_ok(), "{spacing}");
    }
}

fn refused(raw: &Raw) -> String {
    let (_folder, path) = file("case.nii", &raw.bytes());
    read_header(&path).unwrap_err().to_string()
}

/// 100 MB of zeros in 100 KB: before the voxels, after them, and as voxels that nobody has asked for.
#[test]
fn packed_zeros_are_not_unpacked_without_end() {
    let _alone = alone();
    let mut raw = Raw::new();
    let mut after = raw.bytes();
    after.resize(100 << 20, 0);
    let (_folder, path) = file("case.nii.gz", &gzip(&after));
    let (image, peak) = measured(|| read_image(&path));
    assert!(image.is_ok() && peak < 1 << 20, "{peak}");

    raw.vox_offset = f64::from(90 << 20);
    after[108..112].copy_from_slice(&(90f32 * (1 << 20) as f32).to_le_bytes());
    let (_folder, path) = file("case.nii.gz", &gzip(&after));
    let (image, peak) = measured(|| read_image(&path));
    assert!(image.is_ok() && peak < 1 << 20, "{peak}");

    // A file with holes may be of any length, and take as long to pass over.
    raw.vox_offset = f64::from(512 << 20);
    let (_folder, path) = file("case.nii", &raw.bytes()[..352]);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    let said = read_image(&path).unwrap_err().to_string();
    assert!(said.contains("vox_offset") && said.contains("before the first voxel"), "{said}");

    let members = gzip(b"").repeat(50_000);
    let (_folder, path) = file("case.nii.gz", &members);
    let (image, peak) = measured(|| read_image(&path));
    assert!(image.unwrap_err().to_string().contains("header") && peak < 1 << 20, "{peak}");
}

/// 24 voxels a side of 20 mm make 960 a side at half a millimetre: 12 GiB to prepare.
#[test]
fn what_resampling_takes_is_compared_with_the_budget_before_it_is_made() {
    let _alone = alone();
    let lab = Lab::new();
    for case in 1..=6 {
        for kind in ["images", "labels"] {
            lab.edit(&format!("data/{kind}Tr/phantom_{case:03}.nii.gz"), |file| {
                for axis in 0..3 {
                    put(file, 80 + 4 * axis, &20f32.to_le_bytes());
                    put(file, 280 + 20 * axis, &20f32.to_le_bytes());
                }
            });
        }
    }
    let fine = ["train", "c.toml", "--run", "r", "--set", "data.spacing=[0.5,0.5,0.5]"];
    let said = lab.failure(&[&fine[..], &["--memory", "1GiB"]].concat());
    assert!(said.contains("phantom_00") && said.contains("24x24x24 to 960x960x960 voxels"), "{said}");
    assert!(said.contains("left of the memory budget") && said.contains("data.spacing"), "{said}");
    assert!(!lab.path("r").exists());
    // At the plan's own spacing there is nothing to resample.
    lab.done(&["train", "c.toml", "--run", "r"]);
}

/// Of a single channel that grows, shrinks, keeps its grid or has one coarse axis, and of several channels: neither more than
/// was said, which might be refused, nor far less, which would keep cases waiting for no reason.
#[test]
fn what_preparing_holds_is_said_beforehand() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let size = [150, 140, 130];
    let geometry = Geometry::new(size, [1.0, 1.0, 1.5]);
    let native = NativeGrid::from_geometry(&geometry);
    let images: Vec<_> = (0..3).map(|channel| folder.path().join(format!("a_{channel:04}.nii.gz"))).collect();
    for (channel, path) in images.iter().enumerate() {
        let data =
            Array3::from_shape_fn((130, 140, 150), |(z, y, x)| (1 + (x * 7 + y * 5 + z * 3) % (50 + channel)) as f32);
        write_image(path, data.view(), &native).unwrap();
    }
    let label = folder.path().join("a.nii.gz");
    let labels = Array3::from_shape_fn((130, 140, 150), |(z, y, x)| u16::from(x + y + z > 300));
    write_labels(&label, labels.view(), &native).unwrap();
    for (spacing, channels) in [
        ([1.0, 1.0, 1.5], 1),
        ([0.8, 0.8, 0.8], 1),
        ([1.5, 1.2, 2.0], 1),
        ([1.0, 1.0, 4.0], 1),
        ([0.7, 0.7, 5.0], 1),
        ([1.2, 1.2, 1.2], 3),
        ([0.9, 0.9, 1.5], 3),
    ] {
        for nonzero in [false, true] {
            let normalisation = vec![Normalisation::ZScore { nonzero }; channels];
            let preparation = Preparation { spacing, normalisation };
            let case = Case { id: "a".into(), images: images[..channels].to_vec(), label: label.clone() };
            let said = prepare::bytes(&case.images, &preparation).unwrap() as f64;
            let (prepared, peak) = measured(|| prepare::case(&case, 2, None, &preparation).unwrap());
            drop(prepared);
            // A crop might have been copied, which a volume without a border of zeros is not.
            // Tables of labels, threads' lines and pieces that wait: 3 MiB, whatever the case.
            let share = (peak as f64 - f64::from(3 << 20)) / said;
            assert!(share < 1.0 && share > 0.55, "{spacing:?}, {channels}: {peak} bytes of {said}");
        }
    }
}
