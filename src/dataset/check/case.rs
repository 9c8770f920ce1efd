//! What one case shows by itself.
use std::path::{Path, PathBuf};

use ndarray::ArrayView3;
use sha2::{Digest, Sha256};

use crate::dataset::{Case, Dataset, DatasetError, read};
use crate::volume::{self, GridDifference, Header};

/// What was seen of a case.
#[derive(Default)]
pub(super) struct Looked {
    pub faults: Vec<DatasetError>,
    pub warnings: Vec<DatasetError>,
    /// Voxels of each class; none where the label map could not be read.
    pub classes: Option<Vec<u64>>,
    /// Values of the label map that nobody named, and the place among the faults of the one that says so.
    pub unnamed: Option<(usize, Vec<u16>)>,
    /// Of the first image.
    pub header: Option<Header>,
    /// Of every CT channel that is sound.
    pub cts: Vec<Ct>,
    /// SHA-256 of the voxels of every channel, in order; empty where one could not be read.
    pub images: Vec<[u8; 32]>,
    /// The same of the label map.
    pub label: Option<[u8; 32]>,
}

/// A CT channel.
pub(super) struct Ct {
    pub channel: usize,
    pub file: PathBuf,
    pub never_negative: bool,
}

pub(super) fn look_at(dataset: &Dataset, case: &Case) -> Looked {
    let mut looked = Looked::default();
    let mut digests = Some(Vec::new());
    let mut first = None;
    let channels = dataset.channels.len();
    looked
        .faults
        .extend(case.images.first().and_then(|file| read::wrong_file_count(file, case.images.len(), channels)));
    for (index, file) in case.images.iter().enumerate() {
        let header = match volume::read_header(file) {
            Ok(header) => header,
            Err(error) => {
                looked.faults.push(error.into());
                digests = None;
                continue;
            }
        };
        let wrong = read::wrong_volumes(file, &header, case.images.len(), channels);
        let sound = wrong.is_none();
        looked.faults.extend(wrong);
        looked.warnings.extend(forms_apart(file, &header));
        match &first {
            None => first = Some((file, header.geometry.clone())),
            Some((other, geometry)) => {
                looked.faults.extend(read::grids_differ(file, &header.geometry, geometry, other));
            }
        }
        let volumes = header.volumes;
        looked.header.get_or_insert(header);
        let seen = if sound { look_at_voxels(dataset, file, index, volumes, &mut looked) } else { None };
        digests = digests.zip(seen).map(|(all, seen)| [all, seen].concat());
    }
    looked.images = digests.unwrap_or_default();
    for (channel, digest) in looked.images.iter().enumerate() {
        if let Some(same) = looked.images[..channel].iter().position(|other| other == digest) {
            let file = case.images.get(channel).or(case.images.first()).map_or(Path::new(""), |file| file.as_path());
            let problem = format!("channel {channel} has the same voxels as channel {same}");
            looked.warnings.push(DatasetError::invalid(file, "voxels", problem, "put the right image in its place"));
        }
    }
    match volume::read_header(&case.label) {
        Ok(header) => {
            let wrong = read::wrong_volumes(&case.label, &header, 1, 1);
            let sound = wrong.is_none();
            looked.faults.extend(wrong);
            looked.warnings.extend(forms_apart(&case.label, &header));
            if let Some((other, geometry)) = &first {
                looked.faults.extend(read::grids_differ(&case.label, &header.geometry, geometry, other));
            }
            if sound {
                look_at_labels(dataset, case, &mut looked);
            }
        }
        Err(error) => looked.faults.push(error.into()),
    }
    looked
}

/// sform and qform that put the volume in two places.
fn forms_apart(file: &Path, header: &Header) -> Option<DatasetError> {
    let GridDifference::Position { mm, voxels } = header.native.forms_apart(read::GRID_TOLERANCE)? else { return None };
    let problem = format!("qform and sform are up to {mm:.3} mm ({voxels:.3} voxels) apart; the sform is taken");
    let cure =
        "where the qform is right, set sform_code to 0; else set the qform to the sform, so that all programs agree";
    Some(DatasetError::invalid(file, "sform", problem, cure))
}

fn look_at_voxels(
    dataset: &Dataset,
    file: &Path,
    index: usize,
    volumes: usize,
    looked: &mut Looked,
) -> Option<Vec<[u8; 32]>> {
    let channels = if volumes == 1 {
        volume::read_image(file).map(|image| image.data.insert_axis(ndarray::Axis(0)))
    } else {
        volume::read_channels(file).map(|(data, ..)| data)
    };
    let channels = match channels {
        Ok(channels) => channels,
        Err(error) => {
            looked.faults.push(error.into());
            return None;
        }
    };
    let mut digests = Vec::new();
    for (at, channel) in channels.outer_iter().enumerate() {
        let fault = read::not_finite(file, channel).or_else(|| read::constant(file, channel));
        let is_ct = dataset.channels.get(index + at).is_some_and(|channel| channel.is_ct);
        if is_ct && fault.is_none() {
            let never_negative = channel.iter().all(|&value| value >= 0.0);
            looked.cts.push(Ct { channel: index + at, file: file.to_owned(), never_negative });
        }
        looked.faults.extend(fault);
        digests.push(digest(channel));
    }
    Some(digests)
}

fn look_at_labels(dataset: &Dataset, case: &Case, looked: &mut Looked) {
    let labels = match read::label_map(&case.label, &dataset.remap) {
        Ok(labels) => labels,
        Err(error) => return looked.faults.push(error),
    };
    let counts = read::histogram(labels.data.view());
    let classes = dataset.classes.len();
    if let Some(fault) = read::unexpected_values(&case.label, &counts, classes, dataset.ignore) {
        let named = |value: usize| value < classes || dataset.ignore.map(usize::from) == Some(value);
        let unnamed = (0..counts.len()).filter(|&value| counts[value] > 0 && !named(value)).map(|value| value as u16);
        looked.unnamed = Some((looked.faults.len(), unnamed.collect()));
        looked.faults.push(fault);
    } else if counts[1..].iter().all(|count| *count == 0) {
        let cure = "look whether the outline was lost; where there is nothing to outline, all is well";
        looked.warnings.push(DatasetError::invalid(&case.label, "voxels", "every voxel is background", cure));
    }
    looked.classes = Some(counts[..classes.min(counts.len())].to_vec());
    looked.label = Some(digest(labels.data.view()));
}

/// Of the voxels as they are read, in RAS orientation: however the file was packed.
fn digest<T: bytemuck::NoUninit>(data: ArrayView3<'_, T>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let (z, y, x) = data.dim();
    [z, y, x].iter().for_each(|size| hash.update((*size as u64).to_le_bytes()));
    for plane in data.outer_iter() {
        match plane.as_slice() {
            Some(values) => hash.update(bytemuck::cast_slice(values)),
            None => plane.iter().for_each(|value| hash.update(bytemuck::bytes_of(value))),
        }
    }
    hash.finalize().into()
}
