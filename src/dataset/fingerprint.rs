//! What a dataset's cases have in common: nnU-Net's fingerprint, from which the plan is made.
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{ArrayView3, s};
use serde::{Deserialize, Serialize};

use super::split::below;
use super::{DEFAULT_MEMORY, Dataset, DatasetError, parallel, prepare, read};
use crate::{files, random, volume, zyx};

/// Foreground intensities drawn, over all cases and channels; nnU-Net draws 1e8, of which it keeps every one.
const DRAWS: usize = 10_000_000;

/// nnU-Net's seed for the draws.
const SEED: u64 = 1234;

/// Folder of remembered fingerprints under the cache's root.
pub(super) const FOLDER: &str = "fingerprints";

/// Part of a remembered fingerprint's name: to be raised when what is computed changes.
const VERSION: &str = concat!("voxfit ", env!("CARGO_PKG_VERSION"), " fingerprint 2");

/// Sizes and spacings are x, y, z.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// mm, one per case, in the dataset's order.
    pub spacings: Vec<[f64; 3]>,
    /// Voxels after the crop to nonzero, one per case.
    pub sizes: Vec<[usize; 3]>,
    /// Median over cases of voxels after the crop / voxels before.
    pub median_relative_size_after_crop: f64,
    /// Foreground classes that each case's label map has, ascending, one list per case.
    pub classes: Vec<Vec<u16>>,
    /// Foreground intensities of each channel over all cases.
    pub intensities: Vec<Intensities>,
}

/// Statistics of one channel over foreground voxels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intensities {
    /// In the image's own unit, as all of these; HU for CT.
    pub mean: f64,
    /// The middle value.
    pub median: f64,
    /// Standard deviation, of the population.
    pub deviation: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// Half a percent of the values is smaller: CT is cut off here.
    pub percentile_00_5: f64,
    /// Half a percent of the values is larger: CT is cut off here.
    pub percentile_99_5: f64,
}

/// Reads every case (in parallel, a bounded number at once).
///
/// Intensities are drawn as nnU-Net draws them, equally many from every case that has foreground, however much of it,
/// but stratified: the foreground voxels in z, y, x order are cut into as many equal stretches as there are draws and
/// one voxel is drawn in each (a voxel is drawn repeatedly where it spans several stretches). The expectation is that
/// of nnU-Net's draws with replacement, the variance smaller, and memory is bounded by 10 million values over all
/// channels.
///
/// # Errors
/// A case that cannot be read or does not fit the dataset's description; no foreground voxel at all.
pub fn fingerprint(dataset: &Dataset) -> Result<Fingerprint, DatasetError> {
    fingerprint_within(dataset, DEFAULT_MEMORY)
}

/// [`fingerprint`] with at most `memory` bytes of volumes held at once (a single case that needs more goes alone).
///
/// # Errors
/// As [`fingerprint`].
pub fn fingerprint_within(dataset: &Dataset, memory: u64) -> Result<Fingerprint, DatasetError> {
    fingerprint_until(dataset, memory, &AtomicBool::new(false))
}

fn fingerprint_until(dataset: &Dataset, memory: u64, stop: &AtomicBool) -> Result<Fingerprint, DatasetError> {
    let channels = dataset.channels.len().max(1);
    let draws = (DRAWS / channels / dataset.cases.len().max(1)).max(1);
    let costs: Vec<u64> = dataset
        .cases
        .iter()
        .map(|case| {
            let header = case.images.first().and_then(|file| volume::read_header(file).ok());
            let from = header.map_or([0; 3], |header| header.geometry.size);
            read::Grids { from, to: [0; 3], separate: None, channels }.cost()
        })
        .collect();
    let cases = parallel::run(&costs, memory, |index| match stop.load(Ordering::Relaxed) {
        true => Err(DatasetError::Stopped),
        false => one(dataset, index, draws),
    })?;

    let mut relative: Vec<f64> = cases.iter().map(|case| case.relative).collect();
    relative.sort_by(f64::total_cmp);
    let mut intensities = Vec::with_capacity(channels);
    for channel in 0..channels {
        let mut drawn: Vec<f32> = cases.iter().flat_map(|case| case.drawn.get(channel)).flatten().copied().collect();
        let found = statistics(&mut drawn).ok_or_else(|| {
            DatasetError::invalid(
                dataset.root.join(super::layout::DESCRIPTION),
                "labels",
                "no label map holds a foreground voxel",
                "add labelled cases",
            )
        })?;
        intensities.push(found);
    }
    Ok(Fingerprint {
        spacings: cases.iter().map(|case| case.spacing).collect(),
        sizes: cases.iter().map(|case| case.size).collect(),
        median_relative_size_after_crop: quantile(&relative, 0.5),
        classes: cases.into_iter().map(|case| case.classes).collect(),
        intensities,
    })
}

