//! The phantom: the same seed gives the same bytes on every machine, and no threshold finds an organ in it.
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use voxfit::dataset::phantom::{self, MOST_CLASSES, PhantomOptions};
use voxfit::evaluate::{FolderOptions, evaluate_folders};
use voxfit::volume;

fn small() -> PhantomOptions {
    PhantomOptions { cases: 2, size: [24, 20, 18], ..Default::default() }
}

/// Every file below `folder`, in order of path.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn generated(options: &PhantomOptions) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    phantom::write(&folder.path().join("phantom"), options).unwrap();
    folder
}

/// Over names and bytes; `.gz` unpacked where `unpack`.
fn digest(folder: &Path, unpack: bool) -> String {
    let mut hash = Sha256::new();
    for path in files(folder) {
        let mut bytes = fs::read(&path).unwrap();
        if unpack && path.extension().is_some_and(|ending| ending == "gz") {
            let packed = std::mem::take(&mut bytes);
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        }
        hash.update(path.strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/").as_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    voxfit::files::hex(&hash.finalize())
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let first = generated(&small());
    assert_eq!(digest(first.path(), false), digest(generated(&small()).path(), false));
    for other in [
        PhantomOptions { seed: 1, ..small() },
        PhantomOptions { ct: true, ..small() },
        PhantomOptions { classes: 2, ..small() },
        PhantomOptions { spacing: [1.0, 1.0, 1.5], ..small() },
    ] {
        assert_ne!(digest(first.path(), false), digest(generated(&other).path(), false), "{other:?}");
    }
    // a case does not depend on how many there are
    let more = generated(&PhantomOptions { cases: 3, ..small() });
    for path in ["imagesTr/phantom_002.nii.gz", "labelsTr/phantom_002.nii.gz"] {
        let read = |folder: &Path| fs::read(folder.join("phantom").join(path)).unwrap();
        assert_eq!(read(first.path()), read(more.path()));
    }
}

/// Recorded once; a difference on another machine is a fault of that claim, one after a change to the phantom means
/// that `volumes/phantom` and every figure that was measured on it belong to the old one. Packed bytes also depend on
/// the version of the compressor and are not recorded.
#[test]
fn the_content_is_the_recorded_one() {
    let mri = digest(generated(&small()).path(), true);
    let ct = digest(generated(&PhantomOptions { ct: true, classes: MOST_CLASSES, ..small() }).path(), true);
    assert_eq!(
        [mri, ct],
        [
            "856b93af3f2fbbec0b61fe76802790ce3a7acafbe2eba16b9c0974dc676ec3ff",
            "ee1f6aa0945834c8f08ec72c76a60729ccaa32173f586232d1d78710a0809003"
        ]
    );
}

#[test]
fn a_dataset_is_a_few_megabytes_and_reads_back() {
    let folder = generated(&PhantomOptions::default());
    let root = folder.path().join("phantom");
    let bytes: u64 = files(&root).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes < 3_000_000, "{bytes} bytes");
    let description: serde_json::Value = serde_json::from_slice(&fs::read(root.join("dataset.json")).unwrap()).unwrap();
    let training = description["training"].as_array().unwrap();
    assert_eq!((training.len(), description["numTraining"].as_u64()), (12, Some(12)));
    for pair in training {
        let image = volume::read_image(&root.join(pair["image"].as_str().unwrap())).unwrap();
        let label = volume::read_labels(&root.join(pair["label"].as_str().unwrap())).unwrap();
        assert_eq!(image.geometry, label.geometry);
        assert_eq!(image.geometry.size, [40, 32, 32]);
        let spacing = image.geometry.spacing();
        assert!(spacing.iter().zip([1.0, 1.0, 1.2]).all(|(found, asked)| (found - asked).abs() < 1e-6));
        for class in 1..=3 {
            let voxels = label.data.iter().filter(|&&value| value == class).count();
            assert!(voxels >= 400, "class {class} has {voxels} voxels");
        }
    }
}

/// Of a class: the best Dice of "at least t" or "at most t" over all t, and the best of "from s to t" over all s and t.
fn best_dice(images: &[i32], labels: &[u16], class: u16) -> (f64, f64) {
    let (low, high) = images.iter().fold((i32::MAX, i32::MIN), |(low, high), &value| (low.min(value), high.max(value)));
    // voxels, and voxels of the class, below each value, in steps of 4
    let bins = ((high - low) / 4 + 2) as usize;
    let (mut all, mut hit) = (vec![0.0; bins], vec![0.0; bins]);
    for (&value, &label) in images.iter().zip(labels) {
        let bin = ((value - low) / 4 + 1) as usize;
        all[bin] += 1.0;
        hit[bin] += f64::from(u8::from(label == class));
    }
    for bin in 1..bins {
        all[bin] += all[bin - 1];
        hit[bin] += hit[bin - 1];
    }
    let (mut threshold, mut interval) = (0.0_f64, 0.0_f64);
    for from in 0..bins {
        for to in from + 1..bins {
            let dice = 2.0 * (hit[to] - hit[from]) / (all[to] - all[from] + hit[bins - 1]);
            interval = interval.max(dice);
            if from == 0 || to == bins - 1 {
                threshold = threshold.max(dice);
            }
        }
    }
    (threshold, interval)
}

#[test]
fn no_threshold_finds_an_organ() {
    for ct in [false, true] {
        let folder = generated(&PhantomOptions { ct, ..Default::default() });
        let root = folder.path().join("phantom");
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for path in files(&root.join("imagesTr")) {
            let image = volume::read_image(&path).unwrap();
            images.extend(image.data.iter().map(|&value| value as i32));
            labels.extend(volume::read_labels(&root.join("labelsTr").join(path.file_name().unwrap())).unwrap().data);
        }
        for class in 1..=3 {
            let (threshold, interval) = best_dice(&images, &labels, class);
            let modality = if ct { "ct" } else { "mri" };
            println!(
                "{modality} class {class}: Dice of the best threshold {threshold:.3}, of the best interval {interval:.3}"
            );
            assert!(threshold <= 0.5 && interval <= 0.5, "{modality} class {class}: {threshold} {interval}");
            assert!(interval > 0.05, "the measure itself works");
        }
    }
}

#[test]
fn every_class_is_there_at_the_smallest_and_the_flattest() {
    for (size, classes) in [([16, 16, 16], MOST_CLASSES), ([64, 20, 16], MOST_CLASSES), ([16, 40, 24], 1)] {
        let folder = generated(&PhantomOptions { cases: 3, size, classes, ..Default::default() });
        for path in files(&folder.path().join("phantom/labelsTr")) {
            let label = volume::read_labels(&path).unwrap();
            for class in 1..=classes as u16 {
                assert!(label.data.iter().any(|&value| value == class), "{size:?} lacks class {class}");
            }
        }
    }
}

#[test]
fn what_cannot_be_made_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |options: PhantomOptions, says: &str| {
        let error = phantom::write(&folder.path().join("new"), &options).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(!folder.path().join("new").exists(), "nothing is left behind");
    };
    refused(PhantomOptions { cases: 0, ..small() }, "--cases");
    refused(PhantomOptions { size: [48, 15, 48], ..small() }, "15 voxels along y");
    refused(PhantomOptions { size: [usize::MAX, 48, 48], ..small() }, "--size");
    refused(PhantomOptions { spacing: [1.0, 0.0, 1.0], ..small() }, "0 mm along y");
    refused(PhantomOptions { spacing: [f64::NAN, 1.0, 1.0], ..small() }, "--spacing");
    refused(PhantomOptions { classes: 0, ..small() }, "--classes");
    refused(PhantomOptions { classes: 9, ..small() }, "9 foreground classes");
    fs::write(folder.path().join("mine.txt"), "kept").unwrap();
    let error = phantom::write(folder.path(), &small()).unwrap_err().to_string();
    assert!(error.contains("something is in it already"), "{error}");
    assert_eq!(files(folder.path()).len(), 1);
}

