//! The folder of all stores: where it is, who may read it, who writes, and how it is emptied.
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::format;
use crate::dataset::prepare::Preparation;
use crate::dataset::{Dataset, DatasetError, digest, fingerprint};
use crate::files;

/// Hexadecimal digits in a store's name: 128 bits of SHA-256, and short enough for Windows' limit on paths.
pub(super) const KEY_LENGTH: usize = 32;
pub(super) const CASE_ENDING: &str = "case";
/// What made a store; a folder without it is not taken for one.
const MARKER: &str = "store.json";
const WRITER: &str = "writer.lock";
const IN_USE: &str = "in-use.lock";

/// Where prepared cases are kept: `$VOXFIT_CACHE`, else `$XDG_CACHE_HOME/voxfit`, else `~/.cache/voxfit` (the
/// platform's own cache folder elsewhere); `.voxfit-cache` in the working folder where there is no home.
pub fn default_root() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(root) = variable("VOXFIT_CACHE") {
        return root;
    }
    // A relative path there is to be ignored, says the XDG base directory specification.
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let platform = if cfg!(windows) {
        absolute("LOCALAPPDATA").map(|local| local.join("voxfit").join("cache"))
    } else if cfg!(target_os = "macos") {
        absolute("HOME").map(|home| home.join("Library").join("Caches").join("voxfit"))
    } else {
        absolute("HOME").map(|home| home.join(".cache").join("voxfit"))
    };
    absolute("XDG_CACHE_HOME")
        .map(|cache| cache.join("voxfit"))
        .or(platform)
        .unwrap_or_else(|| PathBuf::from(".voxfit-cache"))
}

fn lock_file(path: &Path) -> io::Result<File> {
    files::private_options().read(true).write(true).create(true).truncate(false).open(path)
}

/// Marks the store as open in this process as long as the file lives; the system forgets it with the process. None
/// where the file system has no locks.
pub(super) fn lock_in_use(folder: &Path) -> io::Result<Option<File>> {
    let file = lock_file(&folder.join(IN_USE))?;
    supported(file.lock_shared()).map(|locked| locked.then_some(file))
}

/// Waits until no other process prepares cases in this store.
pub(super) fn lock_writer(folder: &Path) -> io::Result<Option<File>> {
    let file = lock_file(&folder.join(WRITER))?;
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        tracing::info!("waiting for another process that prepares the same cases");
    }
    supported(file.lock()).map(|locked| locked.then_some(file))
}

fn supported(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

/// Says in `store.json` what the folder holds, for a person.
pub(super) fn describe(folder: &Path, dataset: &Dataset, digest: &str, preparation: &Preparation) -> io::Result<()> {
    let description = json!({
        "voxfit_store": format::VERSION,
        "dataset": dataset.name,
        "dataset_sha256": digest,
        "cases": dataset.cases.len(),
        "preparation": preparation,
    });
    files::write_bytes_privately(&folder.join(MARKER), format!("{description:#}\n").as_bytes())
}

/// Removes what a killed writer left; only for the holder of the writer's lock.
pub(super) fn remove_leftovers(folder: &Path) {
    for path in own_files(folder, files::is_leftover) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!("{}: {error}", path.display());
        }
    }
}

/// Plain files in `folder` (no link is followed) whose name is `ours`, in order.
fn own_files(folder: &Path, ours: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter(|entry| entry.file_name().to_str().is_some_and(&ours))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Removes every prepared store under `root` that no process has open, and what is remembered about datasets (file
/// digests, fingerprints); returns bytes freed. Nothing that this program did not make is touched: of a folder named and
/// marked as a store, the files that a store has.
///
/// # Errors
/// A file or folder that cannot be removed.
pub fn clean(root: &Path) -> Result<u64, DatasetError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(DatasetError::io(root)(error)),
    };
    let mut freed = 0;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders {
        let is_folder = fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir());
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !is_folder {
            continue;
        }
        if name == digest::MEMO_FOLDER || name == fingerprint::FOLDER {
            let ours = |file: &str| is_remembered(file) || files::is_leftover(file);
            freed += remove(&folder, own_files(&folder, ours))?;
        } else if is_key(name) && is_store(&folder) {
            freed += clean_store(&folder)?;
        }
    }
    Ok(freed)
}

fn clean_store(folder: &Path) -> Result<u64, DatasetError> {
    let lock = lock_file(&folder.join(IN_USE)).map_err(DatasetError::io(folder))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => {
            tracing::warn!("{} is in use and is kept", folder.display());
            return Ok(0);
        }
        Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
            return Err(DatasetError::io(folder)(error));
        }
        _ => {}
    }
    // The lock's own file last: Windows removes no open file.
    let freed = remove(folder, own_files(folder, |name| is_case(name) || files::is_leftover(name)))?;
    drop(lock);
    Ok(freed + remove(folder, own_files(folder, |name| [MARKER, WRITER, IN_USE].contains(&name)))?)
}

/// Removes `files`, and `folder` if it is then empty; returns bytes freed.
fn remove(folder: &Path, files: Vec<PathBuf>) -> Result<u64, DatasetError> {
    let mut freed = 0;
    for file in files {
        let length = fs::symlink_metadata(&file).map_or(0, |metadata| metadata.len());
        fs::remove_file(&file).map_err(DatasetError::io(&file))?;
        freed += length;
    }
    // Not empty: someone keeps a file of their own there.
    let _ = fs::remove_dir(folder);
    Ok(freed)
}

fn is_key(name: &str) -> bool {
    name.len() == KEY_LENGTH && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_remembered(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, ending)| is_key(stem) && (ending == "json" || ending == "toml"))
}

fn is_case(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, ending)| {
        ending == CASE_ENDING && stem.len() >= 5 && stem.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether `store.json` in `folder` is one that this program wrote.
fn is_store(folder: &Path) -> bool {
    let marker = folder.join(MARKER);
    fs::symlink_metadata(&marker).is_ok_and(|metadata| metadata.is_file() && metadata.len() < 1 << 24)
        && fs::read(&marker)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
            .is_some_and(|marker| marker.get("voxfit_store").is_some())
}
