//! Reads a case's volumes and states what is wrong with them; the doctor and the preparation use the same tests.
use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayView3};

use super::{Case, DatasetError, Remap, room};
use crate::volume::{self, Geometry, GridDifference, Header, Labels, NativeGrid, resample};

/// Two grids are one where no corner is further apart than this, in voxels. Headers written by different programs differ
/// by 1e-8 to 1e-4 per entry (direction cosines with four decimals), which a volume multiplies by its size; a real
/// misalignment is rarely below half a voxel.
pub(super) const GRID_TOLERANCE: f64 = 0.05;

/// The channels of a case before anything is done to them.
pub(super) struct Raw {
    /// By channel, `[z, y, x]`.
    pub data: Vec<Array3<f32>>,
    pub geometry: Geometry,
    pub native: NativeGrid,
}

/// Reads `files`, one per channel or one 4D file, which must hold `channels` channels on one grid, all finite.
pub(super) fn channels(files: &[PathBuf], channels: usize) -> Result<Raw, DatasetError> {
    let Some(first) = files.first() else {
        return Err(DatasetError::invalid("", "images", "no image file is given", "name one file per channel"));
    };
    let mut headers = headers(files, channels)?;
    let geometry = headers[0].geometry.clone();
    let data = if let [single] = files {
        let (data, again, _) = volume::read_each_channel(single)?;
        none((again.size != geometry.size || data.len() != channels).then(|| changed(single, single)))?;
        for channel in &data {
            none(not_finite(single, channel.view()))?;
        }
        data
    } else {
        // Each header was held against its own file alone.
        let bytes = voxels(geometry.size).saturating_mul(4 * channels as u64);
        let cure = "crop or resample the volumes, or use a machine with more memory";
        let what = format!("a case of {channels} channels of {} voxels", by(geometry.size));
        room::refuse_too_large(first, &what, bytes, cure)?;
        let mut data = Vec::with_capacity(channels);
        for file in files {
            let image = volume::read_image(file)?;
            none((image.geometry.size != geometry.size).then(|| changed(file, first)))?;
            none(not_finite(file, image.data.view()))?;
            data.push(image.data);
        }
        data
    };
    Ok(Raw { data, geometry, native: headers.swap_remove(0).native })
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

/// Looks whether the label map of `case` stands on `geometry`, by its header.
pub(super) fn label_header(case: &Case, geometry: &Geometry) -> Result<(), DatasetError> {
    let header = volume::read_header(&case.label)?;
    let image = case.images.first().map_or(Path::new(""), PathBuf::as_path);
    none(wrong_volumes(&case.label, &header, 1, 1))?;
    none(grids_differ(&case.label, &header.geometry, geometry, image))
}

/// Reads the label map of `case`, which must stand on `geometry` and hold only classes and the ignore label.
pub(super) fn labels(
    case: &Case,
    remap: &Remap,
    geometry: &Geometry,
    classes: usize,
    ignore: Option<u16>,
) -> Result<Array3<u16>, DatasetError> {
    label_header(case, geometry)?;
    let labels = label_map(&case.label, remap)?;
    let image = case.images.first().unwrap_or(&case.label);
    none((labels.geometry.size != geometry.size).then(|| changed(&case.label, image)))?;
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

/// Reading gave another size than the header said.
fn changed(file: &Path, other: &Path) -> DatasetError {
    let cure = format!("read it and {} again", other.display());
    DatasetError::invalid(file, "dim", "changed while it was read", cure)
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
    // Labels come in runs: a run is counted at once.
    let (mut last, mut run) = (0, 0);
    data.iter().for_each(|&value| {
        if value != last {
            counts[usize::from(last)] += run;
            (last, run) = (value, 0);
        }
        run += 1;
    });
    counts[usize::from(last)] += run;
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

/// A case's grids, of which follow the bytes that its preparation takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grids {
    /// Voxels of the file, or of its crop, z, y, x.
    pub from: [usize; 3],
    /// On the prepared grid; no voxel where a case is only read.
    pub to: [usize; 3],
    /// The coarse axis that is resampled alone.
    pub separate: Option<usize>,
    pub channels: usize,
}

impl Grids {
    /// Bytes that reading and preparing the case takes at most, about.
    pub fn cost(self) -> u64 {
        let (from, channels) = (voxels(self.from), self.channels as u64);
        // All channels as they are read, f32; their mask and its working copy, a bit each; the piece that is being read.
        let read = from.saturating_mul(4 * channels).saturating_add(from / 4);
        let piece = from.saturating_mul(4).min(volume::PIECE_BYTES as u64);
        let prepared = match voxels(self.to) {
            0 => read.saturating_add(from.saturating_mul(2)),
            // The label is read beside what was prepared, when all that was read of the image is gone.
            _ => read.saturating_add(self.image()).max(self.labelled()),
        };
        prepared.saturating_add(piece)
    }

    /// The share of [`cost`](Self::cost) that is still to come once the image was read.
    pub fn made(self) -> u64 {
        let read = voxels(self.from).saturating_mul(4 * self.channels as u64);
        self.image().max(self.labelled().saturating_sub(read))
    }

    /// What preparing the image holds at most beside what was read of it: the crop of a channel, or the resampler's volumes
    /// once that took its place; and all channels together as they come, where there are several.
    fn image(self) -> u64 {
        let (from, to, channels) = (voxels(self.from), voxels(self.to), self.channels as u64);
        let crop = from.saturating_mul(4);
        let resampler = resample::peak_bytes(self.from, self.to, self.separate).saturating_sub(crop);
        let together = if channels > 1 { to.saturating_mul(4 * channels) } else { 0 };
        crop.max(resampler).saturating_add(together)
    }

    /// The prepared image beside the label, u16, before and after resampling.
    fn labelled(self) -> u64 {
        let (from, to, channels) = (voxels(self.from), voxels(self.to), self.channels as u64);
        to.saturating_mul(4 * channels + 2).saturating_add(from.saturating_mul(2))
    }
}

/// Voxels of a grid, saturating.
pub(super) fn voxels(size: [usize; 3]) -> u64 {
    size.iter().fold(1, |product: u64, &voxels| product.saturating_mul(voxels as u64))
}
