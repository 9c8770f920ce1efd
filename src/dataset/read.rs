//! Reads a case's volumes and states what is wrong with them; the doctor and the preparation use the same tests.
use std::path::{Path, PathBuf};

use ndarray::{Array3, Array4, ArrayView3, Axis};

use super::{Case, DatasetError, Remap, room};
use crate::volume::{self, Geometry, GridDifference, Header, Labels, NativeGrid};

/// Two grids are one where no corner is further apart than this, in voxels. Headers written by different programs differ
/// by 1e-8 to 1e-4 per entry (direction cosines with four decimals), which a volume multiplies by its size; a real
/// misalignment is rarely below half a voxel.
pub(super) const GRID_TOLERANCE: f64 = 0.05;

/// The channels of a case before anything is done to them.
pub(super) struct Raw {
    /// `[channel, z, y, x]`.
    pub data: Array4<f32>,
    pub geometry: Geometry,
    pub native: NativeGrid,
}

/// Reads `files`, one per channel or one 4D file, which must hold `channels` channels on one grid, all finite.
pub(super) fn channels(files: &[PathBuf], channels: usize) -> Result<Raw, DatasetError> {
    let Some(first) = files.first() else {
        return Err(DatasetError::invalid("", "images", "no image file is given", "name one file per channel"));
    };
    let headers = headers(files, channels)?;
    let geometry = headers[0].geometry.clone();
    if let [single] = files {
        let (data, geometry, native) = if headers[0].volumes == 1 {
            let image = volume::read_image(single)?;
            (image.data.insert_axis(Axis(0)), image.geometry, image.native)
        } else {
            volume::read_channels(single)?
        };
        for channel in data.outer_iter() {
            none(not_finite(single, channel))?;
        }
        return Ok(Raw { data, geometry, native });
    }
    let [x, y, z] = geometry.size;
    // All of them, and the one that is read; each header was held against its own file alone.
    let bytes = voxels(geometry.size).saturating_mul(4 * (channels as u64 + 1));
    let cure = "crop or resample the volumes, or use a machine with more memory";
    room::refuse_too_large(
        first,
        &format!("a case of {channels} channels of {} voxels", by(geometry.size)),
        bytes,
        cure,
    )?;
    let mut data = Array4::zeros((channels, z, y, x));
    for (file, mut channel) in files.iter().zip(data.outer_iter_mut()) {
        let image = volume::read_image(file)?;
        none(not_finite(file, image.data.view()))?;
        none(size_differs(file, image.data.view(), channel.view(), first))?;
        channel.assign(&image.data);
    }
    Ok(Raw { data, geometry, native: headers[0].native.clone() })
}

/// Reads every header and looks that there are as many channels as there should be, on one grid.
pub(super) fn headers(files: &[PathBuf], channels: usize) -> Result<Vec<Header>, DatasetError> {
    let mut headers = Vec::with_capacity(files.len());
    for file in files {
        let header = volume::read_header(file)?;
        none(wrong_volumes(file, &header, files.len(), channels))?;
        none(
            headers.first().and_then(|first: &Header| grids_differ(file, &header.geometry, &first.geometry, &files[0])),
        )?;
        headers.push(header);
    }
    none(wrong_file_count(&files[0], files.len(), channels))?;
    Ok(headers)
}

/// Reads a label map with its values exchanged: what the rest of the program takes for what the file holds.
///
/// # Errors
/// As [`volume::read_labels`].
pub fn label_map(file: &Path, remap: &Remap) -> Result<Labels, DatasetError> {
    let mut labels = volume::read_labels(file)?;
    remap.apply(&mut labels.data);
    Ok(labels)
}

