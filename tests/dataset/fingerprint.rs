//! The fingerprint against NumPy.
use std::fs;

use voxfit::dataset::Dataset;
use voxfit::dataset::fingerprint::{self, Intensities};

use crate::{close, fixture};

/// Reference: NumPy over the same formulas, every foreground voxel weighted 1 / (foreground voxels of its case x 3):
/// `m = (v * w).sum(); sd = sqrt((w * (v - m) ** 2).sum())`, percentiles where the sorted weights' sum passes p.
#[test]
fn the_fingerprint_is_that_of_numpy() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_nnunet(folder.path(), 3)).unwrap();
    let found = fingerprint::fingerprint(&dataset).unwrap();
    assert_eq!(found.sizes, [[7, 6, 5]; 3]);
    assert!(found.spacings.iter().flatten().zip([1.0, 1.5, 2.0].into_iter().cycle()).all(|(a, b)| close(*a, b, 1e-6)));
    assert!(close(found.median_relative_size_after_crop, 210.0 / 504.0, 1e-12));
    let expected = [
        Intensities {
            mean: 53.44206349,
            deviation: 28.08389883,
            median: 54.0,
            min: 1.0,
            max: 100.0,
            percentile_00_5: 1.0,
            percentile_99_5: 100.0,
        },
        Intensities {
            mean: 52.77936508,
            deviation: 30.58878132,
            median: 55.0,
            min: 1.0,
            max: 101.0,
            percentile_00_5: 1.0,
            percentile_99_5: 101.0,
        },
    ];
    for (found, expected) in found.intensities.iter().zip(expected) {
        assert!(
            close(found.mean, expected.mean, 1e-5) && close(found.deviation, expected.deviation, 1e-5),
            "{found:?}"
        );
        let rest = |i: &Intensities| [i.median, i.min, i.max, i.percentile_00_5, i.percentile_99_5];
        assert_eq!(rest(found), rest(&expected));
    }
    let cache = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        assert_eq!(fingerprint::remembered(&dataset, cache.path(), 1 << 20).unwrap(), found);
    }
    assert_eq!(fs::read_dir(cache.path().join("fingerprints")).unwrap().count(), 1);
}

/// Reference: nibabel and NumPy over the folders, v = image[label > 0] of each case inside the nonzero box, every voxel
/// weighted 1 / len(v) and the weights normalised (the expectation of nnU-Net's draws): weighted mean and deviation,
/// percentiles where the sorted weights' sum passes p; the sum of sizes after the crop; the median relative size.
#[test]
fn the_fingerprint_of_real_datasets_is_that_of_numpy() {
    let expected = [
        ("Task04_Hippocampus", [19661.3826, 56151.4068, 360.449432, 28.0, 264156.969], [7337, 10393, 7419], 1.0),
        ("CT_Torso", [-58.3970045, 273.814019, 36.0, -999.0, 77.0], [122, 101, 30], 1.0),
        ("MNI152", [183.838881, 27.8079161, 182.0, 119.0, 234.0], [145, 181, 155], 0.468915214),
    ];
    for (name, intensities, sizes, relative) in expected {
        let Some(root) = fixture::real(name) else { continue };
        let found = fingerprint::fingerprint(&Dataset::open(&root).unwrap()).unwrap();
        let of = &found.intensities[0];
        let figures = [of.mean, of.deviation, of.median, of.percentile_00_5, of.percentile_99_5];
        for (found, expected) in figures.into_iter().zip(intensities) {
            assert!(close(found, expected, 2e-4), "{name}: {figures:?}");
        }
        assert_eq!(
            found.sizes.iter().fold([0; 3], |sum, size| std::array::from_fn(|axis| sum[axis] + size[axis])),
            sizes
        );
        assert!(close(found.median_relative_size_after_crop, relative, 1e-8), "{name}");
        assert!(found.spacings.iter().flatten().all(|&mm| close(mm, if name == "CT_Torso" { 3.0 } else { 1.0 }, 1e-6)));
    }
}