/// [`fingerprint_within`], remembered under `cache` by the dataset's digest, so that the cases are read once. What comes
/// back is the same bit for bit either way.
///
/// # Errors
/// As [`fingerprint`]. A cache that cannot be read or written is no error.
pub fn remembered(dataset: &Dataset, cache: &Path, memory: u64) -> Result<Fingerprint, DatasetError> {
    remembered_until(dataset, cache, memory, &AtomicBool::new(false))
}

/// [`remembered`], given up between two cases once `stop` is raised.
///
/// # Errors
/// As [`fingerprint`]; [`DatasetError::Stopped`].
pub fn remembered_until(
    dataset: &Dataset,
    cache: &Path,
    memory: u64,
    stop: &AtomicBool,
) -> Result<Fingerprint, DatasetError> {
    let digest = dataset.digest_memoised(cache)?;
    let name = files::sha256_hex(format!("{VERSION}\n{digest}").as_bytes());
    // TOML: its floats are read back exactly, those of serde_json may be one unit in the last place off.
    let path = cache.join(FOLDER).join(format!("{}.toml", &name[..32]));
    let known = fs::read_to_string(&path).ok().and_then(|text| toml::from_str::<Fingerprint>(&text).ok());
    if let Some(known) = known.filter(|known| {
        known.spacings.len() == dataset.cases.len()
            && known.sizes.len() == dataset.cases.len()
            && known.classes.len() == dataset.cases.len()
            && known.intensities.len() == dataset.channels.len()
    }) {
        return Ok(known);
    }
    let found = fingerprint_until(dataset, memory, stop)?;
    if let Ok(text) = toml::to_string(&found)
        && let Err(error) =
            files::make_private(&cache.join(FOLDER)).and_then(|()| files::write_bytes_privately(&path, text.as_bytes()))
    {
        tracing::debug!("{}: {error}; the fingerprint will be taken again next time", path.display());
    }
    Ok(found)
}

struct One {
    spacing: [f64; 3],
    size: [usize; 3],
    relative: f64,
    classes: Vec<u16>,
    /// Drawn foreground intensities by channel; empty without foreground.
    drawn: Vec<Vec<f32>>,
}

fn one(dataset: &Dataset, index: usize, draws: usize) -> Result<One, DatasetError> {
    let case = &dataset.cases[index];
    let raw = read::channels(&case.images, dataset.channels.len())?;
    let labels = read::labels(case, &dataset.remap, &raw.geometry, dataset.classes.len(), dataset.ignore)?;
    let classes =
        read::histogram(labels.view()).into_iter().enumerate().skip(1).take(dataset.classes.len().saturating_sub(1));
    let classes = classes.filter(|&(_, count)| count > 0).map(|(class, _)| class as u16).collect();
    let ([z, y, x], size) = prepare::nonzero_box(&raw.data);
    let inside = s![z..z + size[0], y..y + size[1], x..x + size[2]];
    let labels = labels.slice(inside);
    let is_foreground = |label: u16| label != 0 && Some(label) != dataset.ignore;
    let count = labels.iter().filter(|&&label| is_foreground(label)).count();
    let mut drawn = Vec::new();
    for channel in raw.data.iter().filter(|_| count > 0) {
        drawn.push(draw(channel.slice(inside), labels, is_foreground, count, draws, index as u64));
    }
    let relative = size.iter().product::<usize>() as f64 / read::voxels(raw.geometry.size) as f64;
    Ok(One { spacing: raw.geometry.spacing(), size: zyx(size), relative, classes, drawn })
}

/// `draws` of the `count` foreground voxels, ascending; every channel draws the same voxels.
fn draw(
    image: ArrayView3<'_, f32>,
    labels: ArrayView3<'_, u16>,
    is_foreground: impl Fn(u16) -> bool,
    count: usize,
    draws: usize,
    case: u64,
) -> Vec<f32> {
    let mut stream = random::stream(SEED, "fingerprint", 0, case);
    let mut drawn = Vec::with_capacity(draws);
    let stretch = count as f64 / draws as f64;
    let mut place = |draw: usize| {
        let within = below(&mut stream, 1 << 20) as f64 / f64::from(1 << 20);
        ((draw as f64 + within) * stretch) as usize
    };
    let mut next = place(0);
    let foreground = image.iter().zip(&labels).filter(|(_, label)| is_foreground(**label));
    for (ordinal, (&value, _)) in foreground.enumerate() {
        while next == ordinal && drawn.len() < draws {
            drawn.push(value);
            next = place(drawn.len());
        }
    }
    drawn
}

/// None of no value. Mean and deviation (population) in f64, percentiles linear between neighbours as NumPy has them.
fn statistics(values: &mut [f32]) -> Option<Intensities> {
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let deviation = (values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count).sqrt();
    values.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| {
        let place = share * (count - 1.0);
        let (low, high) = (f64::from(values[place.floor() as usize]), f64::from(values[place.ceil() as usize]));
        low + (high - low) * place.fract()
    };
    Some(Intensities {
        mean,
        median: at(0.5),
        deviation,
        min: at(0.0),
        max: at(1.0),
        percentile_00_5: at(0.005),
        percentile_99_5: at(0.995),
    })
}

/// Of ascending values; 0 of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}