/// Reads the label map of `case`, which must stand on `geometry` and hold only classes and the ignore label.
pub(super) fn labels(
    case: &Case,
    remap: &Remap,
    geometry: &Geometry,
    classes: usize,
    ignore: Option<u16>,
) -> Result<Array3<u16>, DatasetError> {
    let header = volume::read_header(&case.label)?;
    let image = case.images.first().map_or(Path::new(""), PathBuf::as_path);
    none(wrong_volumes(&case.label, &header, 1, 1))?;
    none(grids_differ(&case.label, &header.geometry, geometry, image))?;
    let labels = label_map(&case.label, remap)?;
    none(unexpected_values(&case.label, &histogram(labels.data.view()), classes, ignore))?;
    Ok(labels.data)
}

fn none(fault: Option<DatasetError>) -> Result<(), DatasetError> {
    fault.map_or(Ok(()), Err)
}

/// `files` of `channels`: neither one per channel nor one for all.
pub(super) fn wrong_file_count(file: &Path, files: usize, channels: usize) -> Option<DatasetError> {
    (files != 1 && files != channels).then(|| {
        DatasetError::invalid(
            file,
            "images",
            format!("{files} image files for {channels} channels"),
            "give one file per channel in the dataset's order, or one 4D file with all of them",
        )
    })
}

/// A file with too many or too few volumes along its fourth axis.
pub(super) fn wrong_volumes(file: &Path, header: &Header, files: usize, channels: usize) -> Option<DatasetError> {
    let expected = if files == 1 { channels } else { 1 };
    let found = header.volumes;
    if found == expected {
        return None;
    }
    let (problem, cure) = match (found, expected) {
        (_, 1) => (
            format!("is 4D with {found} volumes where a 3D volume is expected"),
            "split it into one 3D file per channel, or name all its channels in dataset.json".to_string(),
        ),
        (1, _) => (
            format!("holds 1 channel where {expected} are expected"),
            format!("give {expected} files, one per channel, or a 4D file with {expected} volumes"),
        ),
        _ => (
            format!("holds {found} channels where {expected} are expected"),
            "make the channels of the file and those named in dataset.json agree".to_string(),
        ),
    };
    Some(DatasetError::invalid(file, "dim", problem, cure))
}

/// `file` on another grid than `other`.
pub(super) fn grids_differ(file: &Path, grid: &Geometry, against: &Geometry, other: &Path) -> Option<DatasetError> {
    let other = other.file_name().unwrap_or_default().to_string_lossy();
    let (field, problem, cure) = match grid.difference(against, GRID_TOLERANCE)? {
        GridDifference::Size { a, b } => (
            "dim",
            format!("has {} voxels where {other} has {}", by(a), by(b)),
            format!("resample it onto the grid of {other}"),
        ),
        GridDifference::Position { mm, voxels } => (
            "affine",
            format!("stands up to {mm:.3} mm ({voxels:.3} voxels) off {other}"),
            format!(
                "resample it onto the grid of {other}, or copy that file's header where the voxels are known to match"
            ),
        ),
    };
    Some(DatasetError::invalid(file, field, problem, cure))
}

/// Reading gave another size than the header said: the file changed in between.
fn size_differs(
    file: &Path,
    data: ArrayView3<'_, f32>,
    expected: ArrayView3<'_, f32>,
    other: &Path,
) -> Option<DatasetError> {
    (data.dim() != expected.dim()).then(|| {
        DatasetError::invalid(
            file,
            "dim",
            "changed while it was read",
            format!("read it and {} again", other.display()),
        )
    })
}

/// NaN or infinite voxels: how many, and where the first is.
pub(super) fn not_finite(file: &Path, data: ArrayView3<'_, f32>) -> Option<DatasetError> {
    let mut found = NotFinite::default();
    found.look([0; 3], data);
    found.fault(file)
}

/// The same of a volume that comes in pieces.
#[derive(Default)]
pub(super) struct NotFinite {
    count: usize,
    /// z, y, x.
    first: Option<([usize; 3], f32)>,
}

