//! Files made by nibabel 5 and what nibabel reads from them.
//!
//! ```python
//! def vals(s): i, j, k = np.meshgrid(*[np.arange(n) for n in s], indexing="ij"); return (i*7919 + j*104729 + k*1299709) % 1000
//! A = np.array([[0, 0, -3.0, 40], [-1.5, 0, 0, 10], [0, 2, 0, -7], [0, 0, 0, 1]])
//! c = nib.as_closest_canonical(nib.Nifti1Image(vals((4, 3, 2)).astype(np.int16), A))
//! c.affine, np.asarray(c.dataobj).transpose(2, 1, 0).ravel()
//! ```
use voxfit::volume::{read_header, read_image, read_labels, write_labels};

use crate::raw::{Raw, file};

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// `vals((4, 3, 2))` in the file's order.
fn values() -> Vec<f64> {
    (0..24u32)
        .map(|index| f64::from(((index % 4) * 7919 + index / 4 % 3 * 104_729 + index / 12 * 1_299_709) % 1000))
        .collect()
}

/// `gzip.compress(bytes, 9, mtime=0)` of a big-endian int16 `Nifti1Image(vals((4, 3, 2)), A)` with slope 0.5 and
/// intercept -10 set in its bytes.
const BIG_ENDIAN: &str = "1f8b08000000000002036360608c6120063033b0003113032314a2021606010606fb06203ec0c0e00014707080f291b0f306200d943ba8c030580013c83dfba1d809e82e47203ef000a1e08003447cff01849823d4fd0e30350f300dced3368405dc746637a6af4c37993a98cc199f319e62ac64d460b8ce7494a9844999f112e336c654461186c30ccb19c2185899e70000615dbd3990010000";

/// The same of a uint8 `Nifti2Image(vals((4, 3, 2)).astype("u1"), A)`.
const SECOND_VERSION: &str = "1f8b080000000000020393616260c8d33662e0e592e26262e0606066800016280de33341694602347ef0c11e42ff80d20c0e108ac301551e935660c266cee00608273fb08784cf83fd301a22ee02f5b70a94963980dd248e03a8ea7fecc7ae0e660e1ca0f171998f074c77fb7ab3c3fcd9a94a8deb474b942f6d4b1539bc3c8c750e00a123487a38020000";

const AFFINE: [[f64; 4]; 3] = [[3.0, 0.0, 0.0, 37.0], [0.0, 1.5, 0.0, 5.5], [0.0, 0.0, 2.0, -7.0]];
/// The first values of the canonical volume, x fastest.
const CANONICAL: [f64; 10] = [466.0, 757.0, 547.0, 838.0, 628.0, 919.0, 709.0, 0.0, 195.0, 486.0];

#[test]
fn big_endian_scaled_and_permuted() {
    let (_folder, path) = file("case.nii.gz", &unhex(BIG_ENDIAN));
    let header = read_header(&path).unwrap();
    assert_eq!((header.dtype, header.volumes), ("int16", 1));
    let image = read_image(&path).unwrap();
    assert_eq!(image.geometry.size, [2, 4, 3]);
    assert_eq!(image.geometry.affine, AFFINE);
    let found: Vec<f64> = image.data.iter().take(10).map(|value| f64::from(*value)).collect();
    assert_eq!(found, CANONICAL.map(|value| 0.5 * value - 10.0));
}

#[test]
fn second_version_is_read_and_written_back() {
    let (_folder, path) = file("case.nii.gz", &unhex(SECOND_VERSION));
    let labels = read_labels(&path).unwrap();
    assert_eq!(labels.geometry.affine, AFFINE);
    let found: Vec<f64> = labels.data.iter().take(10).map(|value| f64::from(*value)).collect();
    assert_eq!(found, CANONICAL.map(|value| value % 256.0));
    // nibabel's own header of this file differs in no byte from ours, except in text it has none of either.
    let out = path.with_file_name("out.nii");
    write_labels(&out, labels.data.view(), &labels.native).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), crate::raw::gunzip(&unhex(SECOND_VERSION)));
}

