//! Bytes as a volume file, plain or packed as they say themselves.
#![no_main]
use libfuzzer_sys::fuzz_target;
use voxfit::volume;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for the file");
    let path = folder.path().join("case.nii");
    std::fs::write(&path, bytes).expect("room for the file");
    let header = volume::read_header(&path);
    let image = volume::read_channels(&path);
    let _ = volume::read_labels(&path);
    if header.is_err() {
        assert!(image.is_err());
    }
});
