//! From a case's files to what the network sees: crop to nonzero, normalise, resample (nnU-Net's order).
mod restore;
mod stored;

use std::path::{Path, PathBuf};

use ndarray::{Array3, Array4, ArrayView3, Axis, s};
use serde::{Deserialize, Serialize};

use super::read::{self, Grids, Raw};
use super::{Case, DatasetError, Remap, room};
use crate::volume::normalise::{self, Normalisation};
use crate::volume::{NativeGrid, resample};
use crate::zyx;

pub use restore::{Paint, restore};
pub use stored::{Expected, StoredImage, expected, stored};

/// Most voxels of a prepared grid; beyond it a header's spacing is wrong far more often than the volume is that large.
pub const MAX_VOXELS: u64 = 1 << 31;

/// What is done to every case, in training and in prediction alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preparation {
    /// Target spacing in mm, x, y, z.
    pub spacing: [f64; 3],
    /// One per channel.
    pub normalisation: Vec<Normalisation>,
}

/// A case on the plan's grid.
#[derive(Clone, Debug)]
pub struct PreparedImage {
    /// `[channel, z, y, x]`.
    pub data: Array4<f32>,
    /// How to bring a label map back.
    pub origin: Origin,
}

/// Where a prepared image was taken from: enough to restore a prediction to the input's own grid.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file's own grid, that a label map is written on.
    pub native: NativeGrid,
    /// RAS grid before the crop, voxels z, y, x.
    pub size: [usize; 3],
    /// First voxel of the crop, z, y, x.
    pub crop_start: [usize; 3],
    /// Voxels of the crop before resampling, z, y, x.
    pub crop_size: [usize; 3],
    /// mm, z, y, x, before resampling.
    pub spacing: [f64; 3],
}

/// Reads and prepares the image files of a case (one per channel, or one 4D file). An image that is 0 everywhere is
/// not cropped.
///
/// # Errors
/// A file that cannot be read, channels on different grids or not as many as there are normalisations, voxels that are
/// not finite, a prepared grid above [`MAX_VOXELS`].
pub fn image(files: &[PathBuf], preparation: &Preparation) -> Result<PreparedImage, DatasetError> {
    let raw = read::channels(files, preparation.normalisation.len())?;
    prepare(raw, preparation, files.first().map_or(Path::new(""), PathBuf::as_path))
}

/// Reads and prepares image and label map of a training case: both `[.., z, y, x]` on one grid; checks the label's
/// grid, its values against the dataset's classes, and that image voxels are finite.
///
/// # Errors
/// As [`image`]; a label map on another grid or with values that are neither a class nor `ignore`.
pub fn case(
    case: &Case,
    classes: usize,
    ignore: Option<u16>,
    preparation: &Preparation,
) -> Result<(Array4<f32>, Array3<u16>), DatasetError> {
    remapped_case(case, &Remap::default(), classes, ignore, preparation)
}

/// [`case`] with the values of its label map exchanged.
///
/// # Errors
/// As [`case`].
pub fn remapped_case(
    case: &Case,
    remap: &Remap,
    classes: usize,
    ignore: Option<u16>,
    preparation: &Preparation,
) -> Result<(Array4<f32>, Array3<u16>), DatasetError> {
    let raw = read::channels(&case.images, preparation.normalisation.len())?;
    // Of the label only the grid is looked at before: its voxels are read when those of the image are prepared and what was
    // read of it is let go.
    read::label_header(case, &raw.geometry)?;
    let geometry = raw.geometry.clone();
    let image = case.images.first().map_or(Path::new(""), PathBuf::as_path);
    let PreparedImage { data, origin } = prepare(raw, preparation, image)?;
    let labels = read::labels(case, remap, &geometry, classes, ignore)?;
    let (_, z, y, x) = data.dim();
    let (start, size) = (origin.crop_start, origin.crop_size);
    let labels = if size != [z, y, x] {
        let separate = resample::separate_axis(origin.spacing, zyx(preparation.spacing));
        resample::labels(crop(labels.view(), start, size), [z, y, x], separate)
    } else if size == origin.size {
        labels
    } else {
        crop(labels.view(), start, size).to_owned()
    };
    Ok((data, labels))
}

