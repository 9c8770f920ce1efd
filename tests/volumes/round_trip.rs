//! What is written is what was read, on the file's own grid, for any type, byte order, size and orientation.
use ndarray::Array3;
use nifti::{IntoNdArray, NiftiObject, ReaderOptions};
use proptest::prelude::*;
use voxfit::volume::{
    Geometry, GridDifference, NativeGrid, read_header, read_image, read_labels, write_image, write_labels,
};

use crate::raw::{Raw, TYPES, file, gunzip, gzip};

prop_compose! {
    /// A file of labels with any of the 48 orientations, some degrees oblique.
    fn files()(
        version in 1u8..=2,
        big_endian: bool,
        kind in 0usize..10,
        size in prop::array::uniform3(1i64..7),
        order in Just([0usize, 1, 2]).prop_shuffle(),
        flip in prop::array::uniform3(any::<bool>()),
        spacing in prop::array::uniform3(0.3f32..6.0),
        tilt in prop::array::uniform3(-0.2f32..0.2),
        origin in prop::array::uniform3(-200f32..200.0),
        scaled: bool,
        trailing in 0i64..3,
        seed: u32,
    ) -> Raw {
        let mut raw = Raw::new();
        if version == 2 {
            raw = raw.second_version();
        }
        raw.big_endian = big_endian;
        (raw.datatype, raw.bitpix) = TYPES[kind];
        raw.dim = [3 + trailing, size[0], size[1], size[2], 1, 1, 1, 1];
        raw.srow = [[0.0; 4]; 3];
        for axis in 0..3 {
            let sign = if flip[axis] { -1.0 } else { 1.0 };
            for row in 0..3 {
                let part = if row == order[axis] { 1.0 } else { tilt[(row + axis) % 3] };
                raw.srow[row][axis] = f64::from(sign * part * spacing[axis]);
            }
            raw.srow[axis][3] = f64::from(origin[axis]);
            raw.pixdim[axis + 1] = f64::from(spacing[axis]);
        }
        raw.scl = if scaled { [2.0, 1.0] } else { [0.0, 0.0] };
        raw.values = (0..size.iter().product::<i64>())
            .map(|index| f64::from((index as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 25))
            .collect();
        raw
    }
}

impl Raw {
    /// The value of the file's voxel (i, j, k) after scaling.
    fn value(&self, [i, j, k]: [usize; 3]) -> f64 {
        let stored = self.values[i + self.dim[1] as usize * (j + self.dim[2] as usize * k)];
        if self.scl[0] == 0.0 { stored } else { stored * self.scl[0] + self.scl[1] }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn labels_come_back(raw in files(), packed: bool) {
        let (name, bytes) = if packed { ("case.nii.gz", gzip(&raw.bytes())) } else { ("case.nii", raw.bytes()) };
        let (_folder, path) = file(name, &bytes);
        let labels = read_labels(&path).unwrap();
        let image = read_image(&path).unwrap();

        // Every file voxel is where its position in the patient says.
        let size = [raw.dim[1], raw.dim[2], raw.dim[3]].map(|size| size as usize);
        let to_voxel = invert(&labels.geometry.affine);
        for k in 0..size[2] {
            for j in 0..size[1] {
                for i in 0..size[0] {
                    let at = [i as f64, j as f64, k as f64];
                    let position: [f64; 3] = std::array::from_fn(|row| {
                        (0..3).map(|axis| raw.srow[row][axis] * at[axis]).sum::<f64>() + raw.srow[row][3]
                    });
                    let [x, y, z] = to_voxel(position);
                    prop_assert_eq!(f64::from(labels.data[[z, y, x]]), raw.value([i, j, k]));
                    prop_assert_eq!(f64::from(image.data[[z, y, x]]), raw.value([i, j, k]));
                }
            }
        }
        // Each axis points the right way.
        for axis in 0..3 {
            prop_assert!(labels.geometry.affine[axis][axis] > 0.0);
        }

        let out = path.with_file_name("out.nii.gz");
        write_labels(&out, labels.data.view(), &labels.native).unwrap();
        let again = read_labels(&out).unwrap();
        prop_assert_eq!(&again.data, &labels.data);
        prop_assert_eq!(&again.geometry, &labels.geometry);
        prop_assert_eq!(&again.native, &labels.native);
        let first = std::fs::read(&out).unwrap();
        write_labels(&out, labels.data.view(), &labels.native).unwrap();
        prop_assert_eq!(std::fs::read(&out).unwrap(), first, "the same labels gave other bytes");

        let float = path.with_file_name("out.nii");
        let shifted = image.data.map(|value| value + 0.25);
        write_image(&float, shifted.view(), &image.native).unwrap();
        let again = read_image(&float).unwrap();
        prop_assert_eq!(again.data, shifted);
        prop_assert_eq!(read_header(&float).unwrap().dtype, "float32");
    }

    /// Another reader finds the file's own voxels and placement.
    #[test]
    fn another_reader_agrees(raw in files().prop_filter("the other reader knows NIfTI-1 alone", |raw| raw.version == 1)) {
        let (_folder, path) = file("case.nii", &raw.bytes());
        let labels = read_labels(&path).unwrap();
        let out = path.with_file_name("out.nii.gz");
        write_labels(&out, labels.data.view(), &labels.native).unwrap();
        let object = ReaderOptions::new().read_file(&out).unwrap();
        let header = object.header().clone();
        prop_assert_eq!(header.dim.map(i64::from), raw.dim);
        prop_assert_eq!(header.pixdim.map(f64::from), raw.pixdim);
        for (found, expected) in [header.srow_x, header.srow_y, header.srow_z].iter().zip(&raw.srow) {
            prop_assert_eq!(&found.map(f64::from), expected);
        }
        prop_assert_eq!((header.qform_code, header.sform_code, header.xyzt_units), (1, 1, 2));
        prop_assert_eq!((header.scl_slope, header.scl_inter), (1.0, 0.0));
        prop_assert!(header.descrip.iter().chain(&header.intent_name).chain(&header.db_name).all(|byte| *byte == 0));
        let data = object.into_volume().into_ndarray::<f64>().unwrap();
        for (voxel, value) in data.indexed_iter() {
            prop_assert_eq!(*value, raw.value([voxel[0], voxel[1], voxel[2]]));
        }
    }
}

/// From a position in mm to the nearest voxel x, y, z.
fn invert(affine: &[[f64; 4]; 3]) -> impl Fn([f64; 3]) -> [usize; 3] {
    let m = *affine;
    let determinant = |c: [[f64; 3]; 3]| {
        c[0][0] * (c[1][1] * c[2][2] - c[1][2] * c[2][1]) - c[0][1] * (c[1][0] * c[2][2] - c[1][2] * c[2][0])
            + c[0][2] * (c[1][0] * c[2][1] - c[1][1] * c[2][0])
    };
    move |position| {
        let steps = m.map(|[x, y, z, _]| [x, y, z]);
        // Cramer's rule.
        std::array::from_fn(|axis| {
            let mut replaced = steps;
            for row in 0..3 {
                replaced[row][axis] = position[row] - m[row][3];
            }
            (determinant(replaced) / determinant(steps)).round() as usize
        })
    }
}

#[test]
fn labels_above_255_take_16_bits() {
    let folder = tempfile::tempdir().unwrap();
    let native = NativeGrid::from_geometry(&Geometry::new([3, 2, 1], [1.0, 2.0, 0.5]));
    for (top, dtype) in [(255u16, "uint8"), (256, "uint16"), (65535, "uint16")] {
        let labels = Array3::from_shape_fn((1, 2, 3), |(_, y, x)| if (y, x) == (1, 2) { top } else { 0 });
        let path = folder.path().join("labels.nii");
        write_labels(&path, labels.view(), &native).unwrap();
        assert_eq!(read_header(&path).unwrap().dtype, dtype);
        assert_eq!(read_labels(&path).unwrap().data, labels);
    }
}

#[test]
fn a_grid_that_comes_from_no_file_keeps_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut geometry = Geometry::new([5, 4, 3], [0.7, 0.7, 2.5]);
    geometry.affine[0][3] = -12.3;
    geometry.affine[0][1] = 0.1;
    let path = folder.path().join("new/folder/image.nii.gz");
    let data = Array3::from_shape_fn((3, 4, 5), |(z, y, x)| (z * 20 + y * 5 + x) as f32 - 7.5);
    write_image(&path, data.view(), &NativeGrid::from_geometry(&geometry)).unwrap();
    let image = read_image(&path).unwrap();
    assert_eq!(image.data, data);
    assert_eq!(geometry.difference(&image.geometry, 1e-5), None);
    assert!(matches!(geometry.difference(&image.geometry, 1e-12), Some(GridDifference::Position { .. })));
}

#[test]
fn long_axes_are_written_as_the_second_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.nii.gz");
    let native = NativeGrid::from_geometry(&Geometry::new([70_000, 1, 1], [1.0; 3]));
    let labels = Array3::from_shape_fn((1, 1, 70_000), |(_, _, x)| (x % 65_536) as u16);
    write_labels(&path, labels.view(), &native).unwrap();
    assert_eq!(gunzip(&std::fs::read(&path).unwrap())[..8], *b"\x1c\x02\0\0n+2\0");
    assert_eq!(read_labels(&path).unwrap().data, labels);
}