/// Folder evaluation on files: a perfect copy, a missing case, a wrong grid.
#[test]
fn folders_of_labels_are_evaluated() {
    let folder = generated(&small());
    let labels = folder.path().join("phantom/labelsTr");
    let predictions = folder.path().join("predictions");
    fs::create_dir(&predictions).unwrap();
    let name = "phantom_001.nii.gz";
    fs::copy(labels.join(name), predictions.join(name)).unwrap();
    let evaluated = || evaluate_folders(&predictions, &labels, &FolderOptions::default(), &|_, _| ());
    let summary = evaluated().unwrap();
    assert_eq!(
        (summary.foreground_mean.dice, summary.foreground_mean.hd95, summary.foreground_mean.nsd),
        (1.0, 0.0, 1.0)
    );
    assert_eq!(
        summary.classes.iter().map(|class| class.class.title()).collect::<Vec<_>>(),
        ["1 liver", "2 kidney", "3 bladder"]
    );
    assert_eq!(summary.without_prediction, ["phantom_002"]);
    let table = summary.to_table(false, false);
    assert!(table.contains("1 label(s) without a prediction"), "{table}");
    // another grid: of another size, then of the same size at another place
    for (options, says) in [
        (PhantomOptions { size: [24, 20, 20], ..small() }, "24 x 20 x 20 voxels against 24 x 20 x 18"),
        (PhantomOptions { spacing: [1.0, 1.0, 2.0], ..small() }, "mm"),
    ] {
        let other = generated(&options);
        fs::copy(other.path().join("phantom/labelsTr").join(name), predictions.join(name)).unwrap();
        let error = evaluated().unwrap_err().to_string();
        assert!(error.contains(says) && error.matches(name).count() == 2, "{error}");
    }
}
