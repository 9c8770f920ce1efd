//! A case's preparation against NumPy and SciPy, and the way back.
use ndarray::{Array3, Array4, s};
use voxfit::dataset::Dataset;
use voxfit::dataset::prepare::{self, Preparation};
use voxfit::volume::normalise::Normalisation;
use voxfit::volume::planes::Storage;
use voxfit::volume::{self, Framed, Geometry};

use crate::{close, fixture};

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
    assert_eq!(labels, fixture::cropped_label_array(1));

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
    let restored = |scores: Array4<f32>, origin: &prepare::Origin| {
        let storage = Storage::unbounded();
        let (classes, z, y, x) = scores.dim();
        let mut planes = storage.zeros("scores", [classes, z, y, x], 0).unwrap();
        for (class, scores) in scores.outer_iter().enumerate() {
            planes.write_box(class, [0; 3], scores).unwrap();
        }
        let (labels, largest) = prepare::restore(&planes, origin.crop_size, None, &storage, |_, _, _| Ok(())).unwrap();
        assert_eq!(largest, 2);
        let (start, size) = (origin.crop_start, origin.size);
        Framed { planes: &labels, channel: 0, start, size, outside: 0 }.to_array().unwrap()
    };
    let same = Preparation { spacing: fixture::SPACING, normalisation: z_score.clone() };
    let prepared = prepare::image(&dataset.cases[0].images, &same).unwrap();
    let labels = fixture::label_array(0);
    assert_eq!(restored(one_hot(&fixture::cropped_label_array(0)), &prepared.origin), labels);

    // Twice as fine: every voxel's eight parts agree, so linear interpolation at its centre gives it back.
    let fine = Preparation { spacing: fixture::SPACING.map(|mm| mm / 2.0), normalisation: z_score };
    let prepared = prepare::image(&dataset.cases[0].images, &fine).unwrap();
    assert_eq!(prepared.data.dim(), (1, 10, 12, 14));
    let scores = one_hot(&Array3::from_shape_fn((10, 12, 14), |(z, y, x)| labels[[1 + z / 2, 1 + y / 2, 1 + x / 2]]));
    assert_eq!(restored(scores, &prepared.origin), labels);
    let path = folder.path().join("out.nii.gz");
    volume::write_labels(&path, labels.view(), &prepared.origin.native).unwrap();
    assert_eq!(volume::read_labels(&path).unwrap().data, labels);
}
