//! What others may see of patients: nothing of their files' headers, their folders or, where asked for, their names; and
//! what is made of their images is its owner's alone.
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Lab, put, stderr, stdout};
use serde_json::json;

/// Everything in a folder, itself included, at any depth.
fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(all(&path)) } else { found.push(path) }
    }
    found
}

/// A page without what its pictures are written as: any three letters are somewhere in those by chance. They are PNG files
/// of pixels alone (`report::pictures::png` has a test of their chunks).
fn without_pictures(content: Vec<u8>) -> Vec<u8> {
    const START: &str = "data:image/png;base64,";
    let text = match String::from_utf8(content) {
        Ok(text) => text,
        Err(other) => return other.into_bytes(),
    };
    let mut parts = text.split(START);
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts
        .map(|part| part.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || "+/=".contains(letter)));
    (first + &rest.collect::<String>()).into_bytes()
}

/// That no file of a run folder, by its name or content, and no message holds `word`.
fn nowhere(lab: &Lab, run: &str, output: &std::process::Output, word: &str) {
    let said = format!("{}{}", stderr(output), stdout(output));
    assert!(!said.contains(word), "{word} is in {said}");
    let Some(_) = lab.path(run).exists().then_some(()) else { return };
    for path in all(&lab.path(run)) {
        assert!(!path.strip_prefix(lab.path(run)).unwrap().to_string_lossy().contains(word), "{}", path.display());
        if path.is_file() {
            let content = without_pictures(fs::read(&path).unwrap());
            let held = content.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!held, "{word} is in {}", path.display());
        }
    }
}

#[cfg(unix)]
#[test]
fn runs_and_prepared_volumes_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    for arguments in ["--run new/runs/a", "--run folds --fold each --set data.folds=2", "--run seeds --seeds 2"] {
        let output = lab.shell(&format!("umask 000; exec \"$VOXFIT\" -q train c.toml {arguments}"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let mut seen = 0;
    for path in ["new", "folds", "seeds", "cache"].iter().flat_map(|folder| all(&lab.path(folder))) {
        let metadata = fs::metadata(&path).unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{}", path.display());
        seen += 1;
    }
    assert!(seen > 60, "{seen}");
    // Others may well read what is made for them.
    let output = lab.shell("umask 022; exec \"$VOXFIT\" predict new/runs/a data/imagesTr/phantom_001.nii.gz -o out");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mode = |name: &str| fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("out"), mode("out/phantom_001.nii.gz")), (0o755, 0o644));
}

#[test]
fn headers_extensions_and_folders_stay_out() {
    let lab = Lab::new();
    for case in 1..=6 {
        for kind in ["imagesTr", "labelsTr"] {
            lab.edit(&format!("data/{kind}/phantom_{case:03}.nii.gz"), |file| {
                put(file, 14, b"DOE_db");
                put(file, 148, b"DOE^JANE 1970-01-01");
                put(file, 228, b"DOE_aux");
                put(file, 328, b"DOE_intent");
                let voxels = file.split_off(352);
                put(file, 108, &416f32.to_le_bytes());
                put(file, 348, &[1, 0, 0, 0]);
                let mut extension = vec![0; 64];
                put(&mut extension, 0, &64i32.to_le_bytes());
                put(&mut extension, 4, &6i32.to_le_bytes());
                put(&mut extension, 8, b"PatientName=DOE^JANE");
                file.extend(extension);
                file.extend(voxels);
            });
        }
    }
    fs::create_dir_all(lab.path("ward/DOE_JANE")).unwrap();
    fs::rename(lab.path("data"), lab.path("ward/DOE_JANE/data")).unwrap();
    let data = lab.path("ward/DOE_JANE/data");
    for (run, format) in [("a", "text"), ("b", "json")] {
        let arguments =
            ["-vv", "--log-format", format, "train", "c.toml", "--run", run, "--data", data.to_str().unwrap()];
        let output = lab.output(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        nowhere(&lab, run, &output, "DOE");
    }
}

#[test]
fn cases_go_by_numbers_where_asked_for() {
    let lab = Lab::new();
    let digest = lab.digest(&["train", "c.toml", "--run", "named"]);
    assert!(lab.json("named/manifest.json")["train_cases"].to_string().contains("phantom_00"));
    let anonymous = |run: &str, more: &[&str]| {
        let mut arguments = vec!["-vv", "train", "c.toml", "--anonymous-cases", "--run", run];
        arguments.extend(more);
        let output = lab.output(&arguments);
        nowhere(&lab, run, &output, "phantom_0");
        output
    };
    let output = anonymous("a", &[]);
    assert_eq!(common::digest_of(&stdout(&output)), digest, "names are no part of the result");
    let (named, numbered) = (lab.json("named/manifest.json"), lab.json("a/manifest.json"));
    for key in ["train_cases", "validation_cases"] {
        let text = named[key].to_string().replace("phantom_", "case_");
        assert_eq!(numbered[key].to_string(), text, "in the order of ids");
    }
    let keys = ["config_sha256", "data_sha256"];
    assert!(keys.iter().all(|key| named[key] == numbered[key]));
    assert_eq!(lab.json("a/validation/summary.json")["cases"][0]["case"], numbered["validation_cases"][0]);
    anonymous("s", &["--seeds", "2"]);
    assert!(lab.json("s/seeds.json")["cases"][0]["case"].as_str().unwrap().starts_with("case_0"));

    // Faults name the number, whatever file they are in.
    lab.edit("data/labelsTr/phantom_003.nii.gz", |file| file[352] = 9);
    let output = anonymous("b", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("case_003 label: voxels"), "{}", stderr(&output));
    fs::remove_file(lab.path("data/imagesTr/phantom_005.nii.gz")).unwrap();
    let output = anonymous("b", &[]);
    assert!(stderr(&output).contains("case_005, case_003"), "{}", stderr(&output));
    let output = anonymous("b", &["--set", "data.on_bad_case=skip", "--set", "data.folds=2"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let left_out = lab.json("b/manifest.json")["left_out_cases"].clone();
    assert_eq!((&left_out[0]["case"], &left_out[1]["case"]), (&json!("case_003"), &json!("case_005")));
    // The numbers are those of the whole dataset.
    assert!(lab.json("b/manifest.json").to_string().contains("case_006"));
}
