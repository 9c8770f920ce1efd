//! The prepared store: patches against the prepared arrays, what is made anew, what is refused, what `clean` removes.
#[path = "dataset/fixture.rs"]
mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ndarray::{Array3, Array4};
use proptest::prelude::*;
use voxfit::dataset::Dataset;
use voxfit::dataset::prepare::{self, Preparation};
use voxfit::dataset::store::{self, Store};
use voxfit::volume::normalise::Normalisation;

fn z_score(channels: usize) -> Preparation {
    let normalisation = vec![Normalisation::ZScore { nonzero: false }; channels];
    Preparation { spacing: [1.0, 1.5, 1.6], normalisation }
}

fn open(root: &Path, dataset: &Dataset, preparation: &Preparation) -> Store {
    Store::open_or_prepare(root, dataset, preparation, &|_, _| {}).unwrap()
}

/// What `read_patch` must give, from the whole arrays.
fn sliced(
    image: &Array4<f32>,
    labels: &Array3<u16>,
    start: [isize; 3],
    size: [usize; 3],
    outside: u16,
) -> (Array4<f32>, Array3<u16>) {
    let inside = |place: [usize; 3]| {
        let at: [usize; 3] = std::array::from_fn(|axis| (place[axis] as isize).wrapping_add(start[axis]) as usize);
        labels.get(at).map(|label| (at, *label))
    };
    let image = Array4::from_shape_fn((image.dim().0, size[0], size[1], size[2]), |(channel, z, y, x)| {
        inside([z, y, x]).map_or(0.0, |([z, y, x], _)| half::f16::from_f32(image[[channel, z, y, x]]).to_f32())
    });
    (image, Array3::from_shape_fn(size, |(z, y, x)| inside([z, y, x]).map_or(outside, |(_, label)| label)))
}

#[test]
fn patches_are_slices_of_the_prepared_case() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_nnunet(&folder.path().join("data"), 2)).unwrap();
    let preparation = z_score(2);
    let store = open(&folder.path().join("cache"), &dataset, &preparation);
    let case = &store.cases()[1];
    let (image, labels) = prepare::case(&dataset.cases[1], 3, Some(3), &preparation).unwrap();
    assert_eq!((case.id(), case.channels()), ("case_01", 2));
    assert_eq!(case.size(), <[usize; 3]>::from(labels.dim()));

    let axis = || (-12_isize..12, 0_usize..16);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    runner
        .run(&(axis(), axis(), axis(), 0_u16..4), |(z, y, x, outside)| {
            let (start, size) = ([z.0, y.0, x.0], [z.1, y.1, x.1]);
            let found = case.read_patch(start, size, outside).unwrap();
            prop_assert_eq!(found, sliced(&image, &labels, start, size, outside));
            Ok(())
        })
        .unwrap();
    for start in [isize::MIN, isize::MAX - 1] {
        let (image, labels) = case.read_patch([0, start, 0], [2, 2, 2], 3).unwrap();
        assert!(image.iter().all(|&value| value == 0.0) && labels.iter().all(|&label| label == 3));
    }
    case.verify().unwrap();
}

#[test]
fn locations_are_voxels_of_their_class() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_nnunet(&folder.path().join("data"), 2)).unwrap();
    let store = open(&folder.path().join("cache"), &dataset, &z_score(2));
    for (case, source) in store.cases().iter().zip(&dataset.cases) {
        let (_, labels) = prepare::case(source, 3, Some(3), &z_score(2)).unwrap();
        assert_eq!(case.classes_present(), [1, 2]);
        for class in [1, 2] {
            assert_eq!(case.location_count(class), labels.iter().filter(|&&label| label == class).count());
            let places: Vec<[usize; 3]> = (0..case.location_count(class)).map(|at| case.location(class, at)).collect();
            assert!(places.iter().all(|&place| labels[place] == class));
            assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
        }
        assert_eq!([case.location_count(0), case.location_count(3), case.location_count(9)], [0; 3]);
    }
}

