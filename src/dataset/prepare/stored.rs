//! A case's preparation in bounded memory: as [`super::image`], the numbers too, but volumes lie where a [`Storage`] has
//! room for them.
use std::io;
use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayViewMut3, Zip};

use super::{NonzeroBox, Origin, Preparation, target_size};
use crate::dataset::DatasetError;
use crate::dataset::read::{self, NotFinite};
use crate::volume::mask::Mask;
use crate::volume::normalise::Intensity;
use crate::volume::planes::{Planes, Storage};
use crate::volume::{self, Header, VolumeError, resample};
use crate::zyx;

/// A prepared image, `[channel, z, y, x]`, that is read box by box.
#[derive(Debug)]
pub struct StoredImage {
    channels: Vec<Channel>,
    mask: Option<Mask>,
    /// Voxels, z, y, x.
    pub size: [usize; 3],
    /// How to bring a label map back.
    pub origin: Origin,
}

/// A channel, normalised as it is read where it was not before.
#[derive(Debug)]
struct Channel {
    planes: Planes<f32>,
    /// Where the image begins in it, z, y, x.
    start: [usize; 3],
    intensity: Intensity,
    /// Whether voxels outside the mask are 0.
    masked: bool,
}

/// What a case's headers say before any voxel is read.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Of the first file.
    pub header: Header,
    /// Voxels in the file and, were nothing cropped, on the prepared grid, z, y, x.
    pub size: [usize; 3],
    /// Voxels on the prepared grid, z, y, x.
    pub prepared: [usize; 3],
}

/// Reads and checks the headers alone.
///
/// # Errors
/// As [`super::image`].
pub fn expected(files: &[PathBuf], preparation: &Preparation) -> Result<Expected, DatasetError> {
    let Some(first) = files.first() else {
        return Err(DatasetError::invalid("", "images", "no image file is given", "name one file per channel"));
    };
    let header = read::headers(files, preparation.normalisation.len())?.swap_remove(0);
    let size = header.native.array_shape();
    let prepared = target_size(size, zyx(header.geometry.spacing()), preparation, first)?;
    Ok(Expected { header, size, prepared })
}

/// Reads and prepares the image files of a case; `later` bytes of the storage's budget stay free beside what stays.
///
/// # Errors
/// As [`super::image`], and those of the storage.
pub fn stored(
    files: &[PathBuf],
    preparation: &Preparation,
    expected: &Expected,
    storage: &Storage,
    later: u64,
) -> Result<StoredImage, DatasetError> {
    let file = files.first().map_or(Path::new(""), PathBuf::as_path);
    let (raw, (start, size)) = read_channels(files, preparation.normalisation.len(), expected, storage, later)?;
    let origin = Origin {
        native: expected.header.native.clone(),
        size: expected.size,
        crop_start: start,
        crop_size: size,
        spacing: zyx(expected.header.geometry.spacing()),
    };
    let to = target_size(size, origin.spacing, preparation, file)?;
    let channels: Vec<Channel> = raw
        .into_iter()
        .zip(&preparation.normalisation)
        .map(|(planes, normalisation)| Channel {
            planes,
            start,
            intensity: Intensity::Kept,
            masked: normalisation.is_masked(),
        })
        .collect();
    let failed = |error| VolumeError::Io { path: storage.folder().to_owned(), source: error };
    let mut image = StoredImage { channels, mask: None, size, origin };
    if image.channels.iter().any(|channel| channel.masked) {
        image.mask = Some(image.nonzero_mask().map_err(failed)?);
    }
    for (channel, normalisation) in preparation.normalisation.iter().enumerate() {
        // Not yet normalised: what is read is what the file says.
        let intensity = normalisation.of_image(|take| image.visit_counted(channel, take)).map_err(failed)?;
        image.channels[channel].intensity = intensity;
    }
    if to == size {
        return Ok(image);
    }
    let separate = resample::separate_axis(image.origin.spacing, zyx(preparation.spacing));
    let mut resampled = Vec::new();
    while !image.channels.is_empty() {
        let planes = image.normalised(0, storage).map_err(failed)?;
        // What it was read from is let go.
        image.channels.remove(0);
        let planes = resample::stored::image(planes, to, separate, storage, later).map_err(failed)?;
        resampled.push(Channel { planes, start: [0; 3], intensity: Intensity::Kept, masked: false });
    }
    Ok(StoredImage { channels: resampled, mask: None, size: to, ..image })
}

/// The channels as the files have them, and the box of what is not 0 in some channel.
type Raw = (Vec<Planes<f32>>, ([usize; 3], [usize; 3]));

