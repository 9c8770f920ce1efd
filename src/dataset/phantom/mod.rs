//! A synthetic labelled dataset: organs, bias field, noise; same seed, same bytes.
//!
//! A body with a bright rim holds one organ a class, each with its own look: bright, bright with a dark core, dark, and
//! so on. Vessels, spine, muscles, gut and nodules have the same intensities and no label, so that no threshold finds an
//! organ (`tests/phantom.rs` measures it) but its shape, size and surroundings do, mirrored or not. Every number comes
//! from a named random stream and from arithmetic that is the same on every machine (`libm`, no fused operations).
mod anatomy;
mod draw;
mod files;
mod render;
mod shape;

use std::fs;
use std::path::Path;

use rayon::prelude::*;

use super::DatasetError;
use anatomy::Anatomy;

/// Foreground classes a phantom can have at most.
pub const MOST_CLASSES: usize = anatomy::NAMES.len();

const CASES: std::ops::RangeInclusive<usize> = 1..=100_000;
const SIZES: std::ops::RangeInclusive<usize> = 16..=1024;
/// mm.
const SPACINGS: std::ops::RangeInclusive<f64> = 0.01..=100.0;

/// Defaults are those of `volumes/phantom`.
#[derive(Clone, Debug, PartialEq)]
pub struct PhantomOptions {
    /// 1 to 100,000.
    pub cases: usize,
    /// Voxels x, y, z, each 16 to 1024.
    pub size: [usize; 3],
    /// mm, each 0.01 to 100.
    pub spacing: [f64; 3],
    /// Hounsfield units and no bias field instead of an MRI's arbitrary units.
    pub ct: bool,
    /// Foreground classes, 1 to [`MOST_CLASSES`].
    pub classes: usize,
    /// The same seed gives the same bytes.
    pub seed: u64,
}

impl Default for PhantomOptions {
    fn default() -> Self {
        Self { cases: 12, size: [40, 32, 32], spacing: [1.0, 1.0, 1.2], ct: false, classes: 3, seed: 0 }
    }
}

/// Writes the dataset in MSD layout into `folder`, which must be missing or empty: `imagesTr/phantom_001.nii.gz`
/// (int16), `labelsTr/phantom_001.nii.gz` (uint8), ..., each file at once, and `dataset.json` last.
///
/// # Errors
/// An option out of its range, a folder with something in it, a failure of the file system.
pub fn write(folder: &Path, options: &PhantomOptions) -> Result<(), DatasetError> {
    validate(folder, options)?;
    let io = |source| DatasetError::Io { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(io)?;
    if fs::read_dir(folder).map_err(io)?.next().is_some() {
        let (problem, cure) = ("something is in it already", "name a folder that is missing or empty");
        return Err(invalid(folder, "output folder", problem.into(), cure.into()));
    }
    (0..options.cases).into_par_iter().try_for_each(|case| {
        let anatomy = Anatomy::draw(options, case as u64);
        files::write_case(folder, options, case, &anatomy)
    })?;
    files::write_description(folder, options)
}

fn validate(folder: &Path, options: &PhantomOptions) -> Result<(), DatasetError> {
    let refuse = |field: &str, found: String, cure: String| Err(invalid(folder, field, found, cure));
    if !CASES.contains(&options.cases) {
        let cure = format!("take {} to {}", CASES.start(), CASES.end());
        return refuse("--cases", format!("{} cases cannot be made", options.cases), cure);
    }
    if !(1..=MOST_CLASSES).contains(&options.classes) {
        let cure = format!("take 1 to {MOST_CLASSES}");
        return refuse("--classes", format!("{} foreground classes cannot be made", options.classes), cure);
    }
    for (axis, (size, spacing)) in ["x", "y", "z"].iter().zip(options.size.iter().zip(options.spacing)) {
        if !SIZES.contains(size) {
            let cure = format!("take {} to {} voxels along each axis", SIZES.start(), SIZES.end());
            return refuse("--size", format!("{size} voxels along {axis} cannot be made"), cure);
        }
        if !SPACINGS.contains(&spacing) {
            let cure = format!("take {} to {} mm along each axis", SPACINGS.start(), SPACINGS.end());
            return refuse("--spacing", format!("{spacing} mm along {axis} cannot be made"), cure);
        }
    }
    Ok(())
}

fn invalid(path: &Path, field: &str, problem: String, cure: String) -> DatasetError {
    DatasetError::Invalid { path: path.to_owned(), field: field.to_owned(), problem, cure }
}
