//! Checkpoints and other files of weights.
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};
use voxfit::config::OptimizerName;
use voxfit::network::UNet;
use voxfit::network::plan::{Kind, NetworkPlan, Norm, Stage};
use voxfit::train::checkpoint::{self, State};
use voxfit::train::optimizer::Optimizer;

use crate::allocation::{alone, measured};
use crate::common::Lab;
use crate::damage::{fuzz, run};

/// Bytes that reading a checkpoint of some ten kilobytes may take.
const MOST: usize = 32 << 20;

fn plan() -> NetworkPlan {
    let stage = |stride| Stage { features: 2, kernel: [1, 3, 1], stride, norm: Norm::Batch };
    NetworkPlan {
        kind: Kind::Plain,
        in_channels: 1,
        classes: 2,
        stages: vec![stage([1; 3]), stage([2; 3])],
        deep_supervision: false,
    }
}

fn state(network: &UNet) -> State {
    State {
        step: 3,
        steps: 5,
        updates: 3,
        loss_scale: 1.0,
        clean_steps: 0,
        best: Some((0.5, 2)),
        finished: false,
        config_sha256: "c".repeat(64),
        weights_sha256: network.weights_sha256(),
    }
}

/// A sound checkpoint with its optimizer.
fn sound(folder: &Path) -> Vec<u8> {
    let network = UNet::new(&plan(), 1, &Device::flex());
    let mut optimizer = Optimizer::new(OptimizerName::Sgd, 0.0);
    let zeros = network.parameters.iter().map(|parameter| vec![vec![0.0; parameter.values().len()]]).collect();
    optimizer.restore(&network.parameters, zeros, 3);
    let path = folder.join("sound.safetensors");
    checkpoint::save(&path, &network, Some(&optimizer), &state(&network)).unwrap();
    fs::read(path).unwrap()
}

/// Reads the file at `path` into `network`; whether it was read.
fn read(path: &Path, network: &mut UNet) -> Result<(), String> {
    let mut saved = checkpoint::load(path).map_err(|error| error.to_string())?;
    saved.restore_weights(network, path).map_err(|error| error.to_string())?;
    let mut optimizer = Optimizer::new(OptimizerName::Sgd, 0.0);
    saved.restore_optimizer(&mut optimizer, network, path).map_err(|error| error.to_string())?;
    match saved.state.weights_sha256 == network.weights_sha256() {
        true => Ok(()),
        false => panic!("weights that are not those of their digest were read"),
    }
}

fn look(path: &Path, network: &mut UNet) -> TestCaseResult {
    let (result, peak) = measured(|| read(path, network));
    if let Err(said) = result {
        prop_assert!(said.starts_with(&path.display().to_string()) && said.contains("; "), "{said}");
    }
    prop_assert!(peak <= MOST, "{peak} bytes were held");
    Ok(())
}

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"dtype\":\"F64\"",
    "\"F32\"",
    "\"shape\":[",
    "\"data_offsets\":[",
    "18446744073709551615",
    "-1",
    "0,",
    "\"__metadata__\"",
    "\"weights/",
    "\\u0000",
    "null",
    "9223372036854775807",
    "1e400",
    "\"voxfit\"",
    "\\\"step\\\":",
];

#[test]
fn damaged_checkpoints_are_read_or_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let whole = sound(folder.path());
    let path = folder.path().join("checkpoint.safetensors");
    let network = std::cell::RefCell::new(UNet::new(&plan(), 0, &Device::flex()));
    fs::write(&path, &whole).unwrap();
    read(&path, &mut network.borrow_mut()).unwrap();
    let bytes = |bytes: &[u8]| {
        fs::write(&path, bytes)?;
        look(&path, &mut network.borrow_mut())
    };
    fuzz(1500, vec![whole.clone()], WORDS, bytes);
    // The header's length follows what was done to it, so that what is damaged is more often read as a header.
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let (header, data) = whole[8..].split_at(length);
    fuzz(1500, vec![header.to_vec()], WORDS, |header| {
        bytes(&[&(header.len() as u64).to_le_bytes()[..], header, data].concat())
    });
}

