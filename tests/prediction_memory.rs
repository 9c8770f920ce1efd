//! `predict --memory`: the same bits however little there is, a sentence where it is too little, and what the system
//! measures stays inside.
mod common;

use std::fs;
use std::process::Output;

use common::{Lab, one_line, put, stderr, unpacked};
use serde_json::json;
use voxfit::volume;

const IMAGE: &str = "data/imagesTr/phantom_003.nii.gz";

/// Voxels x, y, z of an input, and rows R, A, S of where they lie, in mm.
type Grid = ([usize; 3], [[f32; 4]; 3]);

const STRAIGHT: Grid = ([96, 80, 72], [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);

impl Input {
    /// Writes a NIfTI file of int16 with something like the training's intensities in `inside`, x, y, z, and 0 elsewhere.
    fn write(&self, lab: &Lab, name: &str) {
        let (size, rows) = self.grid;
        let mut bytes = unpacked(&lab.path(IMAGE))[..352].to_vec();
        for (axis, voxels) in size.into_iter().enumerate() {
            put(&mut bytes, 42 + 2 * axis, &(voxels as u16).to_le_bytes());
            let spacing = rows.iter().map(|row| row[axis].powi(2)).sum::<f32>().sqrt();
            put(&mut bytes, 80 + 4 * axis, &spacing.to_le_bytes());
        }
        put(&mut bytes, 254, &1i16.to_le_bytes());
        for (index, value) in rows.iter().flatten().enumerate() {
            put(&mut bytes, 280 + 4 * index, &value.to_le_bytes());
        }
        let source = volume::read_image(&lab.path(IMAGE)).unwrap().data;
        let [width, height, depth] = size;
        for (z, y, x) in (0..depth).flat_map(|z| (0..height).flat_map(move |y| (0..width).map(move |x| (z, y, x)))) {
            let at = [x, y, z];
            let inside =
                self.inside.is_none_or(|(low, high)| (0..3).all(|axis| (low[axis]..high[axis]).contains(&at[axis])));
            let value = source[[z % 24, (y + z / 24) % 24, (x + self.shift + y / 24) % 24]];
            bytes.extend(if inside { value as i16 } else { 0 }.to_le_bytes());
        }
        lab.write(name, &bytes);
    }
}

#[derive(Clone, Copy)]
struct Input {
    grid: Grid,
    /// First voxel and the one behind the last, x, y, z.
    inside: Option<([usize; 3], [usize; 3])>,
    /// Makes one channel differ from the other.
    shift: usize,
}

const INPUT: Input = Input { grid: STRAIGHT, inside: None, shift: 0 };

/// The number before " MiB" in what follows `after`.
fn mib(said: &str, after: &str) -> u64 {
    let rest = said.split_once(after).unwrap_or_else(|| panic!("no `{after}` in {said}")).1;
    rest.split_once(" MiB").unwrap().0.trim().parse().unwrap()
}

/// Predicts with as few MiB as it takes, which it says itself.
fn tightly(lab: &Lab, arguments: &[&str]) -> (u64, Output) {
    let mut budget = 1;
    for _ in 0..3 {
        let size = format!("{budget}MiB");
        let all = [&["-v", "predict"], arguments, &["--memory", &size]].concat();
        let output = lab.output(&all);
        if output.status.code() == Some(0) {
            return (budget, output);
        }
        budget = mib(&stderr(&output), "give ");
    }
    panic!("{arguments:?}: never enough");
}

/// The same files come out of little memory as of much, and with little most of it was in files.
fn same(lab: &Lab, run: &str, inputs: &[&str]) {
    for extra in [&[][..], &["--probabilities", "--overlap", "0.25"]] {
        let (free, tight) = (lab.path("free"), lab.path("tight"));
        let with = |out| [&[run], inputs, &["-o", out], extra].concat();
        let output = lab.output(&[&["-v", "predict"], &with("free")[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(!stderr(&output).contains("in a file"), "{}", stderr(&output));
        let (_, output) = tightly(lab, &with("tight"));
        for name in ["image: ", "sums of scores: "] {
            let text = stderr(&output);
            let line = text.lines().find(|line| line.contains(name)).unwrap();
            // Budgets are whole MiB, so that very little may be over.
            assert!(line.contains("in a file") || mib(line, name) < 3, "{line}");
        }
        assert!(stderr(&output).contains("in a file"), "{}", stderr(&output));
        let names = |folder| {
            let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&free), names(&tight), "something is left behind");
        for name in names(&free).iter().filter(|name| name.to_string_lossy().ends_with(".nii.gz")) {
            let [a, b] = [&free, &tight].map(|folder| unpacked(&folder.join(name)));
            assert!(a[352..].iter().any(|byte| *byte != a[352]), "{name:?} is the same everywhere, and proves nothing");
            assert!(a == b, "{name:?} differs");
        }
        [free, tight].iter().for_each(|folder| fs::remove_dir_all(folder).unwrap());
    }
}

fn train(lab: &Lab, run: &str, extra: &[&str]) {
    let mut arguments = vec!["train", "c.toml", "--run", run, "--steps", "12"];
    arguments.extend(["--set", "train.learning_rate=0.05", "--set", "train.validate_every=100"]);
    arguments.extend(extra);
    lab.done(&arguments);
}

#[test]
fn nothing_shows_how_little_memory_there_was() {
    let lab = Lab::new();
    train(&lab, "a", &[]);
    INPUT.write(&lab, "straight.nii");
    same(&lab, "a", &["straight.nii"]);

    let scaled = [[0.8, 0.0, 0.0, 5.0], [0.0, 1.3, 0.0, -7.0], [0.0, 0.0, 0.9, 3.0]];
    Input { grid: ([90, 70, 80], scaled), ..INPUT }.write(&lab, "fine.nii");
    same(&lab, "a", &["fine.nii"]);

    // The file's axes are z from above, x, and y from behind.
    let turned = [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 80.0], [-1.0, 0.0, 0.0, 70.0]];
    Input { grid: ([70, 96, 80], turned), ..INPUT }.write(&lab, "turned.nii");
    same(&lab, "a", &["turned.nii"]);
    let coarse = turned.map(|row| row.map(|mm| mm * 1.2));
    Input { grid: ([70, 96, 80], coarse), ..INPUT }.write(&lab, "coarse.nii");
    same(&lab, "a", &["coarse.nii"]);

    let flat = ([400, 300, 5], STRAIGHT.1);
    Input { grid: flat, ..INPUT }.write(&lab, "flat.nii");
    same(&lab, "a", &["flat.nii"]);

    let inside = Some(([7, 11, 3], [90, 76, 69]));
    Input { inside, ..INPUT }.write(&lab, "cropped.nii");
    same(&lab, "a", &["cropped.nii"]);
    // The same where zeros inside the crop do not count.
    let plan = fs::read_to_string(lab.path("a/plan.toml")).unwrap();
    let masked = plan.replace("nonzero = false", "nonzero = true");
    assert_ne!(plan, masked);
    lab.write("a/plan.toml", masked.as_bytes());
    same(&lab, "a", &["cropped.nii"]);
    Input { inside, grid: ([90, 80, 72], scaled), ..INPUT }.write(&lab, "both.nii");
    same(&lab, "a", &["both.nii"]);
}

#[test]
fn nor_do_two_channels() {
    let lab = Lab::new();
    for case in 1..=6 {
        let image = volume::read_image(&lab.path(&format!("data/imagesTr/phantom_{case:03}.nii.gz"))).unwrap();
        fs::create_dir_all(lab.path("two/labelsTr")).unwrap();
        let label = format!("labelsTr/phantom_{case:03}.nii.gz");
        fs::copy(lab.path("data").join(&label), lab.path("two").join(&label)).unwrap();
        for (channel, data) in [image.data.clone(), image.data.mapv(|value| 100.0 - value / 2.0)].iter().enumerate() {
            let name = format!("two/imagesTr/phantom_{case:03}_{channel:04}.nii.gz");
            volume::write_image(&lab.path(&name), data.view(), &image.native).unwrap();
        }
    }
    let description = json!({ "channel_names": {"0": "T1", "1": "T2"}, "file_ending": ".nii.gz", "numTraining": 6,
        "labels": {"background": 0, "liver": 1, "kidney": 2} });
    lab.write("two/dataset.json", description.to_string().as_bytes());
    train(&lab, "a", &["--data", "two"]);
    for grid in [STRAIGHT, (STRAIGHT.0, STRAIGHT.1.map(|row| row.map(|mm| mm * 0.9)))] {
        INPUT.write(&lab, "case_0000.nii");
        Input { grid, ..INPUT }.write(&lab, "case_0000.nii");
        Input { grid, shift: 5, ..INPUT }.write(&lab, "case_0001.nii");
        same(&lab, "a", &["case_0000.nii", "case_0001.nii"]);
    }
}

#[test]
fn too_little_is_said_before_any_work() {
    let lab = Lab::new();
    train(&lab, "a", &[]);
    let said = lab.failure(&["predict", "a", IMAGE, "-o", "out", "--memory", "8MiB"]);
    for part in [
        "phantom_003: predicting needs ",
        "MiB of memory at least",
        " for a tile of the trained patch, ",
        "8 MiB are allowed; give ",
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert!(!lab.path("out").exists());
    // What it says is enough.
    let enough = format!("{}MiB", mib(&said, "give ") + 2);
    lab.done(&["predict", "a", IMAGE, "-o", "out", "--memory", &enough]);
    // A volume whose planes alone are too large is named with what it needs.
    Input { grid: ([3000, 3000, 1], STRAIGHT.1), ..INPUT }.write(&lab, "wide.nii");
    let more = lab.failure(&["predict", "a", "wide.nii", "-o", "wide", "--memory", &enough]);
    assert!(mib(&more, "give ") > mib(&said, "give ") + 50, "{more}");
    assert!(!lab.path("wide").exists());
}

#[test]
fn scratch_files_that_cannot_be_made_are_a_sentence() {
    let lab = Lab::new();
    train(&lab, "a", &[]);
    INPUT.write(&lab, "straight.nii");
    let (budget, _) = tightly(&lab, &["a", "straight.nii", "-o", "out"]);
    fs::remove_dir_all(lab.path("out")).unwrap();
    let said = one_line(
        &lab.shell(&format!(
            "ulimit -f 20; trap '' XFSZ; exec \"$VOXFIT\" -q predict a straight.nii -o out --memory {budget}MiB"
        )),
        "a small disk",
    );
    assert!(said.contains("out") && said.contains("room"), "{said}");
    assert_eq!(fs::read_dir(lab.path("out")).unwrap().count(), 0, "something is left behind");
}

/// Most resident memory of `arguments`, in bytes, as the system has it.
#[cfg(target_os = "linux")]
fn peak(lab: &Lab, arguments: &[&str]) -> u64 {
    let mut child = lab.voxfit(arguments).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        // The system's own figure only grows, so the last that was read is the most.
        let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()) {
            peak = peak.max(kib << 10);
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    assert!(status.success(), "{arguments:?}");
    peak
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_stays_inside() {
    let lab = Lab::new();
    train(&lab, "a", &[]);
    Input { grid: ([160, 160, 128], STRAIGHT.1), ..INPUT }.write(&lab, "large.nii");
    let fine = STRAIGHT.1.map(|row| row.map(|mm| mm * 0.8));
    Input { grid: ([160, 160, 128], fine), ..INPUT }.write(&lab, "fine.nii");
    for input in ["large.nii", "fine.nii"] {
        let all = ["-q", "predict", "a", input, "-o", "out", "--overlap", "0", "--probabilities", "--again"];
        let (least, _) = tightly(&lab, &all[2..]);
        // What the process holds to begin with differs by a little from start to start.
        for budget in [least + 2, least + 8] {
            let size = format!("{budget}MiB");
            let held = peak(&lab, &[&all[..], &["--memory", &size]].concat());
            assert!(held > 8 << 20 && held <= budget << 20, "{input}: {} KiB of {budget} MiB", held >> 10);
            // Nor does it ask for more, which a limit would refuse.
            let limited = format!("ulimit -d {}; exec \"$VOXFIT\" {} --memory {size}", budget << 10, all.join(" "));
            let output = lab.shell(&limited);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        }
        assert!(peak(&lab, &all) > (least + 8) << 20, "{input} is too small to prove anything");
    }
}

#[test]
fn a_training_whose_validation_has_no_room_is_refused_before_its_first_step() {
    let lab = Lab::new();
    // Patches are small, and one case is not.
    lab.done(&["phantom", "large", "--cases", "2", "--size", "96,90,80", "--classes", "2"]);
    let train = ["train", "c.toml", "--data", "large", "--run", "r", "--steps", "1"];
    let said = lab.failure(&[&train[..], &["--memory", "48MiB"]].concat());
    for part in ["phantom_00", ": validating needs ", "48 MiB are allowed; give ", "memory.budget", "--fold all"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert!(!lab.path("r").exists());
    // What it says is enough, to the end and in fact.
    #[cfg(target_os = "linux")]
    {
        let budget = mib(&said, "give ") + 2;
        // Preparing cases keeps to no budget yet.
        lab.done(&["train", "c.toml", "--data", "large", "--run", "prepares", "--steps", "1"]);
        let held = peak(&lab, &[&["-q"], &train[..], &["--memory", &format!("{budget}MiB")]].concat());
        assert!(held > 8 << 20 && held <= budget << 20, "{} KiB of {budget} MiB", held >> 10);
    }
}