impl NotFinite {
    /// At a box from `start` on, z, y, x.
    pub fn look(&mut self, start: [usize; 3], data: ArrayView3<'_, f32>) {
        let count = data.iter().filter(|value| !value.is_finite()).count();
        if count == 0 {
            return;
        }
        self.count += count;
        let first = data.indexed_iter().find(|(_, value)| !value.is_finite());
        let placed = first.map(|((z, y, x), value)| ([start[0] + z, start[1] + y, start[2] + x], *value));
        self.first = self.first.into_iter().chain(placed).min_by_key(|(place, _)| *place);
    }

    pub fn fault(&self, file: &Path) -> Option<DatasetError> {
        let ([z, y, x], value) = self.first?;
        let count = self.count;
        Some(DatasetError::invalid(
            file,
            "voxels",
            format!("{count} are NaN or infinite, the first ({value}) at x, y, z = {x}, {y}, {z}"),
            "replace them by a finite background value",
        ))
    }
}

/// Every voxel the same: nothing can be learnt from it and its deviation is 0.
pub(super) fn constant(file: &Path, data: ArrayView3<'_, f32>) -> Option<DatasetError> {
    let first = *data.first()?;
    (data.len() > 1 && data.iter().all(|&value| value == first)).then(|| {
        DatasetError::invalid(
            file,
            "voxels",
            format!("every voxel is {first}"),
            "export the image again, or leave the case out",
        )
    })
}

/// Voxels of each value, 0 to 65535.
pub(super) fn histogram(data: ArrayView3<'_, u16>) -> Vec<u64> {
    let mut counts = vec![0; 1 << 16];
    data.iter().for_each(|&value| counts[usize::from(value)] += 1);
    counts
}

/// Values that are neither a class nor the ignore label.
pub(super) fn unexpected_values(
    file: &Path,
    histogram: &[u64],
    classes: usize,
    ignore: Option<u16>,
) -> Option<DatasetError> {
    let unexpected: Vec<(usize, u64)> = histogram
        .iter()
        .copied()
        .enumerate()
        .filter(|&(value, count)| count > 0 && value >= classes && ignore.map(usize::from) != Some(value))
        .collect();
    if unexpected.is_empty() {
        return None;
    }
    let mut named: Vec<String> =
        unexpected.iter().take(5).map(|(value, count)| format!("{value} ({count} voxels)")).collect();
    if unexpected.len() > 5 {
        named.push(format!("{} more", unexpected.len() - 5));
    }
    let cure = match unexpected[..] {
        [(value, _)] if classes == 2 && histogram[1] == 0 => {
            format!("write `remap = {{ {value} = 1 }}` under [data], or the label map anew")
        }
        _ => "name them under `labels` in dataset.json, or exchange them by data.remap".to_string(),
    };
    Some(DatasetError::invalid(
        file,
        "voxels",
        format!("values that dataset.json does not name: {}", named.join(", ")),
        cure,
    ))
}

fn by(size: [usize; 3]) -> String {
    size.map(|voxels| voxels.to_string()).join("x")
}

/// Bytes that reading and preparing a case takes at most, about: `from` voxels in the file, `to` on the prepared grid.
pub(super) fn cost(from: u64, to: u64, channels: usize) -> u64 {
    let channels = channels as u64;
    // Raw and cropped channels f32, label and its crop, mask and its working copy; the prepared channels f32, the label,
    // and the resampler's working copies of one channel.
    let read = from.saturating_mul(8 * channels + 4 + 2);
    read.saturating_add(made_of(to, channels))
}

/// The share of [`cost`] that is still to come once the volumes were read: of the crop of `from` voxels, and of the
/// prepared grid of `to`.
pub(super) fn made(from: u64, to: u64, channels: u64) -> u64 {
    from.saturating_mul(4 * channels + 2 + 2).saturating_add(made_of(to, channels))
}

fn made_of(to: u64, channels: u64) -> u64 {
    to.saturating_mul(4 * channels + 2 + 8)
}

/// Voxels of a grid, saturating.
pub(super) fn voxels(size: [usize; 3]) -> u64 {
    size.iter().fold(1, |product: u64, &voxels| product.saturating_mul(voxels as u64))
}
