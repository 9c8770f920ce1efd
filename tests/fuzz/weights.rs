//! Bytes as weights of another program.
#![no_main]
use libfuzzer_sys::fuzz_target;
use voxfit::exchange::{ImportOptions, import};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for the file");
    let file = folder.path().join("weights");
    std::fs::write(&file, bytes).expect("room for the file");
    let _ = import(&ImportOptions { file, output: folder.path().join("out"), like: None });
});