/// The ignore label is no class to be sampled, and labels above 255 and intensities above f16's range are kept.
#[test]
fn what_does_not_fit_the_small_types_is_kept_in_the_large() {
    let folder = tempfile::tempdir().unwrap();
    let root = fixture::write_msd(&folder.path().join("data"), 1);
    let mut description = fixture::read_description(&root);
    description["labels"] = (0..300)
        .map(|class| (class.to_string(), format!("class {class}").into()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    description["labels"]["300"] = "ignore".into();
    fixture::write_description(&root, &description);
    let mut labels = fixture::label_array(0);
    (labels[[3, 3, 3]], labels[[4, 4, 4]]) = (299, 300);
    fixture::write_labels(&root.join("labelsTr/case_00.nii.gz"), &labels, &fixture::geometry());
    let dataset = Dataset::open(&root).unwrap();
    let normalisation = Normalisation::Ct { low: 0.0, high: 1e6, mean: 0.0, deviation: 1e-4 };
    let preparation = Preparation { spacing: fixture::SPACING, normalisation: vec![normalisation] };
    let store = open(&folder.path().join("cache"), &dataset, &preparation);
    let case = &store.cases()[0];
    assert_eq!(case.classes_present(), [1, 2, 299]);
    assert_eq!(case.location(299, 0), [2, 2, 2]);
    let (image, found) = case.read_patch([0; 3], case.size(), 0).unwrap();
    let (expected, labels) = prepare::case(&dataset.cases[0], 300, Some(300), &preparation).unwrap();
    assert!(expected.iter().any(|&value| value > 65504.0));
    assert_eq!((image, found), (expected, labels));
}

fn case_files(root: &Path) -> Vec<PathBuf> {
    let stores = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let files = stores
        .filter(|path| path.is_dir())
        .flat_map(|path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "case")).collect();
    files.sort();
    files
}

#[test]
fn what_is_there_is_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_msd(&folder.path().join("data"), 4)).unwrap();
    let root = folder.path().join("cache");
    let told = Mutex::new(Vec::new());
    let open = || {
        told.lock().unwrap().clear();
        let progress = |done, total| told.lock().unwrap().push((done, total));
        let store = Store::open_or_prepare(&root, &dataset, &z_score(1), &progress).unwrap();
        (store, told.lock().unwrap().clone())
    };
    let (store, first) = open();
    assert_eq!((first.first(), first.last(), first.len()), (Some(&(0, 4)), Some(&(4, 4)), 5));
    assert!(first.windows(2).all(|pair| pair[0] <= pair[1]), "{first:?}");
    assert_eq!(store.dataset_digest(), dataset.digest().unwrap());
    let bytes: Vec<Vec<u8>> = case_files(&root).iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!((bytes.len(), open().1), (4, vec![]));

    // A file that is gone, one cut short and one with a damaged header are made again, the same bit for bit.
    let files = case_files(&root);
    fs::remove_file(&files[0]).unwrap();
    fs::write(&files[1], &bytes[1][..bytes[1].len() - 1]).unwrap();
    let mut damaged = bytes[2].clone();
    damaged[60] ^= 1;
    fs::write(&files[2], damaged).unwrap();
    fs::write(files[0].with_file_name(".voxfit-killed.tmp"), b"half").unwrap();
    let (_, again) = open();
    assert_eq!((again.first(), again.last()), (Some(&(1, 4)), Some(&(4, 4))));
    assert_eq!(files.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>(), bytes);
    assert!(!files[0].with_file_name(".voxfit-killed.tmp").exists());
}

#[test]
fn a_file_cut_or_removed_while_open_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_msd(&folder.path().join("data"), 2)).unwrap();
    let store = open(&folder.path().join("cache"), &dataset, &z_score(1));
    let case = &store.cases()[1];
    let bytes = fs::read(case.path()).unwrap();
    let read = || case.read_patch([0; 3], case.size(), 0).unwrap_err().to_string();
    fs::write(case.path(), &bytes[..bytes.len() / 2]).unwrap();
    let name = case.path().to_str().unwrap();
    assert!(read().contains(name) && read().contains("is cut short; remove this file and start again"), "{}", read());
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    fs::write(case.path(), flipped).unwrap();
    let error = case.verify().unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("do not match their checksum"), "{error}");
    fs::remove_file(case.path()).unwrap();
    assert!(read().contains(name) && read().contains("is gone"), "{}", read());
}

#[test]
fn other_content_or_another_preparation_is_another_store() {
    let folder = tempfile::tempdir().unwrap();
    let data = fixture::write_msd(&folder.path().join("data"), 1);
    let root = folder.path().join("cache");
    let folder_of =
        |preparation: &Preparation| open(&root, &Dataset::open(&data).unwrap(), preparation).folder().to_path_buf();
    let first = folder_of(&z_score(1));
    let mut finer = z_score(1);
    finer.spacing[0] = 0.9;
    assert_ne!(first, folder_of(&finer));
    let mut labels = fixture::label_array(0);
    labels[[3, 3, 6]] = 2;
    fixture::write_labels(&data.join("labelsTr/case_00.nii.gz"), &labels, &fixture::geometry());
    assert_ne!(first, folder_of(&z_score(1)));

    let error = Store::open_or_prepare(&root, &Dataset::open(&data).unwrap(), &z_score(2), &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains("1 channels, 2 normalisations; make a new plan"), "{error}");
}

