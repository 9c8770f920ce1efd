//! Volumes in two files: a header (`.hdr`) and voxels (`.img`), either of them plain or gzip.
use std::path::{Path, PathBuf};

use super::error::VolumeError;

const HEADER: &str = "hdr";
const VOXELS: &str = "img";

/// The files of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) header: PathBuf,
    pub(super) voxels: PathBuf,
}

impl Pair {
    /// The pair that `path` is one file of by its ending; `None` where its ending is another.
    ///
    /// # Errors
    /// The other file is not beside it.
    pub(super) fn of(path: &Path) -> Result<Option<Self>, VolumeError> {
        let Some(is_header) = is_header(path) else { return Ok(None) };
        let Some(other) = companion(path) else {
            let (lacks, ending) = if is_header { ("voxels", VOXELS) } else { ("header", HEADER) };
            return Err(VolumeError::invalid(
                path,
                "pair",
                format!("its {lacks} (.{ending} or .{ending}.gz of the same name) are not beside it"),
                "put both files of the pair into one folder, or join them into one .nii.gz file",
            ));
        };
        let path = path.to_path_buf();
        let (header, voxels) = if is_header { (path, other) } else { (other, path) };
        Ok(Some(Self { header, voxels }))
    }
}

/// Whether `path` ends as the header of a pair (or as its voxels); `None` for any other ending.
fn is_header(path: &Path) -> Option<bool> {
    let (_, ending, _) = parts(path)?;
    Some(ending.eq_ignore_ascii_case(HEADER))
}

/// Name without ending, ending, and what says that it is packed (`""` or `.gz`), of one file of a pair.
fn parts(path: &Path) -> Option<(&str, &str, &str)> {
    let name = path.file_name()?.to_str()?;
    let packed =
        name.len().checked_sub(3).filter(|&at| name.is_char_boundary(at) && name[at..].eq_ignore_ascii_case(".gz"));
    let (bare, packed) = packed.map_or((name, ""), |at| name.split_at(at));
    let (stem, ending) = bare.rsplit_once('.')?;
    let known = ending.eq_ignore_ascii_case(HEADER) || ending.eq_ignore_ascii_case(VOXELS);
    (known && !stem.is_empty()).then_some((stem, ending, packed))
}

/// The name of a volume without the ending of a pair's file (`a` of `a.hdr` and `a.img.gz`); `None` of any other file.
pub fn pair_stem(path: &Path) -> Option<&str> {
    parts(path).map(|(stem, ..)| stem)
}

/// The files that the volume `path` consists of: itself, or the pair that it is one of, the header first. Of a pair that lacks
/// a file, the other alone.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    match Pair::of(path) {
        Ok(Some(Pair { header, voxels })) => vec![header, voxels],
        _ => vec![path.to_path_buf()],
    }
}

/// The other file of the pair that `path` is one of, where it is there: packed as `path` is, else the other way.
fn companion(path: &Path) -> Option<PathBuf> {
    let (stem, ending, packed) = parts(path)?;
    let other = if ending.eq_ignore_ascii_case(HEADER) { VOXELS } else { HEADER };
    // Old programs write A.HDR and A.IMG.
    let upper = ending.bytes().all(|byte| byte.is_ascii_uppercase());
    let endings = if upper {
        [other.to_ascii_uppercase(), other.to_owned()]
    } else {
        [other.to_owned(), other.to_ascii_uppercase()]
    };
    let packings = match packed {
        "" => ["", ".gz", ".GZ"],
        ".GZ" => [".GZ", ".gz", ""],
        _ => [".gz", "", ".GZ"],
    };
    let names = endings.iter().flat_map(|ending| packings.map(|packed| format!("{stem}.{ending}{packed}")));
    names.map(|name| path.with_file_name(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (given, other) in
            [("a.hdr", "a.img"), ("b.img.gz", "b.hdr.gz"), ("c.d.img", "c.d.hdr.gz"), ("E.HDR", "E.IMG")]
        {
            assert_eq!(companion(&at(given)), None, "{given}");
            assert!(Pair::of(&at(given)).unwrap_err().to_string().contains("are not beside it"));
            [given, other].iter().for_each(|name| std::fs::write(at(name), b"").unwrap());
            assert_eq!(companion(&at(given)), Some(at(other)));
            assert_eq!(Pair::of(&at(given)).unwrap(), Pair::of(&at(other)).unwrap());
            assert_eq!(files_of(&at(given)), files_of(&at(other)));
            assert_eq!(files_of(&at(given)).len(), 2);
        }
        assert_eq!(pair_stem(Path::new("x/c.d.img.gz")), Some("c.d"));
        for other in ["a.nii.gz", "a.nii", "hdr", ".hdr", "a.gz", "é.gz", "z"] {
            assert_eq!(pair_stem(Path::new(other)), None, "{other}");
            assert_eq!(Pair::of(Path::new(other)).unwrap(), None, "{other}");
        }
    }
}
