//! Bytes as a checkpoint.
#![no_main]
use libfuzzer_sys::fuzz_target;
use voxfit::train::checkpoint;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for the file");
    let path = folder.path().join("checkpoint.safetensors");
    std::fs::write(&path, bytes).expect("room for the file");
    let _ = checkpoint::load(&path);
});
