//! Datasets: layouts (MSD, nnU-Net v2), their check, fingerprint, splits, the phantom, and the prepared store that
//! patches are read from.
pub mod check;
mod digest;
mod error;
pub mod fingerprint;
mod layout;
pub(crate) mod parallel;
pub mod phantom;
pub mod prepare;
mod read;
mod regions;
mod remap;
mod room;
pub mod split;
pub mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use digest::{Contents, VolumeDigests};
pub use error::DatasetError;
pub use read::label_map;
pub use regions::Region;
pub use remap::Remap;

/// A fault and the case it belongs to (empty where it is the dataset's).
pub type Fault = (String, DatasetError);

/// Bytes of volumes held at once while cases are worked through, where the caller names no figure of its own.
/// It changes how many cases go at a time, never what comes out; a single case that needs more goes alone.
pub const DEFAULT_MEMORY: u64 = 1 << 30;

/// One patient's volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// File name without channel suffix and ending, as in `hippocampus_001`.
    pub id: String,
    /// One file per channel (or one 4D file for all, MSD's way, then a single entry).
    pub images: Vec<PathBuf>,
    /// The label map, on the images' grid.
    pub label: PathBuf,
}

/// What is measured in a channel; only CT is treated differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// As `dataset.json` has it, such as `T1` or `CT`.
    pub name: String,
    /// Intensities are Hounsfield units, and are normalised by the dataset's statistics.
    pub is_ct: bool,
}

/// A labelled dataset as its `dataset.json` describes it.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The folder that `dataset.json` lies in; paths of cases begin with it.
    pub root: PathBuf,
    /// As `dataset.json` says, else the folder's.
    pub name: String,
    /// In the order of a case's files, or of a 4D file's volumes.
    pub channels: Vec<Channel>,
    /// Names by label value: index 0 is background, then 1, 2, ... without a gap (the ignore label is not among them).
    pub classes: Vec<String>,
    /// Voxels of this value are left out of the loss and of every figure.
    pub ignore: Option<u16>,
    /// What is learnt in place of the label values, in the order of painting; empty where every value is a class.
    pub regions: Vec<Region>,
    /// In order of `id`.
    pub cases: Vec<Case>,
    /// The patient of cases, by id, where `dataset.json` says it under `groups`. They decide what is held out and nothing
    /// else.
    pub groups: BTreeMap<String, String>,
    /// What values of label maps become as they are read; classes are as they are then.
    pub remap: Remap,
}

/// What [`evaluate`](crate::evaluate) asks of a description: its regions and its ignore label.
pub(crate) fn regions_of(text: &[u8], remap: &Remap) -> Option<(Vec<Region>, Option<u16>)> {
    layout::regions_of(text, remap)
}

impl Dataset {
    /// What the network has an answer for: the regions, else every label value, background among them.
    pub fn outputs(&self) -> usize {
        if self.regions.is_empty() { self.classes.len() } else { self.regions.len() }
    }

    /// The value that a label map gets for each region; `None` where no regions are learnt.
    pub fn paint(&self) -> Option<Vec<u16>> {
        (!self.regions.is_empty()).then(|| self.regions.iter().map(|region| region.paint).collect())
    }

    /// Label values of each region; `None` where no regions are learnt.
    pub fn region_values(&self) -> Option<Arc<Vec<Vec<u16>>>> {
        let values = || self.regions.iter().map(|region| region.values.clone()).collect();
        (!self.regions.is_empty()).then(|| Arc::new(values()))
    }

    /// Opens a folder in MSD or nnU-Net v2 layout; reads `dataset.json` and looks whether the files are there.
    /// [`check::check_folder`] names every such fault; this one stops at the first.
    ///
    /// # Errors
    /// A missing or malformed `dataset.json` (field named), no case, a missing file.
    pub fn open(root: &Path) -> Result<Self, DatasetError> {
        Self::open_as(root, &Remap::default())
    }

    /// [`open`](Self::open), with values of labels exchanged: those that `dataset.json` names, and those of label maps.
    ///
    /// # Errors
    /// As [`open`](Self::open); an exchange for a value that is no class.
    pub fn open_as(root: &Path, remap: &Remap) -> Result<Self, DatasetError> {
        let (dataset, faults) = layout::read(root, remap);
        let others = faults.len().saturating_sub(1);
        match (faults.into_iter().next(), dataset) {
            (None, Some(dataset)) => Ok(dataset),
            (Some((_, DatasetError::Invalid { path, field, problem, cure })), _) if others > 0 => {
                let cure = format!("{cure} (`voxfit check` names {others} more)");
                Err(DatasetError::Invalid { path, field, problem, cure })
            }
            (Some((_, fault)), _) => Err(fault),
            (None, None) => Err(DatasetError::no_case(root)),
        }
    }

    /// Opens a folder as [`open_as`](Self::open_as) does and goes on after a fault: the cases whose files are there, and every
    /// fault. None where not even classes, channels or cases can be made out.
    pub fn look(root: &Path, remap: &Remap) -> (Option<Self>, Vec<Fault>) {
        layout::read(root, remap)
    }

    /// SHA-256 over `dataset.json` semantics and every file's content, independent of where the folder stands.
    /// Reads every file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn digest(&self) -> Result<String, DatasetError> {
        digest::contents(self, None).map(|contents| contents.digest)
    }

    /// The same as [`digest`](Self::digest), but the content hash of a file whose path, size, times and inode are as
    /// they were is taken from a memo under `cache` ([`store::default_root`]) instead of reading the file again.
    ///
    /// # Errors
    /// A file that cannot be read. A memo that cannot be written is no error.
    pub fn digest_memoised(&self, cache: &Path) -> Result<String, DatasetError> {
        self.contents_memoised(cache).map(|contents| contents.digest)
    }

    /// The digest that [`digest_memoised`](Self::digest_memoised) gives, and those of the volumes that it is made of.
    ///
    /// # Errors
    /// As [`digest_memoised`](Self::digest_memoised).
    pub fn contents_memoised(&self, cache: &Path) -> Result<Contents, DatasetError> {
        digest::contents(self, Some(cache))
    }

    /// SHA-256 of the volumes of one case, by what they are, as [`Contents`] has them.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn volume_digests(&self, case: &Case) -> Result<BTreeMap<String, String>, DatasetError> {
        let alone = Self { cases: vec![case.clone()], ..self.clone() };
        let mut contents = digest::contents(&alone, None)?;
        Ok(contents.volumes.remove(&case.id).unwrap_or_default())
    }

    /// The files of `case` by what they are: `image_0000`, `image_0001`, ... for the channels, `image` for one file with
    /// several channels, and `label`, which comes last.
    pub fn volumes<'a>(&self, case: &'a Case) -> impl Iterator<Item = (String, &'a Path)> {
        let all_in_one = case.images.len() == 1 && self.channels.len() > 1;
        let name = move |channel| if all_in_one { "image".to_owned() } else { format!("image_{channel:04}") };
        let images = case.images.iter().enumerate().map(move |(channel, path)| (name(channel), path.as_path()));
        images.chain([("label".to_owned(), case.label.as_path())])
    }
}
