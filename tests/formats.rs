//! Volumes as other programs write them: each row of the table in docs/formats.md is read as nibabel reads it and its
//! label map comes back on exactly its grid, or it is refused with its reason.
//!
//! `data/formats.json` holds the files and what nibabel reads; `data/formats.py` is the recipe, and looks at the label
//! maps with nibabel where `VOXFIT_FORMATS_KEEP` names a folder to leave them in.
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::{env, fs};

use ndarray::Array3;
use serde::Deserialize;
use tempfile::TempDir;
use voxfit::volume::{read_channels, read_header, read_image, read_labels, write_labels};

#[derive(Deserialize)]
struct Case {
    name: String,
    /// Hexadecimal digits of the file's gzip, by file name.
    files: BTreeMap<String, String>,
    open: String,
    /// What nibabel reads after `as_closest_canonical`.
    affine: Option<[[f64; 4]; 3]>,
    size: Option<[usize; 3]>,
    #[serde(default)]
    values: Vec<f64>,
}

/// Cases that are refused: the field that is named, and words of the reason.
const REFUSED: [(&str, &str, &[&str]); 6] = [
    ("intercept NaN", "scl_inter", &["NaN", "true intercept"]),
    ("flat sform", "srow_x, srow_y, srow_z", &["singular", "sform_code"]),
    ("vox_offset 348", "vox_offset", &["348", "352"]),
    ("ANALYZE 7.5", "magic", &["ANALYZE 7.5", "left and right", "nibabel"]),
    ("pair's header in .nii", "magic", &[".img", ".hdr"]),
    ("whole file named .hdr", "magic", &["same file", ".nii"]),
];

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

impl Case {
    fn content(&self, file: &str) -> Vec<u8> {
        let digits = &self.files[file];
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        unpacked(&(0..digits.len()).step_by(2).map(byte).collect::<Vec<_>>())
    }

    fn write(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        self.files.keys().for_each(|file| fs::write(folder.path().join(file), self.content(file)).unwrap());
        let path = folder.path().join(&self.open);
        (folder, path)
    }

    fn refused(&self) -> Option<&(&'static str, &'static str, &'static [&'static str])> {
        REFUSED.iter().find(|(name, ..)| *name == self.name)
    }
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.to_vec();
    }
    let mut content = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut content).ok();
    content
}

