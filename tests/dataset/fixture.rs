//! Small datasets written by formula, for the tests of datasets and of the prepared store.
#![allow(dead_code, reason = "each test program uses its part")]
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ndarray::Array3;
use voxfit::volume::{self, Geometry, NativeGrid};

/// Voxels x, y, z and mm of the cases written here.
pub const SIZE: [usize; 3] = [9, 8, 7];
pub const SPACING: [f64; 3] = [1.0, 1.5, 2.0];

/// Intensity of channel `channel` of case `case`, 0 in the outermost layer.
pub fn intensity(case: usize, channel: usize, [x, y, z]: [usize; 3]) -> f32 {
    let [width, height, depth] = SIZE;
    if x == 0 || y == 0 || z == 0 || x + 1 == width || y + 1 == height || z + 1 == depth {
        return 0.0;
    }
    (1 + (x * 7 + y * 13 + z * 29 + channel * 31 + case * 17) % 101) as f32
}

/// Label of case `case`: class 1 in a box, class 2 in a smaller one.
pub fn label(case: usize, [x, y, z]: [usize; 3]) -> u16 {
    match (x, y, z) {
        (2..=3, 2..=5, 2..=4) => 1,
        (5, 2..=3, 2..) if z < 4 + case % 2 => 2,
        _ => 0,
    }
}

pub fn image_array(case: usize, channel: usize) -> Array3<f32> {
    let [x, y, z] = SIZE;
    Array3::from_shape_fn((z, y, x), |(z, y, x)| intensity(case, channel, [x, y, z]))
}

/// The labels of `case` without the outermost layer, in which the image is 0.
pub fn cropped_label_array(case: usize) -> Array3<u16> {
    let [x, y, z] = SIZE;
    label_array(case).slice(ndarray::s![1..z - 1, 1..y - 1, 1..x - 1]).to_owned()
}

pub fn label_array(case: usize) -> Array3<u16> {
    let [x, y, z] = SIZE;
    Array3::from_shape_fn((z, y, x), |(z, y, x)| label(case, [x, y, z]))
}

pub fn geometry() -> Geometry {
    Geometry::new(SIZE, SPACING)
}

pub fn write_image(path: &Path, data: &Array3<f32>, geometry: &Geometry) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    volume::write_image(path, data.view(), &NativeGrid::from_geometry(geometry)).unwrap();
}

pub fn write_labels(path: &Path, data: &Array3<u16>, geometry: &Geometry) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    volume::write_labels(path, data.view(), &NativeGrid::from_geometry(geometry)).unwrap();
}

/// The case's name.
pub fn id(case: usize) -> String {
    format!("case_{case:02}")
}

/// An MSD dataset of single-channel cases 0..count.
pub fn write_msd(root: &Path, count: usize) -> PathBuf {
    let mut training = Vec::new();
    // Listed backwards: the order of the list must not matter.
    for case in (0..count).rev() {
        let (image, label) = (format!("imagesTr/{}.nii.gz", id(case)), format!("labelsTr/{}.nii.gz", id(case)));
        write_image(&root.join(&image), &image_array(case, 0), &geometry());
        write_labels(&root.join(&label), &label_array(case), &geometry());
        training.push(serde_json::json!({"image": format!("./{image}"), "label": format!("./{label}")}));
    }
    let description = serde_json::json!({
        "name": "Boxes",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "large", "2": "small"},
        "numTraining": count,
        "training": training,
        "test": [],
    });
    write_description(root, &description);
    root.to_path_buf()
}

/// An nnU-Net dataset of two-channel cases 0..count.
pub fn write_nnunet(root: &Path, count: usize) -> PathBuf {
    for case in 0..count {
        for channel in 0..2 {
            let image = root.join(format!("imagesTr/{}_{channel:04}.nii.gz", id(case)));
            write_image(&image, &image_array(case, channel), &geometry());
        }
        write_labels(&root.join(format!("labelsTr/{}.nii.gz", id(case))), &label_array(case), &geometry());
    }
    let description = serde_json::json!({
        "channel_names": {"0": "T1", "1": "ct"},
        "labels": {"background": 0, "small": 2, "large": 1, "ignore": 3},
        "numTraining": count,
        "file_ending": ".nii.gz",
    });
    write_description(root, &description);
    root.to_path_buf()
}

/// Makes every volume of a dataset in nnU-Net's layout a pair of `.hdr` and `.img`.
pub fn into_pairs(root: &Path) {
    for folder in ["imagesTr", "labelsTr"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let mut content = Vec::new();
            flate2::read::GzDecoder::new(&fs::read(&path).unwrap()[..]).read_to_end(&mut content).unwrap();
            let (header, voxels) = content.split_at_mut(352);
            header[108..112].fill(0);
            header[344..348].copy_from_slice(b"ni1\0");
            let name = path.file_name().unwrap().to_str().unwrap().trim_end_matches(".nii.gz").to_owned();
            fs::write(path.with_file_name(format!("{name}.hdr")), &header).unwrap();
            fs::write(path.with_file_name(format!("{name}.img")), &voxels).unwrap();
            fs::remove_file(path).unwrap();
        }
    }
}

pub fn write_description(root: &Path, description: &serde_json::Value) {
    fs::create_dir_all(root).unwrap();
    fs::write(root.join("dataset.json"), description.to_string()).unwrap();
}

pub fn read_description(root: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(root.join("dataset.json")).unwrap()).unwrap()
}

/// A 4D NIfTI-1 file of f32 (348 bytes of header, 4 of extension flag, then the voxels, x fastest).
pub fn write_4d(path: &Path, channels: &[Array3<f32>], spacing: [f64; 3]) {
    let mut bytes = vec![0_u8; 352];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let (z, y, x) = channels[0].dim();
    put(0, &348_i32.to_le_bytes());
    for (index, value) in [4, x, y, z, channels.len(), 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * index, &(value as i16).to_le_bytes());
    }
    put(70, &16_i16.to_le_bytes());
    put(72, &32_i16.to_le_bytes());
    for (index, value) in [1.0, spacing[0], spacing[1], spacing[2], 1.0].into_iter().enumerate() {
        put(76 + 4 * index, &(value as f32).to_le_bytes());
    }
    put(108, &352_f32.to_le_bytes());
    put(112, &1_f32.to_le_bytes());
    put(123, &[2]);
    put(254, &1_i16.to_le_bytes());
    for (axis, mm) in spacing.into_iter().enumerate() {
        put(280 + 16 * axis + 4 * axis, &(mm as f32).to_le_bytes());
    }
    put(344, b"n+1\0");
    for channel in channels {
        channel.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Rewrites the bytes of a `.nii.gz`, packed less than before.
pub fn edit(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    edit(&mut bytes);
    let mut packed = GzEncoder::new(Vec::new(), Compression::none());
    packed.write_all(&bytes).unwrap();
    fs::write(path, packed.finish().unwrap()).unwrap();
}

/// The folder of real volumes with this dataset, or None, said on the screen.
pub fn real(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("VOXFIT_VOLUMES").map(|root| PathBuf::from(root).join(name));
    let found = folder.filter(|folder| folder.join("dataset.json").is_file());
    if found.is_none() {
        eprintln!("skipped: $VOXFIT_VOLUMES/{name} is not there");
    }
    found
}
