//! What preparing the cases takes of disk and memory.
use super::case::Looked;
use crate::dataset::prepare::{self, Preparation};
use crate::dataset::store::default_root;
use crate::dataset::{Dataset, DatasetError, read};
use crate::memory::machine;
use crate::network::topology::target_spacing;
use crate::volume::resample;
use crate::zyx;

/// Bytes, about: were nothing cropped. What is free is none where the system does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Room {
    /// Of the prepared copies of all cases.
    pub prepared_bytes: u64,
    /// On the disk that they would lie on.
    pub free_disk_bytes: Option<u64>,
    /// Held while the largest case is prepared by itself.
    pub preparing_bytes: u64,
    /// What a new process could take now.
    pub free_memory_bytes: Option<u64>,
    /// The case that needs most.
    #[serde(skip)]
    largest: usize,
}

/// At `spacing` (mm, x, y, z), or what nnU-Net's rule makes of the cases' headers.
pub(super) fn look(dataset: &Dataset, looked: &[Looked], spacing: Option<[f64; 3]>) -> Option<Room> {
    let headers = || looked.iter().enumerate().filter_map(|(case, looked)| Some((case, looked.header.as_ref()?)));
    let spacings: Vec<[f64; 3]> = headers().map(|(_, header)| header.geometry.spacing()).collect();
    let sizes: Vec<[usize; 3]> = headers().map(|(_, header)| header.geometry.size).collect();
    let spacing = spacing.or_else(|| target_spacing(&spacings, &sizes).ok())?;
    let preparation = Preparation { spacing, normalisation: Vec::new() };
    let channels = dataset.channels.len();
    let labels = if dataset.classes.len() > 256 { 2 } else { 1 };
    let (mut disk, mut most, mut largest) = (0u64, 0, 0);
    for (case, header) in headers() {
        let (from, mm) = (zyx(header.geometry.size), zyx(header.geometry.spacing()));
        let file = dataset.cases[case].images.first()?;
        // What cannot be prepared is said by preparing it; here it counts for nothing.
        let to = prepare::target_size(from, mm, &preparation, file).unwrap_or([0; 3]);
        disk = disk.saturating_add(read::voxels(to).saturating_mul(2 * channels as u64 + labels));
        let separate = resample::separate_axis(mm, zyx(spacing));
        let memory = read::Grids { from, to, separate, channels }.cost();
        if memory > most {
            (most, largest) = (memory, case);
        }
    }
    let free_disk_bytes = machine::free_disk(&default_root());
    let free_memory_bytes = machine::memory().available;
    Some(Room { prepared_bytes: disk, free_disk_bytes, preparing_bytes: most, free_memory_bytes, largest })
}

impl Room {
    /// What there is too little of.
    pub(super) fn lacking(&self, dataset: &Dataset) -> Vec<DatasetError> {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let mut lacking = Vec::new();
        if let Some(free) = self.free_disk_bytes.filter(|free| *free < self.prepared_bytes) {
            let problem =
                format!("the prepared copies take about {} MiB, {} MiB are free", mib(self.prepared_bytes), mib(free));
            let cure = "free space there, or set VOXFIT_CACHE to a folder on another disk";
            lacking.push(DatasetError::invalid(default_root(), "disk", problem, cure));
        }
        if let Some(free) = self.free_memory_bytes.filter(|free| *free < self.preparing_bytes)
            && let Some(case) = dataset.cases.get(self.largest)
        {
            let problem = format!(
                "preparing {} needs up to {} MiB, {} MiB are free",
                case.id,
                mib(self.preparing_bytes),
                mib(free)
            );
            let cure = "end other programs, plan a coarser data.spacing, or crop the volumes";
            lacking.push(DatasetError::invalid(&dataset.root, "memory", problem, cure));
        }
        lacking
    }
}