/// Voxels z, y, x of the prepared grid of a crop of `size` voxels (z, y, x) and `spacing` mm (z, y, x).
pub(super) fn target_size(
    size: [usize; 3],
    spacing: [f64; 3],
    preparation: &Preparation,
    file: &Path,
) -> Result<[usize; 3], DatasetError> {
    let usable = |spacing: &[f64; 3]| spacing.iter().all(|mm| mm.is_finite() && *mm > 0.0);
    let named = |spacing: [f64; 3]| spacing.map(|mm| mm.to_string()).join(", ");
    if !usable(&preparation.spacing) {
        return Err(DatasetError::invalid(
            file,
            "target spacing",
            format!("{} mm is no spacing", named(preparation.spacing)),
            "make every spacing of the plan positive",
        ));
    }
    let to = zyx(preparation.spacing);
    // In floating point first: a spacing far off must not overflow the sizes.
    let estimate: f64 = (0..3).map(|axis| (size[axis] as f64 * spacing[axis] / to[axis]).max(1.0)).product();
    if !usable(&spacing) || estimate.is_nan() || estimate > MAX_VOXELS as f64 {
        return Err(DatasetError::invalid(
            file,
            "pixdim",
            format!(
                "{} voxels of {} mm (x, y, z) make {estimate:.2e} voxels at the plan's {} mm, more than {MAX_VOXELS}",
                crate::xyz(size).map(|voxels| voxels.to_string()).join("x"),
                named(crate::xyz(spacing)),
                named(preparation.spacing),
            ),
            "correct the file's spacing, leave the case out, or plan a coarser spacing",
        ));
    }
    Ok(resample::new_size(size, spacing, to))
}

/// Refuses to crop and resample what memory does not hold beside the volumes that were read.
fn refuse_too_large(grids: Grids, preparation: &Preparation, file: &Path) -> Result<(), DatasetError> {
    room::refuse_too_large(file, &describe(grids, preparation), grids.made(), CURE)
}

const CURE: &str =
    "correct the file's spacing, plan a coarser spacing (data.spacing), or use a machine with more memory";

/// Bytes of volumes that preparing a case of these image files and a label takes at most, were nothing cropped; from the
/// headers alone.
///
/// # Errors
/// As [`expected`].
pub fn bytes(files: &[PathBuf], preparation: &Preparation) -> Result<u64, DatasetError> {
    expected_grids(files, preparation).map(Grids::cost)
}

fn expected_grids(files: &[PathBuf], preparation: &Preparation) -> Result<Grids, DatasetError> {
    let Expected { header, size, prepared } = expected(files, preparation)?;
    Ok(grids(size, prepared, zyx(header.geometry.spacing()), preparation))
}

/// Refuses to prepare what may hold more than `most` bytes (`None` without end), from headers alone: were nothing
/// cropped.
pub(super) fn refuse_beyond(
    files: &[PathBuf],
    preparation: &Preparation,
    most: Option<u64>,
) -> Result<(), DatasetError> {
    let (Some(first), Some(_)) = (files.first(), most) else { return Ok(()) };
    let grids = expected_grids(files, preparation)?;
    let what = describe(grids, preparation);
    room::refuse_beyond(first, &what, grids.cost(), most, "left of the memory budget", CURE)
}

/// Sizes are z, y, x, `spacing` is the file's.
fn grids(from: [usize; 3], to: [usize; 3], spacing: [f64; 3], preparation: &Preparation) -> Grids {
    let separate = resample::separate_axis(spacing, zyx(preparation.spacing));
    Grids { from, to, separate, channels: preparation.normalisation.len() }
}

fn describe(Grids { from: size, to, .. }: Grids, preparation: &Preparation) -> String {
    let by = |size: [usize; 3]| crate::xyz(size).map(|voxels| voxels.to_string()).join("x");
    let spacing = preparation.spacing.map(|mm| mm.to_string()).join(", ");
    format!("going from {} to {} voxels at the plan's {spacing} mm", by(size), by(to))
}

fn prepare(raw: Raw, preparation: &Preparation, file: &Path) -> Result<PreparedImage, DatasetError> {
    let Raw { data, geometry, native } = raw;
    let whole = data.first().map_or([0; 3], |channel| channel.dim().into());
    let (start, size) = nonzero_box(&data);
    let origin = Origin { native, size: whole, crop_start: start, crop_size: size, spacing: zyx(geometry.spacing()) };
    let to = target_size(size, origin.spacing, preparation, file)?;
    let grids = grids(size, to, origin.spacing, preparation);
    refuse_too_large(grids, preparation, file)?;

    // The zeros outside the bounding box reach its faces, so that filling holes inside the box is filling them all.
    let is_masked = preparation.normalisation.iter().any(Normalisation::is_masked);
    let mask = is_masked.then(|| {
        let crops: Vec<_> = data.iter().map(|channel| crop(channel.view(), start, size)).collect();
        normalise::nonzero_mask(&crops)
    });
    // One channel after the other takes the place of what was read of it.
    let mut channels = data.into_iter().zip(&preparation.normalisation).map(|(channel, normalisation)| {
        let mut channel = if size == whole { channel } else { crop(channel.view(), start, size).to_owned() };
        normalisation.apply(channel.view_mut(), mask.as_ref());
        if to == size { channel } else { resample::owned_image(channel, to, grids.separate) }
    });
    let count = preparation.normalisation.len();
    let data = match channels.next() {
        Some(single) if count == 1 => single.insert_axis(Axis(0)),
        first => {
            let mut data = Array4::zeros((count, to[0], to[1], to[2]));
            for (mut whole, channel) in data.outer_iter_mut().zip(first.into_iter().chain(channels)) {
                whole.assign(&channel);
            }
            data
        }
    };
    Ok(PreparedImage { data, origin })
}

