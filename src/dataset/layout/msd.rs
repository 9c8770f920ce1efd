//! The Medical Segmentation Decathlon's layout: `training` lists `{"image": path, "label": path}`.
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Case, Folder, MAX_CASES, MAX_FILES, MAX_PATH, are_there, is_there};
use crate::volume::pair_stem;

const CURE: &str = "write every case as {\"image\": \"imagesTr/a.nii.gz\", \"label\": \"labelsTr/a.nii.gz\"}";

/// The cases whose files are there; `None` where there is no list.
pub(super) fn cases(folder: &mut Folder<'_>, description: &Map<String, Value>, channels: usize) -> Option<Vec<Case>> {
    let Some(Value::Array(training)) = description.get("training") else {
        folder.fault("training", "is no list", CURE);
        return None;
    };
    if training.is_empty() {
        folder.fault("training", "lists no case", "add the labelled cases");
    }
    let files: usize = training
        .iter()
        .map(|entry| 1 + entry.get("image").and_then(Value::as_array).map_or(1, Vec::len))
        .fold(0, usize::saturating_add);
    if training.len() > MAX_CASES || files > MAX_FILES {
        let problem =
            format!("lists {} cases of {files} files; read are up to {MAX_CASES} of {MAX_FILES}", training.len());
        folder.fault("training", problem, "split the dataset");
        return None;
    }
    // What macOS leaves beside files on foreign disks, in a list that a script made.
    let is_shadow = |entry: &Value| {
        let image = entry.get("image").and_then(Value::as_str).unwrap_or_default();
        image.rsplit(['/', '\\']).next().is_some_and(|name| name.starts_with("._"))
    };
    let listed = training.iter().enumerate().filter(|(_, entry)| !is_shadow(entry));
    Some(listed.filter_map(|(index, entry)| case(folder, index, entry, channels)).collect())
}

fn case(folder: &mut Folder<'_>, index: usize, entry: &Value, channels: usize) -> Option<Case> {
    let field = |key: &str| format!("training[{index}].{key}");
    let mut images = match entry.get("image") {
        Some(Value::String(text)) => vec![inside(folder, &field("image"), text)?],
        Some(Value::Array(list)) if !list.is_empty() && list.iter().all(Value::is_string) => list
            .iter()
            .filter_map(Value::as_str)
            .map(|text| inside(folder, &field("image"), text))
            .collect::<Option<Vec<_>>>()?,
        _ => {
            folder.fault(field("image"), "is missing or no path", CURE);
            return None;
        }
    };
    let Some(label) = entry.get("label").and_then(Value::as_str) else {
        folder.fault(field("label"), "is missing or no path", CURE);
        return None;
    };
    let label = inside(folder, &field("label"), label)?;
    let id = id(&images[0], &label);
    if let [single] = &images[..]
        && let Some(numbered) = numbered(single, channels)
    {
        images = numbered;
    }
    let mut complete = are_there(folder, &id, &images, "image");
    complete &= is_there(folder, &id, &label, "label");
    complete.then_some(Case { id, images, label })
}

/// `text` as a path below the dataset's folder.
fn inside(folder: &mut Folder<'_>, field: &str, text: &str) -> Option<PathBuf> {
    if text.len() > MAX_PATH {
        folder.fault(field, format!("is a path of more than {MAX_PATH} bytes"), "give folders and files short names");
        return None;
    }
    // Both separators on every system: a description that is refused on one must not be read on another.
    let parts: Vec<&str> = text.split(['/', '\\']).collect();
    // On Windows `a/C:b` is a place on drive C.
    let drive = |part: &&str| part.as_bytes().get(1) == Some(&b':') && part.as_bytes()[0].is_ascii_alphabetic();
    let names = parts.iter().filter(|part| !matches!(**part, "" | ".")).count();
    if names == 0 || parts[0].is_empty() || parts.iter().any(drive) || parts.contains(&"..") || text.contains('\0') {
        folder.fault(
            field,
            format!("{text:?} does not lie below the dataset's folder"),
            "move the file into the dataset and write its path relative to dataset.json, without `..`",
        );
        return None;
    }
    // Written on Windows and read elsewhere, a path may have backslashes.
    let path = below(folder.root, text.split('/'));
    Some(if text.contains('\\') && !path.exists() { below(folder.root, parts.into_iter()) } else { path })
}