fn read_channels(
    files: &[PathBuf],
    channels: usize,
    expected: &Expected,
    storage: &Storage,
    later: u64,
) -> Result<Raw, DatasetError> {
    let [depth, height, width] = expected.size;
    let failed = |error| VolumeError::Io { path: storage.folder().to_owned(), source: error };
    // Of the channels that are still to come, too.
    let bytes = 4 * (depth as u64 * height as u64).saturating_mul(width as u64);
    let mut raw: Vec<Planes<f32>> = Vec::new();
    for channel in 0..channels {
        let others = bytes.saturating_mul((channels - channel - 1) as u64);
        let shape = [1, depth, height, width];
        raw.push(storage.zeros("image", shape, later.saturating_add(others)).map_err(failed)?);
    }
    let mut nonzero = NonzeroBox::default();
    let per_file = channels / files.len().max(1);
    for (file, raw) in files.iter().zip(raw.chunks_mut(per_file.max(1))) {
        let mut not_finite: Vec<NotFinite> = raw.iter().map(|_| NotFinite::default()).collect();
        volume::read_pieces(file, (per_file, expected.size), |channel, start, piece| {
            not_finite[channel].look(start, piece);
            nonzero.look(start, piece);
            raw[channel].write_box(0, start, piece).map_err(failed)
        })?;
        if let Some(fault) = not_finite.iter().find_map(|found| found.fault(file)) {
            return Err(fault);
        }
    }
    Ok((raw, nonzero.of(expected.size)))
}

impl StoredImage {
    /// Channels of the image.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Reads a box of a channel into `target`; `start` is its first voxel, z, y, x.
    ///
    /// # Errors
    /// Those of a scratch file.
    pub fn read(&self, channel: usize, start: [usize; 3], mut target: ArrayViewMut3<'_, f32>) -> io::Result<()> {
        let Channel { planes, start: origin, intensity, masked } = &self.channels[channel];
        let (depth, height, width) = target.dim();
        for z in 0..depth {
            let from = [origin[0] + start[0] + z, origin[1] + start[1], origin[2] + start[2]];
            let part = planes.read_box(0, from, [1, height, width])?;
            let mut target = target.slice_mut(ndarray::s![z..=z, .., ..]);
            match self.mask.as_ref().filter(|_| *masked && *intensity != Intensity::Kept) {
                None => Zip::from(&mut target).and(&part).for_each(|target, value| *target = intensity.of(*value)),
                Some(mask) => Zip::indexed(&mut target).and(&part).for_each(|(_, y, x), target, value| {
                    let inside = mask.contains(start[0] + z, start[1] + y, start[2] + x);
                    *target = if inside { intensity.of(*value) } else { 0.0 };
                }),
            }
        }
        Ok(())
    }

    /// Goes through a channel, plane by plane.
    fn planes(&self, channel: usize, mut look: impl FnMut(usize, &Array3<f32>) -> io::Result<()>) -> io::Result<()> {
        let [depth, height, width] = self.size;
        let mut plane = Array3::zeros((1, height, width));
        for z in 0..depth {
            self.read(channel, [z, 0, 0], plane.view_mut())?;
            look(z, &plane)?;
        }
        Ok(())
    }

    /// All values of a channel, in order.
    ///
    /// # Errors
    /// Those of a scratch file.
    pub fn visit(&self, channel: usize, mut take: impl FnMut(f32)) -> io::Result<()> {
        self.planes(channel, |_, plane| {
            plane.iter().for_each(|value| take(*value));
            Ok(())
        })
    }

    /// Those values that normalisation counts.
    fn visit_counted(&self, channel: usize, take: &mut dyn FnMut(f32)) -> io::Result<()> {
        let mask = self.mask.as_ref().filter(|_| self.channels[channel].masked);
        self.planes(channel, |z, plane| {
            match mask {
                None => plane.iter().for_each(|value| take(*value)),
                Some(mask) => {
                    let inside = plane.indexed_iter().filter(|((_, y, x), _)| mask.contains(z, *y, *x));
                    inside.for_each(|(_, value)| take(*value));
                }
            }
            Ok(())
        })
    }

    /// Where any channel is not 0, holes filled. The zeros outside the nonzero box reach its faces, so that filling holes
    /// inside it is filling them all.
    fn nonzero_mask(&self) -> io::Result<Mask> {
        let mut mask = Mask::new(self.size);
        for channel in 0..self.channels.len() {
            self.planes(channel, |z, plane| {
                let nonzero = plane.indexed_iter().filter(|(_, value)| **value != 0.0);
                nonzero.for_each(|((_, y, x), _)| mask.insert(z, y, x));
                Ok(())
            })?;
        }
        mask.fill_holes();
        Ok(mask)
    }

    /// A channel's image on its own, normalised.
    fn normalised(&self, channel: usize, storage: &Storage) -> io::Result<Planes<f32>> {
        let [depth, height, width] = self.size;
        let mut normalised = storage.zeros("normalised channel", [1, depth, height, width], 0)?;
        self.planes(channel, |z, plane| normalised.write_box(0, [z, 0, 0], plane.view()))?;
        Ok(normalised)
    }
}
