//! Whatever is fed in: exit code 1, one line that names file, field and cure, and nothing written.
mod common;

use std::fs;
use std::path::Path;

use common::{Lab, one_line, put};

const IMAGE: &str = "data/imagesTr/phantom_003.nii.gz";
const LABEL: &str = "data/labelsTr/phantom_003.nii.gz";

/// A run folder must not be there after a refusal.
fn refused(lab: &Lab, arguments: &[&str], parts: &[&str]) {
    let mut all = vec!["train", "c.toml", "--run", "refused"];
    all.extend(arguments);
    let said = lab.failure(&all);
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert!(!lab.path("refused").exists(), "{said}");
}

/// Names of everything in a folder, at any depth; none where there is no folder.
fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

type Edit = fn(&mut Vec<u8>);

/// A fault of an image's file and what the message must name. Positions are those of the NIfTI-1 header.
const FAULTS: [(&str, Edit, &[&str]); 8] = [
    ("voxels cut off", |file| file.truncate(file.len() - 100), &["voxel data", "cut short", "source"]),
    ("wrong magic", |file| put(file, 344, b"nope"), &["magic"]),
    ("absurd sizes", |file| (0..8).for_each(|i| put(file, 40 + 2 * i, &[[7, 0], [0xff, 0x7f]][i.min(1)])), &["dim"]),
    (
        "4D",
        |file| {
            put(file, 40, &[4, 0]);
            put(file, 48, &[2, 0]);
            let voxels = file[352..].to_vec();
            file.extend(voxels);
        },
        &["dim", "4D", "split"],
    ),
    (
        "zero spacing",
        |file| {
            put(file, 80, &[0; 4]);
            put(file, 280, &[0; 16]);
        },
        &["pixdim"],
    ),
    ("no voxels along x", |file| put(file, 42, &[0, 0]), &["dim[1]", "at least 1"]),
    ("unknown type", |file| put(file, 70, &[0xff, 0]), &["datatype"]),
    ("offset in the header", |file| put(file, 108, &8f32.to_le_bytes()), &["vox_offset"]),
];

#[test]
fn damaged_images_are_named() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "run"]);
    let whole = fs::read(lab.path(IMAGE)).unwrap();
    for (name, edit, parts) in FAULTS {
        lab.write(IMAGE, &whole);
        lab.edit(IMAGE, edit);
        println!("{name}");
        let parts = [&["phantom_003.nii.gz"], parts].concat();
        refused(&lab, &[], &parts);
        let said = lab.failure(&["predict", "run", IMAGE, "-o", "out"]);
        for part in parts {
            assert!(said.contains(part), "predict, {name}: `{part}` is not in: {said}");
        }
        assert!(files(&lab.path("out")).is_empty(), "{name}");
    }
    // gzip itself cut off.
    lab.write(IMAGE, &whole[..whole.len() / 2]);
    refused(&lab, &[], &["phantom_003.nii.gz"]);
    assert!(lab.failure(&["predict", "run", IMAGE, "-o", "out"]).contains("phantom_003.nii.gz"));
    // An empty file.
    lab.write(IMAGE, b"");
    refused(&lab, &[], &["phantom_003.nii.gz"]);
    assert!(files(&lab.path("out")).is_empty());
}

#[test]
fn voxels_that_are_no_numbers_are_named() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let lab = Lab::new();
        lab.done(&["train", "c.toml", "--run", "run"]);
        // 16 is the code of 32-bit floats; the last voxel of the file is changed.
        lab.edit(IMAGE, |file| {
            put(file, 70, &[16, 0, 32, 0]);
            file.truncate(352);
            file.extend([0, 0, 0x80, 0x3f].repeat(24 * 24 * 24 - 1));
            file.extend(value.to_le_bytes());
        });
        refused(&lab, &[], &["phantom_003.nii.gz", "voxels", "1 are NaN or infinite", "replace"]);
        let said = lab.failure(&["predict", "run", IMAGE, "-o", "out"]);
        assert!(said.contains("NaN or infinite") && files(&lab.path("out")).is_empty(), "{said}");
    }
}

/// A header that asks for 32767^7 voxels, under a limit of address space that an allocation of them would break.
#[cfg(target_os = "linux")]
#[test]
fn absurd_sizes_allocate_nothing() {
    let lab = Lab::new();
    lab.edit(IMAGE, FAULTS[2].1);
    let output = lab.shell("ulimit -v 1000000; exec \"$VOXFIT\" -q train c.toml --run refused --threads 2");
    assert!(one_line(&output, "absurd").contains("phantom_003.nii.gz: dim"));
    assert!(!lab.path("refused").exists());
    // 2 GB of zeros in 2 MB of gzip would be within what gzip can hold.
    lab.edit(IMAGE, |file| (0..8).for_each(|i| put(file, 40 + 2 * i, &[[3, 0], [0xff, 0x0f]][i.min(1)])));
    let output = lab.shell("ulimit -v 1000000; exec \"$VOXFIT\" -q train c.toml --run refused --threads 2");
    assert!(one_line(&output, "large").contains("phantom_003.nii.gz: dim"));
}