#[test]
fn one_slice_of_two_dimensions_is_a_volume() {
    let mut raw = Raw::new();
    raw.dim = [2, 4, 3, 0, 0, 0, 0, 0];
    raw.pixdim[3] = 0.0;
    (raw.sform_code, raw.qform_code) = (0, 0);
    raw.values.truncate(12);
    let (_folder, path) = file("slice.nii", &raw.bytes());
    let labels = read_labels(&path).unwrap();
    assert_eq!(labels.geometry, Geometry::new([4, 3, 1], [1.0, 2.0, 1.0]));
    let out = path.with_file_name("out.nii");
    write_labels(&out, labels.data.view(), &labels.native).unwrap();
    let written = nifti::NiftiHeader::from_file(&out).unwrap();
    assert_eq!(written.dim[..3], [2, 4, 3]);
    assert_eq!(read_labels(&out).unwrap().data, labels.data);
}

#[test]
fn gzip_is_told_by_content_and_may_come_in_members() {
    let bytes = Raw::new().bytes();
    let (_folder, path) = file("case.nii.gz", &bytes);
    let expected = read_image(&path).unwrap().data;
    let mut members = gzip(&bytes[..360]);
    members.extend(gzip(&bytes[360..]));
    members.extend([0; 512]);
    let (_folder, path) = file("case.nii", &members);
    assert_eq!(read_image(&path).unwrap().data, expected);
}