/// Part by part, and none of them empty: `root.join(".//etc")` less its `./` would be `/etc`.
fn below<'a>(root: &Path, parts: impl Iterator<Item = &'a str>) -> PathBuf {
    parts.filter(|part| !matches!(*part, "" | ".")).fold(root.to_path_buf(), |path, part| path.join(part))
}

/// File name without `.nii` or `.nii.gz`, or the ending of one file of a pair.
fn stem(path: &Path) -> String {
    if let Some(stem) = pair_stem(path) {
        return stem.to_owned();
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    plain.strip_suffix(".nii").unwrap_or(plain).to_string()
}

/// The image's stem; without `_0000` where the label's shows that this numbers the channel and not the case.
fn id(image: &Path, label: &Path) -> String {
    let image = stem(image);
    match image.strip_suffix("_0000") {
        Some(plain) if stem(label) == plain => plain.to_string(),
        _ => image,
    }
}

/// nnU-Net v1 lists `a.nii.gz` and stores `a_0000.nii.gz`, `a_0001.nii.gz`, ...: these, where only they are there.
fn numbered(image: &Path, channels: usize) -> Option<Vec<PathBuf>> {
    let name = image.file_name()?.to_str()?;
    let stem = stem(image);
    let ending = name.get(stem.len()..)?;
    let files: Vec<PathBuf> =
        (0..channels).map(|channel| image.with_file_name(format!("{stem}_{channel:04}{ending}"))).collect();
    (!image.exists() && files.first()?.exists()).then_some(files)
}

#[cfg(test)]
mod tests {
    use super::{id, inside};
    use crate::dataset::layout::Folder;
    use std::path::Path;

    #[test]
    fn paths_stay_below_the_folder() {
        let mut folder = Folder { root: Path::new("/data"), json: "/data/dataset.json".into(), faults: Vec::new() };
        let bad = ["", "/etc/passwd", "../a.nii", "imagesTr/../../a.nii", "C:\\a.nii", "\\\\host\\a", "a\\..\\..\\b"];
        for bad in bad.into_iter().chain([".", "./", "imagesTr/C:a.nii", "imagesTr/..", "a\0b"]) {
            assert!(inside(&mut folder, "training[0].image", bad).is_none(), "{bad}");
        }
        assert_eq!(folder.faults.len(), 12);
        // What begins with dots must not become absolute when they are taken away.
        for dots in [".//etc/passwd", "././/etc/passwd", ".///etc/passwd", ".\\/etc/passwd"] {
            let path = inside(&mut folder, "training[0].image", dots).unwrap();
            assert!(path.starts_with("/data") && path.ends_with("etc/passwd"), "{dots}: {}", path.display());
        }
        for good in ["./imagesTr/a.nii", "imagesTr/a.nii", "imagesTr/..a.nii", "imagesTr//a.nii", ".//imagesTr/a.nii"] {
            assert!(inside(&mut folder, "training[0].image", good).unwrap().starts_with("/data/imagesTr"), "{good}");
        }
    }

    #[test]
    fn only_a_channel_number_is_cut_from_the_id() {
        let id = |image: &str, label: &str| id(Path::new(image), Path::new(label));
        assert_eq!(id("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"), "a");
        assert_eq!(id("imagesTr/a_0000.nii.gz", "labelsTr/a_0000.nii.gz"), "a_0000");
        assert_eq!(id("imagesTr/a_0001.nii", "labelsTr/a.nii"), "a_0001");
    }
}
