//! Files are written aside, synced and renamed, so that a reader sees the old content or the new, never half.
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Writes `path` through `fill`: into a temporary file in the same folder, synced, then renamed over `path`.
/// The folder is made where it is missing. On any error the temporary file is removed and `path` is untouched.
///
/// Permissions are those of any new file (what the umask leaves), once it is whole; the temporary file is its owner's
/// alone. A link is followed. What is there and is no regular
/// file (a pipe, `/dev/null`) is written into: renaming over it would put a file in the place of a device.
///
/// # Errors
/// Any failure of the file system or of `fill`.
pub fn write_atomically<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<(), E>,
) -> Result<(), E> {
    write(path, false, fill)
}

/// Writes `path` as [`write_atomically`] does, for its owner alone, and so is a folder that is made for it: copies of
/// patients' images, and what was learnt from them.
///
/// # Errors
/// Any failure of the file system or of `fill`.
pub fn write_privately<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<(), E>,
) -> Result<(), E> {
    write(path, true, fill)
}

fn write<E: From<io::Error>>(
    path: &Path,
    private: bool,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<(), E>,
) -> Result<(), E> {
    let path = if path.is_symlink() { fs::canonicalize(path).unwrap_or(path.to_owned()) } else { path.to_owned() };
    if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        let mut device = OpenOptions::new().write(true).open(&path)?;
        let mut writer = BufWriter::new(&mut device);
        fill(&mut writer)?;
        return Ok(writer.flush()?);
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if private {
        make_private(folder)?
    } else {
        fs::create_dir_all(folder)?
    }
    let mut temporary = aside(folder)?;
    {
        let mut writer = BufWriter::new(temporary.as_file_mut());
        fill(&mut writer)?;
        writer.flush()?;
    }
    if !private {
        share(&temporary, folder)?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(&path).map_err(|error| error.error)?;
    sync_folder(folder)?;
    Ok(())
}

fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".voxfit-").suffix(".tmp");
    builder
}

/// A temporary file in `folder` for its owner alone, to be renamed; it goes when dropped.
///
/// # Errors
/// A folder that cannot be written.
pub fn aside(folder: &Path) -> io::Result<NamedTempFile> {
    temporary().tempfile_in(folder)
}

/// Gives `file`, which is whole, the permissions of any new file in `folder`.
fn share(file: &NamedTempFile, folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        // What the umask leaves shows in a file that holds nothing: the umask itself cannot be read without setting it.
        let mut builder = temporary();
        let empty = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)).tempfile_in(folder)?;
        file.as_file().set_permissions(empty.as_file().metadata()?.permissions())?;
    }
    #[cfg(not(unix))]
    let _ = (file, folder);
    Ok(())
}

/// Makes `folder` and what is missing above it, for its owner alone; one that is there stays as it is.
///
/// # Errors
/// Those of the file system.
pub fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Opens options for a file that, where it is made, is its owner's alone.
pub fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Whether a file of this name was being written aside; without a writer it is what a killed one left.
pub fn is_leftover(name: &str) -> bool {
    name.starts_with(".voxfit-") && name.ends_with(".tmp")
}

/// Writes `bytes` to `path` as [`write_atomically`] does.
///
/// # Errors
/// Any failure of the file system.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomically(path, |file| file.write_all(bytes))
}

/// Writes `bytes` to `path` as [`write_privately`] does.
///
/// # Errors
/// Any failure of the file system.
pub fn write_bytes_privately(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_privately(path, |file| file.write_all(bytes))
}

/// The bytes of a file of at most `most` of them: what a person or this program wrote there is small, and a larger file
/// is not that.
///
/// # Errors
/// A larger file; any failure of the file system.
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Not by the length that the system states: a pipe or a device has none.
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= most {
        true => Ok(bytes),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, format!("has more than {most} bytes"))),
    }
}

/// Makes a rename durable; on systems where a folder cannot be opened there is nothing to do.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// SHA-256 of a byte string, in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_into_and_a_link_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::write(&file, b"old").unwrap();
        write_bytes(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        // A socket stands for what is no regular file; it cannot be opened, and must still be there.
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(write_bytes(&socket, b"x").is_err());
        assert!(!fs::metadata(&socket).unwrap().is_file());
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_bytes(&ours, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_reads_what_is_not_yet_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let modes = |of: &Path| -> Vec<u32> {
            fs::read_dir(of)
                .unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap().permissions().mode() & 0o777)
                .collect()
        };
        write_atomically::<io::Error>(&folder.path().join("shared"), |_| {
            assert_eq!(modes(folder.path()), [0o600]);
            Ok(())
        })
        .unwrap();
        let private = folder.path().join("a/b");
        write_privately::<io::Error>(&private.join("own"), |_| {
            assert_eq!(modes(&private), [0o600]);
            Ok(())
        })
        .unwrap();
        assert_eq!((modes(&private), modes(&folder.path().join("a"))), (vec![0o600], vec![0o700]));
    }
}
