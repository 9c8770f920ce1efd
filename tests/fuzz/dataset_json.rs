//! Bytes as a `dataset.json`: no file that it names lies outside of its folder.
#![no_main]
use std::path::Component;

use libfuzzer_sys::fuzz_target;
use voxfit::dataset::{Dataset, check};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for the file");
    for name in ["imagesTr", "labelsTr"] {
        std::fs::create_dir(folder.path().join(name)).expect("a folder");
        for case in ["a", "a_0000"] {
            std::fs::write(folder.path().join(name).join(format!("{case}.nii")), b"").expect("a file");
        }
    }
    std::fs::write(folder.path().join("dataset.json"), bytes).expect("room for the file");
    if let Ok(dataset) = Dataset::open(folder.path()) {
        for file in dataset.cases.iter().flat_map(|case| case.images.iter().chain([&case.label])) {
            let rest = file.strip_prefix(folder.path()).expect("a file of the dataset");
            assert!(rest.components().all(|part| matches!(part, Component::Normal(_))), "{}", file.display());
        }
    }
    let _ = check::text(&check::check_folder(folder.path()));
});
