//! Real volumes, where `VOXFIT_VOLUMES` names the folder that holds them.
use std::path::PathBuf;

use nifti::{IntoNdArray, NiftiObject, ReaderOptions};
use voxfit::volume::{read_image, read_labels, write_labels};

fn volumes() -> Option<PathBuf> {
    let folder = std::env::var_os("VOXFIT_VOLUMES").map(PathBuf::from).filter(|folder| folder.is_dir());
    if folder.is_none() {
        println!("skipped: VOXFIT_VOLUMES names no folder with the real volumes");
    }
    folder
}

/// Size, origin and spacing in mm, and two sums over the voxels in the file's order:
///
/// ```python
/// i = nib.load(f); d = np.asarray(i.dataobj).astype(float).ravel(order="F")
/// i.shape, i.affine, d.sum(), (d * (np.arange(d.size) % 97)).sum()
/// ```
struct Expected {
    file: &'static str,
    size: [usize; 3],
    spacing: f64,
    origin: [f64; 3],
    sums: [f64; 2],
}

fn sums(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values
        .enumerate()
        .fold([0.0, 0.0], |[plain, weighted], (index, value)| [plain + value, weighted + value * (index % 97) as f64])
}

#[test]
fn images_are_nibabels() {
    let Some(folder) = volumes() else { return };
    for expected in [
        Expected {
            file: "Task04_Hippocampus/imagesTr/hippocampus_003.nii.gz",
            size: [34, 52, 35],
            spacing: 1.0,
            origin: [1.0; 3],
            sums: [29_866_089.868_690_49, 1_433_001_927.078_160_3],
        },
        Expected {
            file: "MNI152/imagesTr/mni152.nii.gz",
            size: [197, 233, 189],
            spacing: 1.0,
            origin: [-98.0, -134.0, -72.0],
            sums: [333_468_829.0, 16_004_150_231.0],
        },
        Expected {
            file: "CT_Torso/imagesTr/torso_0000.nii.gz",
            size: [122, 101, 30],
            spacing: 3.0,
            origin: [-177.956_329_345_703_12, 11.319_000_244_140_625, 94.301_757_812_5],
            sums: [-130_894_872.0, -6_276_055_149.0],
        },
    ] {
        let image = read_image(&folder.join(expected.file)).unwrap();
        assert_eq!(image.geometry.size, expected.size);
        assert_eq!(image.geometry.spacing(), [expected.spacing; 3]);
        assert_eq!(image.geometry.position([0.0; 3]), expected.origin);
        // All three are stored along R, A, S, so that the file's order is the array's.
        for (found, expected) in sums(image.data.iter().map(|value| f64::from(*value))).iter().zip(expected.sums) {
            assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found} is not {expected}");
        }
    }
}

#[test]
fn labels_go_back_as_nibabel_sees_them() {
    let Some(folder) = volumes() else { return };
    let out = tempfile::tempdir().unwrap();
    for (file, expected) in [
        ("Task04_Hippocampus/labelsTr/hippocampus_003.nii.gz", [5156.0, 246_973.0]),
        ("MNI152/labelsTr/mni152.nii.gz", [2_365_139.0, 113_511_366.0]),
        ("CT_Torso/labelsTr/torso.nii.gz", [161_650.0, 7_771_116.0]),
    ] {
        let labels = read_labels(&folder.join(file)).unwrap();
        let path = out.path().join("labels.nii.gz");
        write_labels(&path, labels.data.view(), &labels.native).unwrap();
        let (source, written) = (folder.join(file), path);
        let [source, written] = [source, written].map(|path| ReaderOptions::new().read_file(path).unwrap());
        let (before, after) = (source.header().clone(), written.header().clone());
        assert_eq!((after.dim, after.pixdim), (before.dim, before.pixdim));
        assert_eq!((after.qform_code, after.sform_code), (before.qform_code, before.sform_code));
        assert_eq!((after.srow_x, after.srow_y, after.srow_z), (before.srow_x, before.srow_y, before.srow_z));
        assert_eq!(after.data_type().unwrap(), nifti::NiftiType::Uint8);
        let data = written.into_volume().into_ndarray::<f64>().unwrap();
        assert_eq!(sums(data.t().iter().copied()), expected, "{file}");
    }
}

#[test]
fn every_hippocampus_case_is_read() {
    let Some(folder) = volumes() else { return };
    let mut cases = 0;
    for entry in std::fs::read_dir(folder.join("Task04_Hippocampus/labelsTr")).unwrap() {
        let name = entry.unwrap().file_name();
        let labels = read_labels(&folder.join("Task04_Hippocampus/labelsTr").join(&name)).unwrap();
        let image = read_image(&folder.join("Task04_Hippocampus/imagesTr").join(&name)).unwrap();
        assert!(labels.data.iter().all(|label| *label <= 2), "{name:?}");
        assert_eq!(image.geometry.difference(&labels.geometry, 1e-3), None, "{name:?}");
        cases += 1;
    }
    assert_eq!(cases, 208);
}
