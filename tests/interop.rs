//! Weights that leave voxfit and come back: `export`, `import`, and nnU-Net's own code on what was exported.
//!
//! What needs PyTorch asks the Python in VOXFIT_PYTHON (else python3) and is skipped with a message where that has no
//! torch, safetensors and dynamic_network_architectures.
mod common;
mod small_net;

use std::fs;
use std::path::Path;
use std::process::Command;

use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize_to_file};
use small_net::{CHANNELS, SIZE, network_of, plan, residual_plan};
use voxfit::config::Activations;
use voxfit::dataset::fingerprint::Intensities;
use voxfit::dataset::prepare::Preparation;
use voxfit::network::plan::{NetworkPlan, Norm};
use voxfit::network::{Mode, UNet, weights_sha256};
use voxfit::train::LoadedRun;
use voxfit::train::checkpoint::{self, State};
use voxfit::volume::normalise::Normalisation;

use common::Lab;

/// A run folder around `network`, as a training leaves it.
fn write_run(folder: &Path, network: &UNet) {
    let plan = network.plan().clone();
    let names = |kind: &str, count: usize| (0..count).map(|number| format!("{kind}{number}")).collect::<Vec<_>>();
    let intensities = Intensities {
        mean: 1.0,
        median: 1.0,
        deviation: 2.0,
        min: -3.0,
        max: 4.0,
        percentile_00_5: -2.5,
        percentile_99_5: 3.5,
    };
    let run = LoadedRun {
        preparation: Preparation {
            spacing: [1.0, 1.5, 2.0],
            normalisation: vec![Normalisation::ZScore { nonzero: false }; plan.in_channels],
        },
        patch: SIZE,
        activations: Activations::F32,
        channels: names("channel", plan.in_channels),
        classes: names("class", plan.classes),
        ignore: None,
        remap: Default::default(),
        regions: Vec::new(),
        mirror_axes: [true; 3],
        mirror: false,
        spacing_range: [[1.0; 3]; 2],
        intensities: vec![intensities; plan.in_channels],
        validates_on_training_cases: false,
        network: plan,
    };
    let state = State {
        step: 5,
        steps: 5,
        updates: 5,
        loss_scale: 1.0,
        clean_steps: 0,
        best: None,
        finished: true,
        config_sha256: String::new(),
        weights_sha256: network.weights_sha256(),
    };
    let path = voxfit::train::checkpoint_path(folder, "last");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(folder.join("plan.toml"), toml::to_string(&run).unwrap()).unwrap();
    checkpoint::save(&path, network, None, &state).unwrap();
}

/// An image and the logits that voxfit gives for it, in f32.
fn write_reference(path: &Path, network: &UNet) {
    let [z, y, x] = SIZE;
    let image: Vec<f32> = (0..CHANNELS * z * y * x)
        .map(|i| (0.37 * i as f64).sin() as f32 + 0.5 * (0.011 * i as f64).cos() as f32)
        .collect();
    let data = TensorData::new(image.clone(), [1, CHANNELS, z, y, x]);
    let logits = network.forward(Tensor::<5>::from_data(data, &burn::tensor::Device::flex()), Mode::Predict);
    let logits = logits[0].clone().into_data().try_into_vec::<f32>().unwrap();
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (image, logits) = (bytes(&image), bytes(&logits));
    let classes = network.plan().classes;
    let tensors = [
        ("input", TensorView::new(Dtype::F32, vec![1, CHANNELS, z, y, x], &image).unwrap()),
        ("logits", TensorView::new(Dtype::F32, vec![1, classes, z, y, x], &logits).unwrap()),
    ];
    serialize_to_file(tensors, None, path).unwrap();
}

/// The Python to ask; none where it has not what is needed.
fn python(modules: &str) -> Option<String> {
    let python = std::env::var("VOXFIT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    match there {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            println!("skipped: {python} (VOXFIT_PYTHON names another) does not import {modules}");
            None
        }
    }
}

