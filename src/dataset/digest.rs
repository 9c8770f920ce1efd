//! What a dataset is, as one number: a SHA-256 over what its description means and what its files hold.
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Dataset, DatasetError};
use crate::{files, volume};

/// A file changed this shortly before it was hashed could change again without its time changing.
const SETTLED: Duration = Duration::from_secs(3);

/// Folder of memos under the cache's root.
pub(super) const MEMO_FOLDER: &str = "digests";

/// SHA-256 of every volume's file (of a pair of `.hdr` and `.img`: over the two files' SHA-256 in hexadecimal digits, the
/// header's first), by case id and by what it is of the case (see [`Dataset::volumes`]).
pub type VolumeDigests = BTreeMap<String, BTreeMap<String, String>>;

/// What a dataset holds, wherever it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// [`Dataset::digest`].
    pub digest: String,
    /// SHA-256 of every volume.
    pub volumes: VolumeDigests,
}

/// The contents of `dataset`; with `cache`, content hashes of unchanged files are taken from a memo there.
pub(super) fn contents(dataset: &Dataset, cache: Option<&Path>) -> Result<Contents, DatasetError> {
    let memo_path = cache.and_then(|cache| memo_path(cache, &dataset.root));
    let memo = memo_path.as_deref().map(read_memo).unwrap_or_default();
    let volumes = dataset.cases.iter().flat_map(|case| case.images.iter().chain([&case.label]));
    let volumes: Vec<Vec<PathBuf>> = volumes.map(|path| volume::files_of(path)).collect();
    let files: Vec<&PathBuf> = volumes.iter().flatten().collect();
    let hashed: Vec<Result<Content, DatasetError>> = files.par_iter().map(|path| content(path, &memo)).collect();
    let hashed = hashed.into_iter().collect::<Result<Vec<_>, _>>()?;

    if let Some(path) = memo_path {
        let new: Memo = hashed
            .iter()
            .filter_map(|file| Some((file.key.clone(), (file.seen.clone()?, file.sha256.clone()))))
            .collect();
        if new != memo
            && let Ok(bytes) = serde_json::to_vec(&new)
            && let Err(error) = files::make_private(path.parent().unwrap_or(&path))
                .and_then(|()| files::write_bytes_privately(&path, &bytes))
        {
            tracing::debug!("{}: {error}; files will be hashed again next time", path.display());
        }
    }

    let mut hash = Sha256::new();
    let mut text = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    text("voxfit dataset 1");
    for list in
        [dataset.channels.iter().map(|channel| &channel.name).collect::<Vec<_>>(), dataset.classes.iter().collect()]
    {
        text(&list.len().to_string());
        list.into_iter().for_each(|name| text(name));
    }
    text(&format!("{:?}", dataset.ignore));
    if !dataset.regions.is_empty() {
        text(&format!("{:?}", dataset.regions));
    }
    if !dataset.remap.is_empty() {
        text(&format!("remap {}", dataset.remap));
    }
    let mut hashed = hashed.into_iter().map(|file| file.sha256);
    let mut contents = volumes.iter().map(|files| together(hashed.by_ref().take(files.len()).collect()));
    let mut volumes = VolumeDigests::new();
    for case in &dataset.cases {
        text(&case.id);
        text(&case.images.len().to_string());
        let named = dataset.volumes(case).zip(contents.by_ref()).map(|((name, _), sha256)| {
            text(&sha256);
            (name, sha256)
        });
        volumes.insert(case.id.clone(), named.collect());
    }
    Ok(Contents { digest: files::hex(&hash.finalize()), volumes })
}

/// The digest of a volume from those of its files.
fn together(mut files: Vec<String>) -> String {
    if files.len() == 1 { files.remove(0) } else { files::sha256_hex(files.concat().as_bytes()) }
}

/// What identifies a state of a file without reading it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    size: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (u64, u32),
    /// Unix: seconds and nanoseconds of the last change of the inode, which no program can set, and its number.
    changed: (i64, i64, u64),
}

/// By path.
type Memo = BTreeMap<String, (Seen, String)>;

struct Content {
    key: String,
    sha256: String,
    /// None where the file is too fresh to be recognised by its times.
    seen: Option<Seen>,
}

fn content(path: &Path, memo: &Memo) -> Result<Content, DatasetError> {
    let look = || fs::metadata(path).map_err(DatasetError::io(path));
    let before = seen(&look()?);
    let key = path.to_string_lossy().into_owned();
    if let Some((known, sha256)) = memo.get(&key)
        && before.as_ref() == Some(known)
    {
        return Ok(Content { key, sha256: sha256.clone(), seen: before });
    }
    let sha256 = file_sha256(path)?;
    let after = look()?;
    let settled = after.modified().ok().and_then(|time| time.elapsed().ok()).is_some_and(|age| age > SETTLED)
        && seen(&after) == before
        && changed_settled(&after);
    Ok(Content { key, sha256, seen: before.filter(|_| settled) })
}

fn file_sha256(path: &Path) -> Result<String, DatasetError> {
    let mut file = File::open(path).map_err(DatasetError::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(files::hex(&hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DatasetError::io(path)(error)),
        }
    }
}

fn seen(metadata: &Metadata) -> Option<Seen> {
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Seen {
        size: metadata.len(),
        modified: (modified.as_secs(), modified.subsec_nanos()),
        changed: changed(metadata),
    })
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> (i64, i64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.ctime(), metadata.ctime_nsec(), metadata.ino())
}

#[cfg(not(unix))]
fn changed(_metadata: &Metadata) -> (i64, i64, u64) {
    (0, 0, 0)
}

/// Whether the inode's last change lies far enough back.
fn changed_settled(metadata: &Metadata) -> bool {
    let (seconds, ..) = changed(metadata);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    seconds == 0 || u64::try_from(seconds).is_ok_and(|seconds| seconds + SETTLED.as_secs() < now)
}

fn memo_path(cache: &Path, dataset: &Path) -> Option<PathBuf> {
    let folder = dataset.canonicalize().ok()?;
    let name = files::sha256_hex(folder.to_string_lossy().as_bytes());
    Some(cache.join(MEMO_FOLDER).join(format!("{}.json", &name[..32])))
}

fn read_memo(path: &Path) -> Memo {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
