//! Resampling as scipy and nnU-Net do it: shapes drawn at random and odd ones, larger and smaller, with a coarse axis and
//! with axes of one voxel. `data/resampling.json` is what scipy gave, `data/resampling.py` the recipe.
use std::fs;
use std::path::Path;

use ndarray::Array3;
use serde::Deserialize;
use voxfit::volume::planes::Storage;
use voxfit::volume::resample::{image, labels, new_size, owned_image, stored};

#[derive(Deserialize)]
struct Reference {
    images: Vec<Case>,
    /// Voxels, spacing before and after, voxels after.
    sizes: Vec<(usize, f64, f64, usize)>,
}

#[derive(Deserialize)]
struct Case {
    from: [usize; 3],
    to: [usize; 3],
    separate: Option<usize>,
    sample: [f64; 8],
    sum: f64,
    weighted: f64,
    counts: [usize; 5],
    labels_weighted: usize,
}

fn reference() -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/resampling.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn volume([d, h, w]: [usize; 3]) -> Array3<f32> {
    Array3::from_shape_fn((d, h, w), |(z, y, x)| ((x * 7919 + y * 104_729 + z * 1_299_709) % 1000) as f32)
}

fn label_map([d, h, w]: [usize; 3]) -> Array3<u16> {
    Array3::from_shape_fn((d, h, w), |(z, y, x)| ((x / 3 + y / 2 + z * z) % 5) as u16)
}

#[test]
fn images_are_scipys_of_every_shape() {
    let cases = reference().images;
    assert!(cases.len() > 40);
    for case in cases {
        let named = format!("{:?} to {:?}, {:?}", case.from, case.to, case.separate);
        let data = volume(case.from);
        let made = image(data.view(), case.to, case.separate);
        assert_eq!(made.shape(), case.to, "{named}");
        let flat: Vec<f64> = made.iter().map(|value| f64::from(*value)).collect();
        for (index, expected) in case.sample.into_iter().enumerate() {
            let found = flat[index * 7919 % flat.len()];
            // Values reach 1000 and go through f32 between axes.
            assert!((found - expected).abs() < 4e-4, "{named}: sample {index}: {found} is not {expected}");
        }
        let close = |found: f64, expected: f64| (found - expected).abs() <= 1e-6 * expected.abs();
        assert!(close(flat.iter().sum(), case.sum), "{named}: sum");
        let weighted = flat.iter().enumerate().map(|(index, value)| value * (index % 97) as f64).sum();
        assert!(close(weighted, case.weighted), "{named}: weighted sum {weighted} is not {}", case.weighted);

        // The other ways there are the same bits.
        assert_eq!(owned_image(data.clone(), case.to, case.separate), made, "{named}");
        let storage = Storage::unbounded();
        let [z, y, x] = case.from;
        let mut planes = storage.zeros("test", [1, z, y, x], 0).unwrap();
        planes.write_box(0, [0; 3], data.view()).unwrap();
        let planes = stored::image(planes, case.to, case.separate, &storage, 0).unwrap();
        assert_eq!(planes.read_box(0, [0; 3], case.to).unwrap(), made, "{named}");
    }
}

#[test]
fn labels_are_nnunets_of_every_shape() {
    for case in reference().images {
        let named = format!("{:?} to {:?}, {:?}", case.from, case.to, case.separate);
        let made = labels(label_map(case.from).view(), case.to, case.separate);
        let mut counts = [0; 5];
        made.iter().for_each(|label| counts[usize::from(*label)] += 1);
        assert_eq!(counts, case.counts, "{named}");
        let weighted: usize = made.iter().enumerate().map(|(index, label)| usize::from(*label) * (index % 97)).sum();
        assert_eq!(weighted, case.labels_weighted, "{named}");
    }
}

#[test]
fn sizes_are_numpys() {
    for (voxels, from, to, expected) in reference().sizes {
        assert_eq!(new_size([voxels; 3], [from; 3], [to; 3]), [expected; 3], "{voxels} of {from} mm at {to} mm");
    }
}
