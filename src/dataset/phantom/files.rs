//! The files of a phantom dataset: NIfTI-1 written slice by slice, and `dataset.json`.
use std::io::{self, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};

use super::anatomy::{Anatomy, NAMES};
use super::render::Scanner;
use super::{DatasetError, PhantomOptions};
use crate::files::{write_atomically, write_bytes};

/// NIfTI-1 datatype codes.
const UINT8: i16 = 2;
const INT16: i16 = 4;
/// Header and the four bytes that say that no extension follows.
const DATA_STARTS: usize = 352;

/// Writes image and label of case number `case` (from 0).
pub fn write_case(folder: &Path, options: &PhantomOptions, case: usize, anatomy: &Anatomy) -> Result<(), DatasetError> {
    let scanner = Scanner::draw(options, case as u64);
    let image = folder.join(image_name(case));
    write_volume(&image, options, INT16, |z| {
        scanner.slice(anatomy, z).into_iter().flat_map(i16::to_le_bytes).collect()
    })?;
    let label = folder.join(label_name(case));
    write_volume(&label, options, UINT8, |z| {
        let [width, height, _] = options.size;
        (0..height).flat_map(|y| (0..width).map(move |x| anatomy.label([x, y, z]))).collect()
    })
}

/// Writes `dataset.json`.
pub fn write_description(folder: &Path, options: &PhantomOptions) -> Result<(), DatasetError> {
    let path = folder.join("dataset.json");
    let names = ["background"].into_iter().chain(NAMES).take(options.classes + 1);
    let labels: Vec<String> = names.enumerate().map(|(class, name)| format!("    \"{class}\": \"{name}\"")).collect();
    let cases: Vec<String> = (0..options.cases)
        .map(|case| format!("    {{\"image\": \"./{}\", \"label\": \"./{}\"}}", image_name(case), label_name(case)))
        .collect();
    let (modality, [x, y, z], seed) = (if options.ct { "CT" } else { "MRI" }, options.size, options.seed);
    let text = format!(
        "{{\n  \"name\": \"Phantom\",\n  \
         \"description\": \"Synthetic bodies, {x} x {y} x {z} voxels, seed {seed}, made by voxfit phantom\",\n  \
         \"licence\": \"CC0-1.0\",\n  \"tensorImageSize\": \"3D\",\n  \
         \"modality\": {{\n    \"0\": \"{modality}\"\n  }},\n  \"labels\": {{\n{}\n  }},\n  \
         \"numTraining\": {},\n  \"numTest\": 0,\n  \"training\": [\n{}\n  ],\n  \"test\": []\n}}\n",
        labels.join(",\n"),
        options.cases,
        cases.join(",\n"),
    );
    write_bytes(&path, text.as_bytes()).map_err(|source| DatasetError::Io { path, source })
}

fn image_name(case: usize) -> String {
    format!("imagesTr/phantom_{:03}.nii.gz", case + 1)
}

fn label_name(case: usize) -> String {
    format!("labelsTr/phantom_{:03}.nii.gz", case + 1)
}

/// Writes a `.nii.gz` whose slices, little-endian, come from `slice`; one slice is in memory at a time.
fn write_volume(
    path: &Path,
    options: &PhantomOptions,
    datatype: i16,
    slice: impl Fn(usize) -> Vec<u8>,
) -> Result<(), DatasetError> {
    write_atomically(path, |file| -> io::Result<()> {
        // no time and no system in the gzip header: the bytes depend on the options alone
        let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(file, Compression::new(6));
        gzip.write_all(&header(options, datatype))?;
        for z in 0..options.size[2] {
            gzip.write_all(&slice(z))?;
        }
        gzip.finish()?;
        Ok(())
    })
    .map_err(|source| DatasetError::Io { path: path.to_owned(), source })
}

/// A NIfTI-1 header (nifti1.h): a RAS grid by its sform, the middle of the volume at the origin.
fn header(options: &PhantomOptions, datatype: i16) -> [u8; DATA_STARTS] {
    let mut header = [0; DATA_STARTS];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348_i32.to_le_bytes());
    let [x, y, z] = options.size.map(|size| size as i16);
    for (place, dim) in [3, x, y, z, 1, 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * place, &dim.to_le_bytes());
    }
    put(70, &datatype.to_le_bytes());
    put(72, &(if datatype == UINT8 { 8_i16 } else { 16 }).to_le_bytes());
    let spacing = options.spacing.map(|mm| mm as f32);
    for (place, mm) in [1.0, spacing[0], spacing[1], spacing[2]].into_iter().enumerate() {
        put(76 + 4 * place, &mm.to_le_bytes());
    }
    put(108, &(DATA_STARTS as f32).to_le_bytes());
    put(112, &1_f32.to_le_bytes()); // scl_slope
    put(123, &[2]); // xyzt_units: mm
    put(148, b"voxfit phantom");
    put(254, &1_i16.to_le_bytes()); // sform_code: scanner
    for (axis, (size, mm)) in options.size.into_iter().zip(options.spacing).enumerate() {
        let middle = (size - 1) as f64 / 2.0 * mm;
        put(280 + 16 * axis + 4 * axis, &(mm as f32).to_le_bytes());
        put(280 + 16 * axis + 12, &(-middle as f32).to_le_bytes());
    }
    put(344, b"n+1\0");
    header
}