#[test]
fn labels_that_do_not_fit_are_named() {
    let lab = Lab::new();
    let whole = fs::read(lab.path(LABEL)).unwrap();
    lab.edit(LABEL, |file| file[352] = 9);
    refused(&lab, &[], &["phantom_003.nii.gz", "voxels", "9 (1 voxels)", "dataset.json"]);
    // Moved by 40 mm: srow_x and qoffset_x.
    lab.write(LABEL, &whole);
    lab.edit(LABEL, |file| {
        put(file, 292, &40f32.to_le_bytes());
        put(file, 268, &40f32.to_le_bytes());
    });
    refused(&lab, &[], &["labelsTr", "phantom_003.nii.gz", "affine", "mm", "resample"]);
    lab.write(LABEL, &whole);
    lab.edit(LABEL, |file| {
        put(file, 46, &[23, 0]);
        file.truncate(352 + 24 * 24 * 23);
    });
    refused(&lab, &[], &["labelsTr", "phantom_003.nii.gz", "dim", "24x24x23"]);
    fs::remove_file(lab.path(LABEL)).unwrap();
    refused(&lab, &[], &["phantom_003", "labelsTr"]);
}

#[test]
fn a_dataset_that_is_none_is_named() {
    let lab = Lab::new();
    let description = fs::read_to_string(lab.path("data/dataset.json")).unwrap();
    lab.write("data/dataset.json", b"{\"labels\": ");
    refused(&lab, &[], &["dataset.json", "line 1"]);
    lab.write("data/dataset.json", b"[]");
    refused(&lab, &[], &["dataset.json"]);
    lab.write("data/dataset.json", &[0xff; 100]);
    refused(&lab, &[], &["dataset.json"]);
    lab.write("data/dataset.json", "[".repeat(100_000).as_bytes());
    refused(&lab, &[], &["dataset.json"]);
    let no_labels = description.replace("\"labels\"", "\"lables\"");
    lab.write("data/dataset.json", no_labels.as_bytes());
    refused(&lab, &[], &["dataset.json", "labels"]);
    fs::remove_file(lab.path("data/dataset.json")).unwrap();
    refused(&lab, &[], &["dataset.json"]);
    fs::create_dir(lab.path("empty")).unwrap();
    refused(&lab, &["--data", "empty"], &["empty", "dataset.json"]);
    refused(&lab, &["--data", "c.toml"], &["c.toml: no such folder"]);
    let empty = r#"{"name": "e", "channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1},
                    "numTraining": 0, "file_ending": ".nii.gz"}"#;
    lab.write("none/dataset.json", empty.as_bytes());
    fs::create_dir(lab.path("none/imagesTr")).unwrap();
    refused(&lab, &["--data", "none"], &["none"]);
}

#[test]
fn other_formats_are_refused_with_their_converter() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "run"]);
    for (name, converter) in [("a.dcm", "dcm2niix"), ("a.nrrd", "SimpleITK"), ("a.mha", "SimpleITK")] {
        lab.write(name, b"whatever");
        let said = lab.failure(&["predict", "run", name, "-o", "out"]);
        assert!(said.contains(name) && said.contains(converter), "{said}");
    }
    assert!(!lab.path("out").exists());
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "run"]);
    lab.write("file", b"mine");
    for run in ["file/run", "file"] {
        let said = lab.failure(&["train", "c.toml", "--run", run]);
        assert!(said.contains(run) && said.matches("os error").count() < 2, "{said}");
    }
    for output in ["file/out", "file", "file/out.nii.gz"] {
        let said = lab.failure(&["predict", "run", IMAGE, "-o", output]);
        assert!(said.contains("file") && said.matches("os error").count() == 1, "{said}");
    }
    let labels = "data/labelsTr";
    for option in ["--json", "--csv"] {
        assert!(lab.failure(&["evaluate", labels, labels, option, "file/x"]).contains("file/x"));
    }
    assert!(lab.failure(&["phantom", "file/x"]).contains("file/x"));
    let output =
        lab.voxfit(&["-q", "train", "c.toml", "--run", "r"]).env("VOXFIT_CACHE", "file/cache").output().unwrap();
    assert!(one_line(&output, "cache").contains("VOXFIT_CACHE"));
    assert!(!lab.path("r").exists());
    assert_eq!(fs::read(lab.path("file")).unwrap(), b"mine");
}