fn script(name: &str) -> String {
    format!("{}/tests/interop/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Every kind of network and norm, with and without heads at the lower levels.
fn networks() -> Vec<(String, NetworkPlan)> {
    let norms = [Norm::Instance, Norm::Batch, Norm::Group { groups: 4 }];
    let mut all = Vec::new();
    for norm in norms {
        for (kind, plan) in [("plain", plan(norm)), ("resenc", residual_plan(norm))] {
            let single = NetworkPlan { deep_supervision: false, ..plan.clone() };
            all.push((format!("{kind} {norm:?}"), plan));
            all.push((format!("{kind} {norm:?} one head"), single));
        }
    }
    all
}

#[test]
fn nnunets_networks_take_the_weights_and_give_the_same_logits() {
    let Some(python) = python("torch, safetensors, dynamic_network_architectures") else { return };
    let lab = Lab::new();
    for (number, (name, plan)) in networks().into_iter().enumerate() {
        let mut network = network_of(&plan);
        // What a batch norm remembers, other than what it begins with.
        for (at, buffer) in network.buffers.iter_mut().enumerate() {
            buffer.values.iter_mut().enumerate().for_each(|(i, value)| *value += 0.1 + 0.02 * ((at + i) % 7) as f32);
        }
        let (run, file) = (format!("run{number}"), format!("out{number}/weights.safetensors"));
        write_run(&lab.path(&run), &network);
        lab.done(&["export", &run, "-o", &file, "--layout", "nnunet"]);
        write_reference(&lab.path("reference.safetensors"), &network);
        let output = Command::new(&python)
            .args([&script("logits.py"), &file, "reference.safetensors"])
            .current_dir(lab.path(""))
            .output()
            .unwrap();
        println!("{name}: {}", common::stdout(&output));
        assert!(output.status.success(), "{name}: {}{}", common::stdout(&output), common::stderr(&output));
    }
}

/// By the recipe in docs/reproducibility.md, from what is in the file.
#[test]
fn the_digest_of_a_run_is_that_of_its_exported_tensors() {
    let lab = Lab::new();
    let digest = lab.digest(&["train", "c.toml", "--run", "r"]);
    let said = lab.done(&["export", "r", "-o", "new/w.safetensors"]);
    assert!(said.ends_with(&format!("weights_sha256 {digest}\n")), "{said}");
    let bytes = fs::read(lab.path("new/w.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    };
    let tensors: Vec<_> = file.iter().collect();
    let tensors = tensors.iter().map(|(name, tensor)| (*name, tensor.shape(), floats(tensor.data()).into()));
    assert_eq!(weights_sha256(tensors), digest);
    // The other checkpoint is another one, and the same export is the same file.
    lab.done(&["export", "r", "-o", "best.safetensors", "--checkpoint", "best"]);
    lab.done(&["export", "r", "-o", "again.safetensors"]);
    assert_eq!(fs::read(lab.path("again.safetensors")).unwrap(), bytes);
}

#[test]
fn what_cannot_be_exported_is_said() {
    let lab = Lab::new();
    let plan = plan(Norm::Instance);
    let single = NetworkPlan { stages: plan.stages[..1].to_vec(), ..plan.clone() };
    write_run(&lab.path("single"), &network_of(&single));
    write_run(&lab.path("folds/fold_0"), &network_of(&plan));
    lab.write("taken/plans.json", b"{\"dataset_name\": \"Dataset001_Own\"}");
    for (arguments, words) in [
        ("single -o s.safetensors --layout nnunet", "one stage"),
        ("single -o s.safetensors --checkpoint best", "no such checkpoint; give --checkpoint last"),
        ("folds -o f.safetensors", "folds/fold_0"),
        ("folds/fold_0 -o taken/f.safetensors --layout nnunet", "another program's file"),
        ("folds/fold_0 -o taken", "is a folder"),
        ("data -o f.safetensors", "plan.toml"),
        ("nowhere -o f.safetensors", "no such folder"),
    ] {
        let mut all = vec!["export"];
        all.extend(arguments.split(' '));
        let said = lab.failure(&all);
        assert!(said.contains(words), "{said}");
    }
    assert!(!lab.path("taken/f.safetensors").exists() && !lab.path("s.safetensors").exists());
    lab.done(&["export", "folds/fold_0", "-o", "f/w.safetensors", "--layout", "nnunet"]);
    lab.done(&["export", "folds/fold_0", "-o", "f/w.safetensors", "--layout", "nnunet"]);
}

/// The way back: what PyTorch takes comes back as it went, to the bit and to the byte of the file.
#[test]
fn what_was_exported_for_nnunet_is_imported_as_it_was() {
    let lab = Lab::new();
    for (number, (name, plan)) in networks().into_iter().filter(|(_, plan)| plan.deep_supervision).enumerate() {
        let run = format!("run{number}");
        write_run(&lab.path(&run), &network_of(&plan));
        lab.done(&["export", &run, "-o", "own.safetensors"]);
        lab.done(&["export", &run, "-o", "theirs/w.safetensors", "--layout", "nnunet"]);
        let said = lab.done(&["import", "theirs/w.safetensors", "-o", "back.safetensors", "--like", &run]);
        assert!(said.contains("4 stages of 4, 8, 12, 12 features, 2 in, 3 out"), "{said}");
        assert_eq!(
            fs::read(lab.path("back.safetensors")).unwrap(),
            fs::read(lab.path("own.safetensors")).unwrap(),
            "{name}"
        );
    }
}

/// tests/data/nnunet_checkpoint.pth was saved by nnU-Net's trainer, and the same tensors by safetensors' Python; see
/// tests/interop/nnunet_checkpoint.py.
#[test]
fn nnunets_own_checkpoint_is_a_start() {
    let lab = Lab::new();
    for ending in ["pth", "safetensors"] {
        let name = format!("nnunet_checkpoint.{ending}");
        let bytes = fs::read(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        lab.write(&name, &bytes);
    }
    let said = lab.done(&["import", "nnunet_checkpoint.pth", "-o", "a.safetensors"]);
    assert!(said.starts_with("network.kind = \"plain\", 2 stages of 2, 4 features, 1 in, 3 out\n"), "{said}");
    lab.done(&["import", "nnunet_checkpoint.safetensors", "-o", "b.safetensors"]);
    let start = fs::read(lab.path("a.safetensors")).unwrap();
    assert_eq!(start, fs::read(lab.path("b.safetensors")).unwrap());
    let digest = common::digest_of(&said);

    // A learning rate that moves no weight of f32 leaves what the training began with.
    let still = ["network.norm=instance", "network.stages=2", "network.features=2", "network.features_max=4"];
    let train = |run: &str, data: &str, more: &[&str]| {
        let mut all =
            vec!["train", "c.toml", "--weights", "a.safetensors", "--run", run, "--data", data, "--steps", "1"];
        let more: Vec<&str> = still.iter().chain(more).copied().collect();
        more.iter().chain(&["train.learning_rate=1e-30", "network.patch=[8, 8, 8]"]).for_each(|set| {
            all.extend(["--set", set]);
        });
        lab.output(&all)
    };
    let output = train("same", "data", &[]);
    assert!(output.status.success(), "{}", common::stderr(&output));
    assert_eq!(lab.json("same/manifest.json")["start_weights_sha256"], digest.as_str());
    assert_eq!(common::digest_of(&common::stdout(&output)), digest);

    // Three classes instead of two: new heads, said; all else as in the file.
    lab.done(&["phantom", "more", "--cases", "4", "--size", "24,24,24", "--classes", "3", "--seed", "7"]);
    let output = train("other", "more", &[]);
    let said = common::stderr(&output);
    assert!(output.status.success() && said.contains("head.0.weight") && said.contains("4 classes"), "{said}");
    lab.done(&["export", "other", "-o", "other.safetensors"]);
    let other = fs::read(lab.path("other.safetensors")).unwrap();
    let (start, other) = (SafeTensors::deserialize(&start).unwrap(), SafeTensors::deserialize(&other).unwrap());
    assert_eq!(start.names().len(), other.names().len());
    for (name, tensor) in other.iter() {
        let same = start.tensor(name).unwrap().data() == tensor.data();
        assert_eq!(same, !name.starts_with("head."), "{name}");
    }
    // Anything but heads must fit.
    let output = train("wide", "data", &["network.features=4"]);
    let said = common::stderr(&output);
    assert!(said.contains("encoder.0.conv0.weight has shape [2, 1, 3, 3, 3], not [4, 1, 3, 3, 3]"), "{said}");
    assert!(!lab.path("wide").exists());
}

#[test]
fn what_cannot_be_imported_is_said() {
    let lab = Lab::new();
    let plan = plan(Norm::Instance);
    write_run(&lab.path("run"), &network_of(&plan));
    lab.done(&["export", "run", "-o", "x/w.safetensors", "--layout", "nnunet"]);
    lab.done(&["export", "run", "-o", "own.safetensors"]);
    write_run(&lab.path("resenc"), &network_of(&residual_plan(Norm::Instance)));
    let bytes = fs::read(lab.path("x/w.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let without = |name: &str, keep: &dyn Fn(&str) -> bool, rename: &dyn Fn(&str) -> String| {
        let tensors = file.iter().filter(|(name, _)| keep(name)).map(|(name, tensor)| (rename(name), tensor));
        serialize_to_file(tensors, None, &lab.path(name)).unwrap();
    };
    let same = |name: &str| name.to_owned();
    without(
        "cut.safetensors",
        &|name| !name.contains("stages.0.0.convs.1.conv.bias") && !name.contains("0.0.convs.1.all_modules.0.bias"),
        &same,
    );
    without("more.safetensors", &|_| true, &|name| {
        name.replace("decoder.stages.0.convs.1", "decoder.stages.0.convs.2")
    });
    without("foreign.safetensors", &|_| true, &|name| format!("backbone.{name}"));
    let mut nan = bytes.clone();
    let length = nan.len();
    nan[length - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    lab.write("nan.safetensors", &nan);
    for (arguments, words) in [
        ("cut.safetensors -o o", "tensor encoder.stages.0.0.convs.1.conv.bias is missing"),
        ("more.safetensors -o o", "tensor decoder.stages.0.convs.1.conv.weight is missing"),
        ("foreign.safetensors -o o", "backbone.decoder"),
        ("own.safetensors -o o", "train --weights"),
        ("nan.safetensors -o o", "no finite number"),
        ("x/w.safetensors -o o --like resenc", "resenc: its network's"),
        ("x/plans.json -o o", "plans.json"),
        ("nowhere.pth -o o", "no such file"),
    ] {
        let mut all = vec!["import"];
        all.extend(arguments.split(' '));
        let said = lab.failure(&all);
        assert!(said.contains(words), "{said}");
        assert!(!lab.path("o").exists());
    }
    // What PyTorch's wrappers put in front, and either of the names that a tensor has, are taken.
    without("wrapped.safetensors", &|name| !name.starts_with("encoder.") && !name.contains(".conv."), &|name| {
        format!("_orig_mod.module.{name}")
    });
    lab.done(&["import", "wrapped.safetensors", "-o", "wrapped"]);
    assert_eq!(fs::read(lab.path("wrapped")).unwrap(), fs::read(lab.path("own.safetensors")).unwrap());
}

/// One file for a run or its folds: the same label maps, and nobody's name in it.
#[test]
fn a_model_file_predicts_as_its_run_and_names_nobody() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "r"]);
    lab.done(&["train", "c.toml", "--run", "folds", "--fold", "each", "--set", "data.folds=2"]);
    let image = "data/imagesTr/phantom_001.nii.gz";
    for run in ["r", "folds"] {
        let model = format!("{run}.voxfit");
        let said = lab.done(&["pack", run, "-o", &model]);
        assert!(said.starts_with(if run == "r" { "1 network in" } else { "2 networks in" }), "{said}");
        lab.done(&["predict", run, image, "-o", &format!("{run}-a"), "--probabilities"]);
        // Where nothing but the file is.
        fs::rename(lab.path(run), lab.path(&format!("{run}-away"))).unwrap();
        lab.done(&["predict", &model, image, "-o", &format!("{run}-b"), "--probabilities"]);
        for entry in fs::read_dir(lab.path(&format!("{run}-a"))).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".nii.gz") {
                let [a, b] = ["a", "b"].map(|which| fs::read(lab.path(&format!("{run}-{which}/{name}"))).unwrap());
                assert!(a == b, "{name}");
            }
        }
        let [a, b] = ["a", "b"].map(|which| lab.json(&format!("{run}-{which}/predict.json")));
        for key in ["weights_sha256", "steps", "checkpoint", "classes"] {
            assert_eq!(a[key], b[key]);
        }
        let bytes = fs::read(lab.path(&model)).unwrap();
        let folder = lab.path("");
        let folder = folder.to_str().unwrap().trim_end_matches('/');
        let names = ["phantom_0", "imagesTr", "labelsTr", "dataset", ".nii", "/home", "/tmp", folder];
        for name in names {
            assert!(!bytes.windows(name.len()).any(|window| window == name.as_bytes()), "{name} is in {model}");
        }
        // It is there to be found: the classes are.
        assert!(bytes.windows(5).any(|window| window == b"liver"));
    }
    let said = lab.failure(&["predict", "r.voxfit", image, "-o", "c", "--checkpoint", "best"]);
    assert!(said.contains("leave out --checkpoint"), "{said}");
    let said = lab.failure(&["predict", image, image, "-o", "c"]);
    assert!(said.contains("voxfit pack"), "{said}");
    let said = lab.failure(&["pack", "data", "-o", "c"]);
    assert!(said.contains("no run in this folder"), "{said}");
    let mut bytes = fs::read(lab.path("r.voxfit")).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    lab.write("damaged.voxfit", &bytes);
    let said = lab.failure(&["predict", "damaged.voxfit", image, "-o", "c"]);
    assert!(said.contains("SHA-256 differs"), "{said}");
}

/// A short training on real volumes, so that there is something to agree on, and nnU-Net's own predictor on three cases
/// that were held out; with and without mirroring.
#[test]
fn nnunets_predictor_finds_the_same_labels() {
    let Some(volumes) = std::env::var_os("VOXFIT_VOLUMES") else {
        println!("skipped: VOXFIT_VOLUMES is not set");
        return;
    };
    let data = Path::new(&volumes).join("Task04_Hippocampus");
    let Some(python) = python("torch, safetensors, nibabel, nnunetv2") else { return };
    let lab = Lab::new();
    lab.write(
        "h.toml",
        format!(
            "[data]\ndataset = {:?}\n[batch]\neffective = 4\n[precision]\nactivations = \"f32\"\n[network]\n\
             patch = [32, 48, 32]\nfeatures = 8\nnorm = \"instance\"\n[train]\nsteps = 150\noptimizer = \"adamw\"\n\
             learning_rate = 0.005\n",
            data.to_str().unwrap()
        )
        .as_bytes(),
    );
    lab.done(&["train", "h.toml", "--run", "run"]);
    lab.done(&["export", "run", "-o", "out/w.safetensors", "--layout", "nnunet"]);
    let held_out = lab.json("run/manifest.json")["validation_cases"].clone();
    let image = |case: &serde_json::Value| {
        data.join(format!("imagesTr/{}.nii.gz", case.as_str().unwrap())).to_str().unwrap().to_owned()
    };
    let images: Vec<String> = held_out.as_array().unwrap().iter().take(3).map(image).collect();
    let ask = |arguments: &[&str]| {
        let output = Command::new(&python).args(arguments).current_dir(lab.path("")).output().unwrap();
        let said = common::stdout(&output);
        assert!(output.status.success(), "{said}{}", common::stderr(&output));
        said
    };
    let said = ask(&[&script("to_nnunet.py"), "out/w.safetensors", "results"]);
    let model = said.lines().last().unwrap();
    for (folder, ours, theirs) in [("plain", &[][..], &[][..]), ("mirrored", &["--tta"], &["--mirror"])] {
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        lab.done(&[&["predict", "run", "-o", folder], &images[..], ours].concat());
        let said = ask(&[&[&script("predict.py")[..], model, folder], &images[..], theirs].concat());
        println!("{folder}: {said}");
        // Both classes were found, so that agreeing is something.
        assert!(said.contains("in all of [0, 1, 2]"), "{said}");
    }
}

/// nnU-Net takes regions in the order of dataset.json, which a sorted table would change.
#[test]
fn regions_keep_their_order() {
    let lab = Lab::new();
    write_run(&lab.path("run"), &network_of(&plan(Norm::Instance)));
    let text = fs::read_to_string(lab.path("run/plan.toml")).unwrap();
    let mut run: toml::Table = toml::from_str(&text).unwrap();
    run.insert("classes".into(), toml::Value::from(["background", "a", "b", "c"].to_vec()));
    run.insert("ignore".into(), toml::Value::Integer(4));
    let regions = "[[regions]]\nname = \"whole\"\nvalues = [1, 2, 3]\npaint = 1\n[[regions]]\nname = \"core\"\n\
                   values = [2, 3]\npaint = 2\n[[regions]]\nname = \"active\"\nvalues = [3]\npaint = 3\n";
    let mut regions: toml::Table = toml::from_str(regions).unwrap();
    run.insert("regions".into(), regions.remove("regions").unwrap());
    lab.write("run/plan.toml", toml::to_string(&run).unwrap().as_bytes());
    lab.done(&["export", "run", "-o", "out/w.safetensors", "--layout", "nnunet"]);
    let written: String = fs::read_to_string(lab.path("out/dataset.json")).unwrap().split_whitespace().collect();
    let labels = r#""labels":{"background":0,"whole":[1,2,3],"core":[2,3],"active":[3],"ignore":4}"#;
    assert!(written.contains(labels), "{written}");
    assert_eq!(lab.json("out/dataset.json")["regions_class_order"], serde_json::json!([1, 2, 3]));
    // One class each: nnU-Net would decide between them.
    for region in run["regions"].as_array_mut().unwrap() {
        region["values"] = toml::Value::from(vec![region["paint"].as_integer().unwrap()]);
    }
    lab.write("run/plan.toml", toml::to_string(&run).unwrap().as_bytes());
    let said = lab.failure(&["export", "run", "-o", "other/w.safetensors", "--layout", "nnunet"]);
    assert!(said.contains("every region is one class"), "{said}");
}