/// `whole` with another state in its header.
fn with_state(whole: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
    let mut state: Value = serde_json::from_str(header["__metadata__"]["voxfit"].as_str().unwrap()).unwrap();
    change(&mut state);
    header["__metadata__"]["voxfit"] = json!(state.to_string());
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &whole[8 + length..]].concat()
}

/// The digest in a checkpoint is over its tensors; what stands beside them is looked at number by number.
#[test]
fn states_that_no_training_leaves_are_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let whole = sound(folder.path());
    let path = folder.path().join("checkpoint.safetensors");
    let mut network = UNet::new(&plan(), 0, &Device::flex());
    fs::write(&path, with_state(&whole, |_| ())).unwrap();
    read(&path, &mut network).unwrap();
    for (key, value) in [
        ("step", json!(6)),
        ("step", json!(u64::MAX)),
        ("steps", json!(0)),
        ("steps", json!(u64::MAX)),
        ("updates", json!(u64::MAX)),
        ("loss_scale", json!(0.0)),
        ("loss_scale", json!(-1.0)),
        ("clean_steps", json!(u32::MAX)),
        ("best", json!([1e300, 1])),
        ("best", json!([0.5, u64::MAX])),
        ("finished", json!(true)),
        ("weights_sha256", json!("0".repeat(64))),
        ("weights_sha256", json!("\u{1b}[2J")),
    ] {
        fs::write(&path, with_state(&whole, |state| state[key] = value.clone())).unwrap();
        let said = read(&path, &mut network).unwrap_err();
        assert!(said.contains(key) && !said.contains('\u{1b}'), "{key} = {value}: {said}");
    }
    let keys = [
        "step",
        "steps",
        "updates",
        "loss_scale",
        "clean_steps",
        "best",
        "finished",
        "config_sha256",
        "weights_sha256",
    ];
    let odd = [
        json!(null),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!("x"),
        json!([]),
        json!({}),
        json!(true),
        json!([0, 0]),
    ];
    let network = std::cell::RefCell::new(network);
    run(500, &(prop::sample::select(keys.to_vec()), prop::sample::select(odd.to_vec())), |(key, odd)| {
        fs::write(&path, with_state(&whole, |state| state[key] = odd))?;
        look(&path, &mut network.borrow_mut())
    });
}

/// A file with holes takes no room on a disk and any amount of memory.
#[cfg(target_os = "linux")]
#[test]
fn headers_and_tensors_beyond_reason_allocate_nothing() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let said = |header_length: u64, header: &str, length: u64| {
        fs::write(&path, [&header_length.to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        let (said, peak) = measured(|| checkpoint::load(&path).err().unwrap().to_string());
        assert!(peak < 1 << 20, "{peak}: {said}");
        said
    };
    assert!(said(1 << 40, "{", (1 << 40) + 8).contains("read are up to 4194304"));
    let bytes = 1u64 << 42;
    let header = format!(r#"{{"weights/a":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{bytes}]}}}}"#, bytes / 4);
    assert!(said(header.len() as u64, &header, 8 + header.len() as u64 + bytes).contains("MiB are free"));
}

#[test]
fn files_of_pytorch_are_refused_in_one_sentence() {
    let _alone = alone();
    let lab = Lab::new();
    let zip = b"PK\x03\x04rest of a zip archive";
    for (name, bytes) in
        [("w.pth", &zip[..]), ("w.pt", b"\x80\x02."), ("w.PTH", b""), ("weights", zip), ("w.safetensors", zip)]
    {
        lab.write(name, bytes);
        let said = lab.failure(&["train", "c.toml", "--run", "r", "--weights", name]);
        assert!(said.contains(name) && said.contains("PyTorch") && said.contains("checkpoint.safetensors"), "{said}");
        assert!(!lab.path("r").exists());
    }
}
