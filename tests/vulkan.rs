//! The default bodies of the operations on a Vulkan device, in f32: a real card, or a driver that computes in software.
//! `cargo test --release --features vulkan --test vulkan`; without a device the tests fail, for who builds them wants it.
#![cfg(feature = "vulkan")]
mod common;
mod small_net;

use std::sync::Arc;

use burn::tensor::{Device, DeviceKind, FloatDType};
use common::{Lab, stderr};
use small_net::{flat, plan, relative_error, residual_plan, sample, settings, step};
use voxfit::config::Recompute;
use voxfit::memory::meter;
use voxfit::network::plan::Norm;
use voxfit::network::{UNet, host};
use voxfit::train::step::StepSettings;

/// Both are f32; sums have another order on each.
const TOLERANCE: f64 = 1e-4;

fn card() -> Device {
    Device::vulkan(DeviceKind::DefaultDevice)
}

fn on_card(effective: usize, micro: usize, recompute: Recompute) -> StepSettings {
    StepSettings { device: card(), recompute, ..settings(effective, micro, FloatDType::F32) }
}

#[test]
fn gradients_are_those_of_the_processor() {
    let samples = [sample(0), sample(1), sample(2)];
    for norm in [Norm::Instance, Norm::Group { groups: 2 }, Norm::Batch] {
        let here = step(&UNet::new(&plan(norm), 3, &Device::flex()), &settings(3, 3, FloatDType::F32), &samples);
        let there = step(&UNet::new(&plan(norm), 3, &card()), &on_card(3, 3, Recompute::None), &samples);
        let network = UNet::new(&plan(norm), 3, &Device::flex());
        for ((parameter, a), b) in network.parameters.iter().zip(&there.gradients).zip(&here.gradients) {
            let error = relative_error(&host(a), &host(b));
            println!("{norm:?}: {}: relative error {error:e}", parameter.name);
        }
        let error = relative_error(&flat(&there), &flat(&here));
        println!("{norm:?}: relative error {error:e}, loss {} and {}", there.loss, here.loss);
        assert!(error < TOLERANCE, "{norm:?}: {error:e}");
        assert!((there.loss - here.loss).abs() < TOLERANCE, "{norm:?}: {} and {}", there.loss, here.loss);
    }
}

/// The residual encoder, learning regions with one Dice over the batch.
#[test]
fn residual_blocks_and_regions_are_those_of_the_processor() {
    let samples = [sample(0), sample(1), sample(2)];
    let plan = residual_plan(Norm::Group { groups: 2 });
    // A block that begins as the identity would hide its convolutions.
    let start = |device: &Device| {
        let mut network = UNet::new(&plan, 3, device);
        for parameter in network.parameters.iter_mut().filter(|parameter| parameter.name.ends_with("norm1.gamma")) {
            parameter.value = parameter.value.clone() + 0.5;
        }
        network
    };
    let with = |settings: StepSettings| StepSettings {
        regions: Some(Arc::new(vec![vec![1, 2], vec![2], vec![1]])),
        batch_dice: true,
        ..settings
    };
    let here = step(&start(&Device::flex()), &with(settings(3, 3, FloatDType::F32)), &samples);
    let network = start(&card());
    for (micro, recompute) in [(3, Recompute::None), (2, Recompute::Blocks)] {
        let there = step(&network, &with(on_card(3, micro, recompute)), &samples);
        let error = relative_error(&flat(&there), &flat(&here));
        println!("micro-batches of {micro}: relative error {error:e}, loss {} and {}", there.loss, here.loss);
        assert!(error < TOLERANCE, "{error:e}");
        assert!((there.loss - here.loss).abs() < TOLERANCE, "{} and {}", there.loss, here.loss);
    }
}

#[test]
fn blocks_computed_again_and_micro_batches_give_the_same_gradient() {
    let samples = [sample(0), sample(1), sample(2)];
    let network = UNet::new(&plan(Norm::Group { groups: 2 }), 3, &card());
    let whole = flat(&step(&network, &on_card(3, 3, Recompute::None), &samples));
    let again = flat(&step(&network, &on_card(3, 3, Recompute::Blocks), &samples));
    assert_eq!(again.iter().zip(&whole).filter(|(a, b)| a.to_bits() != b.to_bits()).count(), 0);
    let parked = flat(&step(&network, &on_card(3, 3, Recompute::Parked), &samples));
    assert_eq!(parked.iter().zip(&whole).filter(|(a, b)| a.to_bits() != b.to_bits()).count(), 0);
    for micro in [1, 2] {
        let error = relative_error(&flat(&step(&network, &on_card(3, micro, Recompute::Blocks), &samples)), &whole);
        println!("micro-batches of {micro}: relative error {error:e}");
        assert!(error < TOLERANCE, "micro-batches of {micro}: {error:e}");
    }
}

#[test]
fn the_meter_is_the_card_s_own() {
    let network = UNet::new(&plan(Norm::Instance), 3, &card());
    step(&network, &on_card(2, 2, Recompute::None), &[sample(0), sample(1)]);
    let peak = meter::peak_of(&card()).unwrap();
    let weights: u64 = network.parameters.iter().map(|parameter| 4 * parameter.value.dims()[0] as u64).sum();
    assert!(peak > weights, "{peak}, weights {weights}");
}

#[test]
fn cards_are_listed_as_device_counts_them() {
    let lab = Lab::new();
    let output = lab.output(&["devices", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_card = |device: &&serde_json::Value| device["device"].as_str().unwrap().starts_with("vulkan:");
    let cards: Vec<_> = json["devices"].as_array().unwrap().iter().filter(is_card).collect();
    assert!(!cards.is_empty(), "{json}");
    for (number, card) in cards.iter().enumerate() {
        assert_eq!(
            (card["device"].as_str(), card["usable"].as_bool()),
            (Some(&*format!("vulkan:{number}")), Some(true))
        );
        assert!(!card["name"].as_str().unwrap().is_empty(), "{card}");
        assert_eq!(card["precisions"][0]["name"], "f32", "{card}");
    }
    let next = format!("vulkan:{}", cards.len());
    let output = lab.output(&["train", "c.toml", "--run", "run", "--device", &next]);
    let last = format!("{next} is not here, the last is vulkan:{}", cards.len() - 1);
    assert!(output.status.code() == Some(1) && stderr(&output).contains(&last), "{}", stderr(&output));
}

#[test]
fn a_run_trains_and_predicts() {
    let lab = Lab::new();
    let f32 = ["--set", "precision.activations=f32", "--device", "vulkan"];
    lab.done(&[&["train", "c.toml", "--run", "run"][..], &f32].concat());
    let metrics = lab.metrics("run");
    assert!(metrics.iter().filter(|line| line.get("loss").is_some()).all(|line| line["peak_bytes"].as_u64() > Some(0)));
    lab.done(&["predict", "run", "data/imagesTr", "-o", "out", "--device", "vulkan"]);
    assert!(lab.path("out/phantom_001.nii.gz").exists());
    // A driver may have words of its own before ours.
    let output = lab.output(&["train", "c.toml", "--run", "other", "--device", "vulkan"]);
    assert!(
        output.status.code() == Some(1) && stderr(&output).contains("cannot compute in bf16"),
        "{}",
        stderr(&output)
    );
}