#[test]
fn every_oddity_is_read_as_nibabel_reads_it_or_refused_with_its_reason() {
    let cases = cases();
    assert!(cases.len() > 100 && REFUSED.iter().all(|(name, ..)| cases.iter().any(|case| case.name == *name)));
    for case in &cases {
        let name = &case.name;
        let (_folder, path) = case.write();
        if let Some((_, field, words)) = case.refused() {
            let said = read_image(&path).unwrap_err().to_string();
            let file = path.with_extension(if self::pair(&path) { "hdr" } else { "nii" });
            assert!(said.starts_with(&format!("{}: {field}: ", file.display())), "{name}: {said}");
            assert!(words.iter().all(|word| said.contains(word)) && !said.contains('\n'), "{name}: {said}");
            continue;
        }
        let (affine, size) = (case.affine.unwrap(), case.size.unwrap());
        let image = read_image(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(image.geometry.size, size, "{name}");
        for (found, expected) in image.geometry.affine.iter().flatten().zip(affine.iter().flatten()) {
            assert!((found - expected).abs() < 1e-9, "{name}: {:?} is not {affine:?}", image.geometry.affine);
        }
        let expected: Vec<f32> = case.values.iter().map(|value| *value as f32).collect();
        assert_eq!(image.data.iter().copied().collect::<Vec<_>>(), expected, "{name}");
        // Channels and headers are read by the same rules.
        assert_eq!(read_channels(&path).unwrap().0.into_raw_vec_and_offset().0, expected, "{name}");
        assert_eq!(read_header(&path).unwrap().geometry, image.geometry, "{name}");
    }
}

fn pair(path: &Path) -> bool {
    voxfit::volume::pair_stem(path).is_some()
}

/// Position and bytes of what places a grid, by version: pixdim, units, codes, quaternion, offset and sform.
const PLACEMENT: [&[(usize, usize, usize)]; 2] =
    [&[(76, 8, 4), (252, 2, 2), (256, 18, 4)], &[(104, 8, 8), (344, 2, 4), (352, 18, 8), (500, 1, 4)]];

#[test]
fn label_maps_come_back_on_exactly_the_grid_of_their_input() {
    let keep = env::var_os("VOXFIT_FORMATS_KEEP").map(PathBuf::from);
    for (number, case) in cases().iter().enumerate().filter(|(_, case)| case.refused().is_none()) {
        let name = &case.name;
        let (folder, path) = case.write();
        let native = read_header(&path).unwrap().native;
        let [z, y, x] = native.array_shape();
        let labels = Array3::from_shape_fn((z, y, x), |(k, j, i)| ((k * y + j) * x + i) as u16);
        let out = folder.path().join("labels.nii.gz");
        write_labels(&out, labels.view(), &native).unwrap();
        assert_eq!(read_labels(&out).unwrap().data, labels, "{name}");
        if let Some(keep) = &keep {
            fs::create_dir_all(keep).unwrap();
            fs::copy(&out, keep.join(format!("{number}.nii.gz"))).unwrap();
        }

        let header = unpacked(&case.content(&case.open));
        let written = unpacked(&fs::read(&out).unwrap());
        let second = header[..4] == 540i32.to_le_bytes() || header[..4] == 540i32.to_be_bytes();
        let big_endian = header[0] == 0;
        assert_eq!(written[..4], if second { 540i32.to_le_bytes() } else { 348i32.to_le_bytes() }, "{name}");
        for &(start, count, bytes) in PLACEMENT[usize::from(second)] {
            for at in (start..start + count * bytes).step_by(bytes) {
                let mut expected = header[at..at + bytes].to_vec();
                if big_endian {
                    expected.reverse();
                }
                assert_eq!(written[at..at + bytes], expected, "{name}: bytes from {at} on");
            }
        }
        if !second {
            assert_eq!(written[123], header[123], "{name}: units");
        }
    }
}

/// The table names every case, and no case that is not there.
#[test]
fn the_table_has_a_row_for_every_case() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/formats.md")).unwrap();
    let (_, after) = page.split_once("<!-- cases -->").unwrap();
    let (table, _) = after.split_once("<!-- end of cases -->").unwrap();
    let first_column =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |").map(|(cell, _)| cell));
    let mut named: Vec<String> = first_column
        .flat_map(|cell| cell.split('`').step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .filter(|name| !name.is_empty())
        .collect();
    named.sort();
    let mut known: Vec<String> = cases()
        .into_iter()
        .map(|case| if case.name.starts_with("orientation ") { "orientation RAS".into() } else { case.name })
        .collect();
    known.sort();
    known.dedup();
    assert_eq!(named, known);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_a_pair_is_found_where_the_link_is() {
    let cases = cases();
    let of = |name: &str| cases.iter().find(|case| case.name == name).unwrap();
    let links = tempfile::tempdir().unwrap();
    for name in ["name beyond ASCII", "pair"] {
        let case = of(name);
        let (folder, path) = case.write();
        for file in case.files.keys() {
            std::os::unix::fs::symlink(folder.path().join(file), links.path().join(file)).unwrap();
        }
        let link = links.path().join(&case.open);
        assert_eq!(read_image(&link).unwrap().data, read_image(&path).unwrap().data, "{name}");
    }
    let gone = links.path().join("gone.nii");
    std::os::unix::fs::symlink("nowhere.nii", &gone).unwrap();
    assert!(read_image(&gone).unwrap_err().to_string().contains("gone.nii"));
}

#[test]
fn half_a_pair_is_refused_by_what_it_lacks() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "pair").unwrap();
    for (kept, lacks) in [("case.hdr", "voxels (.img"), ("case.img", "header (.hdr")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(kept);
        fs::write(&path, case.content(kept)).unwrap();
        let said = read_image(&path).unwrap_err().to_string();
        assert!(said.starts_with(&format!("{}: pair: its {lacks}", path.display())), "{said}");
    }
    // Voxels cut short are told by their own file.
    let (folder, path) = case.write();
    let voxels = folder.path().join("case.img");
    fs::write(&voxels, &case.content("case.img")[..40]).unwrap();
    let said = read_image(&path).unwrap_err().to_string();
    assert!(said.starts_with(&format!("{}: dim: ", voxels.display())) || said.contains("the file holds 40"), "{said}");
}

/// Whatever a byte of a pair's header becomes, the pair is read or refused with the name of one of its files.
#[test]
fn any_byte_of_a_pairs_header_may_be_wrong() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "pair").unwrap();
    let (folder, path) = case.write();
    let header = case.content("case.hdr");
    for at in 0..header.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = header.clone();
            damaged[at] ^= change;
            fs::write(&path, &damaged).unwrap();
            match read_channels(&path) {
                Ok((data, ..)) => assert!(data.len() <= 48, "byte {at}"),
                Err(error) => assert!(error.to_string().starts_with(&folder.path().display().to_string()), "{error}"),
            }
        }
    }
}