#[test]
fn oblique_axes_go_to_their_closest() {
    // The affine is float32(Rx(30) @ Ry(-50) @ Rz(35) @ diag(-1, 1, 1) @ diag(0.8, 1.2, 5)), angles in degrees.
    let mut raw = Raw::new();
    raw.values = values();
    raw.srow = [
        [-0.4212326407432556, -0.442425400018692, -3.8302221298217773, 12.5],
        [-0.1463826596736908, 1.114918828010559, -1.6069689989089966, -33.0],
        [-0.6641800999641418, 0.03486889600753784, 2.7833518981933594, 7.25],
    ];
    let expected = [
        [3.8302221298217773, -0.442425400018692, 0.4212326407432556, 7.406079947948456],
        [1.6069689989089966, 1.114918828010559, 0.1463826596736908, -35.04611697793007],
        [-2.7833518981933594, 0.03486889600753784, 0.6641800999641418, 8.040811598300934],
    ];
    assert_canonical(&raw, [2, 3, 4], expected, [466.0, 757.0, 195.0, 486.0, 924.0, 215.0, 547.0, 838.0, 276.0, 567.0]);
}

#[test]
fn qform_is_nibabels() {
    // hdr.get_best_affine() of pixdim [-1, 1.5, 2, 2.5], quatern (0.25, -0.5, 0.125), qoffset (1, -2, 3), then canonical.
    let mut raw = Raw::new();
    raw.values = values();
    raw.sform_code = 0;
    raw.pixdim[..4].copy_from_slice(&[-1.0, 1.5, 2.0, 2.5]);
    raw.quatern = [0.25, -0.5, 0.125];
    raw.qoffset = [1.0, -2.0, 3.0];
    let expected = [
        [1.8929495388443751, -0.909839907768875, 0.703125, 1.0],
        [1.3370997694221876, 1.6875, -0.06762006917334372, -2.0],
        [-0.9375, 0.56967981553775, 1.323269723306625, 3.0],
    ];
    assert_canonical(&raw, [2, 3, 4], expected, [0.0, 709.0, 729.0, 438.0, 458.0, 167.0, 919.0, 628.0, 648.0, 357.0]);
}

fn assert_canonical(raw: &Raw, size: [usize; 3], affine: [[f64; 4]; 3], start: [f64; 10]) {
    let (_folder, path) = file("case.nii", &raw.bytes());
    let image = read_image(&path).unwrap();
    assert_eq!(image.geometry.size, size);
    for (found, expected) in image.geometry.affine.iter().flatten().zip(affine.iter().flatten()) {
        assert!((found - expected).abs() < 1e-12, "{:?} is not {affine:?}", image.geometry.affine);
    }
    let found: Vec<f64> = image.data.iter().take(10).map(|value| f64::from(*value)).collect();
    assert_eq!(found, start);
}

#[test]
fn pixdim_alone_is_the_standards_method_one() {
    let mut raw = Raw::new();
    (raw.sform_code, raw.qform_code) = (0, 0);
    let (_folder, path) = file("case.nii", &raw.bytes());
    let expected = [[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]];
    assert_eq!(read_header(&path).unwrap().geometry.affine, expected);
}

#[test]
fn metres_and_micrometres_become_mm() {
    // In metres and micrometres the file's own numbers are others, so that the spacing is one that is read.
    for (units, unit, numbers) in [(1, 1e3, 0.015625), (2, 1.0, 1.0), (3, 1e-3, 64.0), (0, 1.0, 1.0)] {
        let mut raw = Raw::new();
        raw.units = units;
        raw.srow.iter_mut().flatten().for_each(|value| *value *= numbers);
        let factor = unit * numbers;
        let (_folder, path) = file("case.nii", &raw.bytes());
        let header = read_header(&path).unwrap();
        let expected = [factor, 2.0 * factor, 3.0 * factor];
        for (found, expected) in header.geometry.spacing().iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 1e-12, "{units}: {found}");
        }
        // The file's own numbers go back unchanged.
        let out = path.with_file_name("out.nii");
        write_labels(&out, read_labels(&path).unwrap().data.view(), &header.native).unwrap();
        let written = nifti::NiftiHeader::from_file(&out).unwrap();
        assert_eq!((i32::from(written.xyzt_units), written.srow_z[2]), (units, 3.0 * numbers as f32));
    }
}