/// A full disk, played by a limit on the size of a file: writing gives an error just the same.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let lab = Lab::new();
    let limited = |blocks: usize, verb: &str| {
        let script = format!("ulimit -f {blocks}; trap '' XFSZ; exec \"$VOXFIT\" -q {verb}");
        one_line(&lab.shell(&script), verb)
    };
    let said = limited(2, "train c.toml --run r");
    assert!(said.contains("cache") && said.contains("free space"), "{said}");
    assert!(!lab.path("r").exists());
    assert!(!files(&lab.path("cache")).iter().any(|name| name.ends_with(".tmp") || name.ends_with(".case")));

    lab.done(&["train", "c.toml", "--run", "run"]);
    let said = limited(20, "train c.toml --run r");
    assert!(said.contains("r/checkpoints/best/checkpoint.safetensors") && said.contains("room"), "{said}");
    assert_eq!(files(&lab.path("r/checkpoints")), Vec::<String>::new());
    // With room again it goes on.
    assert_eq!(
        lab.digest(&["train", "c.toml", "--run", "r", "--resume"]),
        lab.digest(&["train", "c.toml", "--run", "run", "--resume"])
    );

    let said = limited(0, &format!("predict run {IMAGE} -o out"));
    assert!(said.contains("out/phantom_003.nii.gz") && said.contains("room"), "{said}");
    assert!(files(&lab.path("out")).is_empty());
}

#[test]
fn a_configuration_that_is_wrong_leaves_no_run() {
    let lab = Lab::new();
    for (set, parts) in [
        ("train.stpes=5", &["train.stpes", "train.steps"][..]),
        ("train.learning_rate=-1", &["train.learning_rate is -1", "above 0"]),
        ("network.patch=[16,16]", &["network.patch"]),
        ("network.patch=[17,16,16]", &["network.patch", "[16, 16, 16]"]),
        ("network.patch=[4096,4096,4096]", &["network.patch", "MiB are free", "smaller"]),
        ("batch.effective=0", &["batch.effective", "from 1 to 65536"]),
        ("data.fold=5", &["data.fold", "folds - 1"]),
        ("network.stages=9", &["network.stages"]),
        ("augment.noise.sigma=[2,1]", &["augment.noise.sigma"]),
        ("data.dataset=${NOT_SET_HERE}/x", &["NOT_SET_HERE", "--data"]),
        ("data.dataset=${VOXFIT_VOLUMES}/x", &["VOXFIT_VOLUMES", "medicaldecathlon.com"]),
    ] {
        refused(&lab, &["--set", set], parts);
    }
    let wide = ["--set", "network.features=4096", "--set", "network.features_max=4096", "--set", "network.stages=3"];
    refused(
        &lab,
        &[&wide[..], &["--set", "network.patch=[2048,2048,2048]", "--set", "batch.micro=1"]].concat(),
        &["free"],
    );
}

#[test]
fn run_folders_are_not_mixed_up() {
    let lab = Lab::new();
    let digest = lab.digest(&["train", "c.toml", "--run", "run"]);
    assert!(lab.failure(&["train", "c.toml", "--run", "run"]).contains("run: the run folder exists; add --resume"));
    assert_eq!(lab.digest(&["train", "c.toml", "--run", "run", "--resume"]), digest);
    assert!(lab.failure(&["train", "c.toml", "--run", "data", "--resume"]).contains("data: the folder holds no run"));
    assert!(lab.failure(&["train", "c.toml", "--run", "data"]).contains("another --run"));
    let said = lab.failure(&["train", "c.toml", "--run", "run", "--resume", "--set", "train.seed=1"]);
    assert!(said.contains("the configuration is not the one of this run"), "{said}");
    let said = lab.failure(&["train", "c.toml", "--run", "run", "--resume", "--fold", "each"]);
    assert!(said.contains("no folds of a cross-validation"), "{said}");
    lab.edit(IMAGE, |file| file[400] ^= 1);
    let said = lab.failure(&["train", "c.toml", "--run", "run", "--resume"]);
    assert!(said.contains("run: the dataset is not the one"), "{said}");
}

