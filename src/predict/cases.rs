//! Which files make a case.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::PredictError;
use crate::volume::{files_of, pair_stem};

/// One case to predict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputCase {
    /// File name without channel suffix and ending.
    pub id: String,
    /// One per channel, in their order; or one file for all.
    pub files: Vec<PathBuf>,
}

/// Without `.nii` or `.nii.gz`, or the ending of one file of a pair (`.hdr`, `.img`); `None` for another file.
fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let single = name.strip_suffix(".nii.gz").or_else(|| name.strip_suffix(".nii"));
    let stem = single.or_else(|| pair_stem(path))?;
    (!stem.is_empty() && !stem.starts_with("._")).then(|| stem.to_owned())
}

/// One file for a volume of two: the header's, whichever was named.
fn one(path: &Path) -> PathBuf {
    files_of(path).swap_remove(0)
}

/// `CASE_0001` as `(CASE, 1)`: nnU-Net's channel suffix.
fn channel_suffix(stem: &str) -> Option<(&str, usize)> {
    let (case, digits) = stem.rsplit_once('_')?;
    let is_channel = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit()) && !case.is_empty();
    is_channel.then(|| digits.parse().ok().map(|channel| (case, channel)))?
}

/// Groups files, and the volumes in folders, into cases of `channels` channels, in order of id. `CASE_0000`, `CASE_0001`,
/// ... are the channels of one case; a file without such a suffix is a case of its own.
///
/// # Errors
/// A file of another kind, a folder without volumes, a case with a channel missing or too many, two cases of one name.
pub fn find_cases(inputs: &[PathBuf], channels: usize) -> Result<Vec<InputCase>, PredictError> {
    let refuse = |path: &Path, problem: String, cure: &str| PredictError::Input {
        path: path.to_owned(),
        problem,
        cure: cure.to_owned(),
    };
    let mut files = Vec::new();
    for input in inputs {
        if !input.is_dir() {
            if stem(input).is_none() && input.is_file() {
                // The reader knows other formats by name and says how to convert them.
                crate::volume::read_header(input)?;
            }
            let file = one(input);
            // Whoever names both files of a pair means one volume.
            if pair_stem(input).is_none() || !files.contains(&file) {
                files.push(file);
            }
            continue;
        }
        let entries = std::fs::read_dir(input).map_err(|source| PredictError::Io { path: input.clone(), source })?;
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.is_file() && stem(path).is_some())
            .map(|path| one(&path))
            .collect();
        if found.is_empty() {
            return Err(refuse(
                input,
                "no .nii or .nii.gz file in it, nor a pair of .hdr and .img".into(),
                "give a folder of volumes",
            ));
        }
        found.sort();
        found.dedup();
        files.extend(found);
    }
    let mut cases: BTreeMap<String, Vec<(Option<usize>, PathBuf)>> = BTreeMap::new();
    for file in files {
        let Some(stem) = stem(&file) else {
            return Err(refuse(&file, "not a .nii, .nii.gz, .hdr or .img file".into(), "convert it to NIfTI"));
        };
        match channel_suffix(&stem) {
            Some((case, channel)) => cases.entry(case.to_owned()).or_default().push((Some(channel), file)),
            None => cases.entry(stem).or_default().push((None, file)),
        }
    }
    let mut result = Vec::new();
    for (id, mut files) in cases {
        files.sort();
        let named: Vec<Option<usize>> = files.iter().map(|(channel, _)| *channel).collect();
        let whole = named == [None];
        let complete = named.iter().copied().eq((0..channels).map(Some));
        if !whole && !complete {
            let problem = format!("case {id} has {} file(s), the network {channels} channel(s)", files.len());
            let cure = "give each case once, with CASE_0000, CASE_0001, ... for its channels";
            return Err(refuse(&files[0].1, problem, cure));
        }
        result.push(InputCase { id, files: files.into_iter().map(|(_, file)| file).collect() });
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_a_case_belong_together() {
        let files = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let cases = find_cases(&files(&["b_0001.nii.gz", "a_0000.nii", "b_0000.nii.gz", "a_0001.nii"]), 2).unwrap();
        assert_eq!(cases.iter().map(|case| case.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(cases[1].files, files(&["b_0000.nii.gz", "b_0001.nii.gz"]));
        // MSD's names end in three digits: no channel suffix.
        assert_eq!(find_cases(&files(&["hippocampus_001.nii.gz"]), 1).unwrap()[0].id, "hippocampus_001");
        let error = find_cases(&files(&["b_0001.nii.gz"]), 2).unwrap_err().to_string();
        assert!(error.contains("case b has 1 file(s), the network 2 channel(s)"), "{error}");
        assert!(find_cases(&files(&["scan.png"]), 1).is_err());
    }

    /// Either file of a pair names it, and in a folder the two are one case.
    #[test]
    fn a_pair_is_one_case() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a_0000.hdr", "a_0000.img", "b.hdr.gz", "b.img.gz", "c.nii"] {
            std::fs::write(at(name), b"").unwrap();
        }
        let whole = find_cases(&[folder.path().to_owned()], 1).unwrap();
        let expected = [("a", "a_0000.hdr"), ("b", "b.hdr.gz"), ("c", "c.nii")];
        let expected = expected.map(|(id, name)| InputCase { id: id.into(), files: vec![at(name)] });
        assert_eq!(whole, expected);
        for name in ["a_0000.hdr", "a_0000.img"] {
            assert_eq!(find_cases(&[at(name)], 1).unwrap(), expected[..1]);
        }
        assert_eq!(find_cases(&["a_0000.hdr", "a_0000.img"].map(at), 1).unwrap(), expected[..1]);
    }
}