/// The smallest box with every voxel that is nonzero in some channel: first voxel and voxels, z, y, x; the whole where
/// there is none.
pub(super) fn nonzero_box(channels: &[Array3<f32>]) -> ([usize; 3], [usize; 3]) {
    let mut found = NonzeroBox::default();
    channels.iter().for_each(|channel| found.look([0; 3], channel.view()));
    found.of(channels.first().map_or([0; 3], |channel| channel.dim().into()))
}

/// The smallest box with every voxel that is not 0, of a volume that comes in pieces.
#[derive(Default)]
pub(super) struct NonzeroBox {
    /// First and last voxel, z, y, x.
    found: Option<([usize; 3], [usize; 3])>,
}

impl NonzeroBox {
    /// At a box from `start` on, z, y, x.
    pub fn look(&mut self, start: [usize; 3], data: ArrayView3<'_, f32>) {
        for (z, plane) in data.outer_iter().enumerate() {
            for (y, row) in plane.outer_iter().enumerate() {
                let Some(left) = row.iter().position(|&value| value != 0.0) else { continue };
                let right = row.iter().rposition(|&value| value != 0.0).unwrap_or(left);
                let (z, y) = (start[0] + z, start[1] + y);
                let (first, last) = self.found.get_or_insert(([usize::MAX; 3], [0; 3]));
                let spans = [(z, z), (y, y), (start[2] + left, start[2] + right)];
                for (axis, (low, high)) in spans.into_iter().enumerate() {
                    first[axis] = first[axis].min(low);
                    last[axis] = last[axis].max(high);
                }
            }
        }
    }

    /// First voxel and voxels; the whole of `size` voxels where all are 0.
    pub fn of(&self, size: [usize; 3]) -> ([usize; 3], [usize; 3]) {
        let Some((first, last)) = self.found else { return ([0; 3], size) };
        (first, std::array::from_fn(|axis| last[axis] - first[axis] + 1))
    }
}

fn crop<T>(data: ArrayView3<'_, T>, start: [usize; 3], size: [usize; 3]) -> ArrayView3<'_, T> {
    let [z, y, x] = start;
    data.slice_move(s![z..z + size[0], y..y + size[1], x..x + size[2]])
}

#[cfg(test)]
mod tests {
    use super::{Preparation, nonzero_box, target_size};
    use ndarray::Array3;
    use std::path::Path;

    #[test]
    fn the_box_spans_all_channels() {
        let mut data = [Array3::<f32>::zeros((5, 6, 7)), Array3::zeros((5, 6, 7))];
        data[0][[1, 4, 2]] = -1.0;
        data[1][[3, 2, 6]] = 1e-30;
        assert_eq!(nonzero_box(&data), ([1, 2, 2], [3, 3, 5]));
    }

    #[test]
    fn an_image_of_zeros_is_kept_whole() {
        assert_eq!(nonzero_box(&[Array3::zeros((5, 6, 7))]), ([0; 3], [5, 6, 7]));
    }

    #[test]
    fn a_spacing_far_off_is_refused_before_anything_is_allocated() {
        let preparation = Preparation { spacing: [1.0; 3], normalisation: Vec::new() };
        for spacing in [[1e300, 1.0, 1.0], [500.0, 500.0, 500.0], [f64::NAN, 1.0, 1.0], [0.0, 1.0, 1.0]] {
            let error = target_size([50; 3], spacing, &preparation, Path::new("a.nii")).unwrap_err().to_string();
            assert!(error.starts_with("a.nii: pixdim: 50x50x50 voxels of "), "{error}");
        }
        let preparation = Preparation { spacing: [1.0, 0.0, 1.0], normalisation: Vec::new() };
        let error = target_size([50; 3], [1.0; 3], &preparation, Path::new("a.nii")).unwrap_err().to_string();
        assert!(error.contains("target spacing"), "{error}");
    }
}
