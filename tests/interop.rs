//! Weights that leave voxfit and come back: `export`, `import`, and nnU-Net's own code on what was exported.
//!
//! What needs PyTorch asks the Python in VOXFIT_PYTHON (else python3) and is skipped with a message where that has no
//! torch, safetensors and dynamic_network_architectures.
#[allow(dead_code, reason = "each test file uses its own share")]
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
        regions: Vec::new(),
        mirror_axes: [true; 3],
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