#[test]
fn two_at_once_make_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_msd(&folder.path().join("data"), 6)).unwrap();
    let root = folder.path().join("cache");
    let told = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let prepared = |done, _| *told.lock().unwrap() += usize::from(done > 0);
                let store = Store::open_or_prepare(&root, &dataset, &z_score(1), &prepared).unwrap();
                store.cases().iter().for_each(|case| case.verify().unwrap());
            });
        }
    });
    assert_eq!(case_files(&root).len(), 6);
    assert!(*told.lock().unwrap() >= 6);
}

#[test]
fn a_bad_case_stops_with_its_name_and_the_rest_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data = fixture::write_msd(&folder.path().join("data"), 3);
    fs::write(data.join("imagesTr/case_02.nii.gz"), b"no volume").unwrap();
    let dataset = Dataset::open(&data).unwrap();
    let root = folder.path().join("cache");
    let error = Store::open_or_prepare(&root, &dataset, &z_score(1), &|_, _| {}).unwrap_err().to_string();
    assert!(error.contains("case_02.nii.gz"), "{error}");
    let leftovers = fs::read_dir(case_files(&root)[0].parent().unwrap()).unwrap();
    assert!(leftovers.map(|entry| entry.unwrap().file_name()).all(|name| !name.to_str().unwrap().ends_with(".tmp")));
}

#[test]
fn a_root_that_cannot_be_made_is_refused_with_a_cure() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_msd(&folder.path().join("data"), 1)).unwrap();
    let root = folder.path().join("data/dataset.json/cache");
    let error = Store::open_or_prepare(&root, &dataset, &z_score(1), &|_, _| {}).unwrap_err().to_string();
    assert!(error.starts_with(root.to_str().unwrap()) && error.contains("VOXFIT_CACHE"), "{error}");
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_prepared_images() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_msd(&folder.path().join("data"), 1)).unwrap();
    let root = folder.path().join("deep/cache");
    let store = open(&root, &dataset, &z_score(1));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(&root), mode(store.folder()), mode(store.cases()[0].path())], [0o700, 0o700, 0o600]);
    for entry in fs::read_dir(store.folder()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn clean_removes_stores_that_are_not_in_use_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&fixture::write_msd(&folder.path().join("data"), 2)).unwrap();
    let root = folder.path().join("cache");
    assert_eq!(store::clean(&root).unwrap(), 0, "no root");
    let opened = open(&root, &dataset, &z_score(1));
    let mut finer = z_score(1);
    finer.spacing[0] = 0.9;
    drop(open(&root, &dataset, &finer));

    let foreign = ["notes.txt", "0123456789abcdef0123456789abcdef/00000.case", "holiday/00000.case"];
    for path in foreign {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), b"mine").unwrap();
    }
    assert_eq!(case_files(&root).len(), 6);
    assert!(store::clean(&root).unwrap() > 0);
    assert_eq!(case_files(&root).len(), 4, "the open store and what is not ours");
    opened.cases()[1].verify().unwrap();

    fs::write(opened.folder().join("mine.txt"), b"mine").unwrap();
    let kept = opened.folder().to_path_buf();
    drop(opened);
    assert!(store::clean(&root).unwrap() > 0);
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 1);
    assert!(foreign.iter().all(|path| root.join(path).exists()));
}

#[test]
fn a_whole_head_is_kept_in_a_third_of_its_memory() {
    let Some(data) = fixture::real("MNI152") else { return };
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&data).unwrap();
    let preparation = Preparation { spacing: [1.0; 3], normalisation: vec![Normalisation::ZScore { nonzero: true }] };
    let store = open(folder.path(), &dataset, &preparation);
    let case = &store.cases()[0];
    let (image, labels) = prepare::case(&dataset.cases[0], 3, None, &preparation).unwrap();
    assert_eq!(case.size(), [155, 181, 145]);
    for class in [1, 2] {
        let voxels = labels.iter().filter(|&&label| label == class).count();
        assert_eq!(case.location_count(class), voxels.div_ceil(100).max(10_000.min(voxels)));
    }
    let start = [-5, 60, 100];
    assert_eq!(case.read_patch(start, [64, 96, 80], 0).unwrap(), sliced(&image, &labels, start, [64, 96, 80], 0));
    let file = fs::metadata(case.path()).unwrap().len();
    assert!(file < (155 * 181 * 145 * 3 + (1 << 18)), "{file}");
}