#[test]
fn weights_of_another_kind_are_refused() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "run"]);
    for weights in ["data/dataset.json", IMAGE, "c.toml"] {
        refused(&lab, &["--weights", weights], &[weights, "use"]);
    }
    refused(&lab, &["--weights", "nothing"], &["nothing: no such file"]);
    let weights = "run/checkpoints/last/checkpoint.safetensors";
    refused(&lab, &["--weights", weights, "--set", "network.features=8"], &[weights, "has shape"]);
    let mut bytes = fs::read(lab.path(weights)).unwrap();
    bytes[0..8].copy_from_slice(&u64::MAX.to_le_bytes());
    lab.write("huge", &bytes);
    refused(&lab, &["--weights", "huge"], &["huge", "header"]);
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before_it() {
    let lab = Lab::new();
    let digest = lab.digest(&["train", "c.toml", "--run", "run"]);
    let (last, previous) = ("run/checkpoints/last/checkpoint.safetensors", "run/checkpoints/last/previous.safetensors");
    let mut bytes = fs::read(lab.path(last)).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    lab.write(last, &bytes);
    let output = lab.output(&["train", "c.toml", "--run", "run", "--resume"]);
    let said = common::stderr(&output);
    assert!(said.contains("SHA-256 differs") && said.contains("previous.safetensors"), "{said}");
    assert_eq!(common::digest_of(&common::stdout(&output)), digest);
    // Now both.
    lab.write(last, &bytes[..end / 2]);
    lab.write(previous, b"");
    let said = lab.failure(&["train", "c.toml", "--run", "run", "--resume"]);
    assert!(said.contains(last) && said.contains("train again"), "{said}");
    assert!(lab.failure(&["predict", "run", IMAGE, "-o", "out"]).contains(last));
    assert!(!lab.path("out").exists());
}

#[test]
fn predict_needs_a_run_and_inputs_that_fit() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "run"]);
    for (arguments, parts) in [
        (&["data", IMAGE][..], &["data: no run in this folder", "give the run folder"][..]),
        (&["nothing", IMAGE], &["nothing: no such folder"]),
        (&["run", "nothing.nii.gz"], &["nothing.nii.gz: no such file"]),
        (&["run", "data"], &["data: no .nii or .nii.gz file in it"]),
        (&["run", IMAGE, IMAGE], &["phantom_003", "give each case once"]),
        (&["run", "c.toml"], &["c.toml"]),
    ] {
        let mut all = vec!["predict", "-o", "out"];
        all.extend(arguments);
        let said = lab.failure(&all);
        for part in parts {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    }
    for name in ["two_0000.nii.gz", "two_0001.nii.gz"] {
        fs::copy(lab.path(IMAGE), lab.path(name)).unwrap();
    }
    let said = lab.failure(&["predict", "run", "two_0000.nii.gz", "two_0001.nii.gz", "-o", "out"]);
    assert!(said.contains("case two has 2 file(s), the network 1 channel(s)"), "{said}");
    let said = lab.failure(&["predict", "run", "data/imagesTr", "-o", "one.nii.gz"]);
    assert!(said.contains("one.nii.gz: one file for 6 cases"), "{said}");
    // An image that a label map would take the place of.
    let before = fs::read(lab.path(IMAGE)).unwrap();
    for output in ["data/imagesTr", IMAGE, "data/../data/imagesTr"] {
        let said = lab.failure(&["predict", "run", IMAGE, "-o", output]);
        assert!(said.contains("would overwrite an input") && said.contains("-o"), "{said}");
    }
    assert_eq!(fs::read(lab.path(IMAGE)).unwrap(), before);
    lab.write("run/plan.toml", b"patch = 3\n");
    assert!(lab.failure(&["predict", "run", IMAGE, "-o", "out"]).contains("plan.toml"));
    assert!(!lab.path("out").exists() && !lab.path("one.nii.gz").exists());
}

#[test]
fn evaluate_needs_pairs_on_one_grid() {
    let lab = Lab::new();
    let labels = "data/labelsTr";
    fs::create_dir(lab.path("found")).unwrap();
    assert!(lab.failure(&["evaluate", "found", labels]).contains("found"));
    fs::copy(lab.path(LABEL), lab.path("found/other.nii.gz")).unwrap();
    assert!(lab.failure(&["evaluate", "found", labels]).contains("found/other.nii.gz: no label of this name"));
    fs::rename(lab.path("found/other.nii.gz"), lab.path("found/phantom_003.nii.gz")).unwrap();
    lab.edit("found/phantom_003.nii.gz", |file| {
        put(file, 292, &40f32.to_le_bytes());
        put(file, 268, &40f32.to_le_bytes());
    });
    let said = lab.failure(&["evaluate", "found", labels, "--json", "figures.json"]);
    assert!(said.contains("found/phantom_003.nii.gz") && said.contains("mm"), "{said}");
    let said = lab.failure(&["evaluate", labels, labels, "--tolerance", "nan", "--json", "figures.json"]);
    assert!(said.contains("tolerance"), "{said}");
    assert!(!lab.path("figures.json").exists());
}
