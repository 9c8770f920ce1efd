//! The residual encoder against nnU-Net's ResidualEncoderUNet in PyTorch, and the same bits however a step is cut.
//!
//! References are float64, ours is f32 with some forty layers; tolerances are those of tests/network.rs, which says why.
#[path = "network/residual.rs"]
mod reference;
mod small_net;

use burn::tensor::{Device, FloatDType};
use small_net::{flat, images, network_of, relative_error, residual_plan, sample, settings, step, values};
use voxfit::config::Recompute;
use voxfit::network::plan::Norm;
use voxfit::network::{BatchStatistics, Mode, UNet, host};
use voxfit::train::step::{StepGradient, StepSettings};

/// What `network/residual.py` prints for one kind of norm; pairs are a tensor's norm and its product with sin(0.9 i).
pub struct Reference {
    loss: f64,
    /// Logits of the two heads that count, finest first.
    heads: [(f64, f64); 2],
    gradients: &'static [(f64, f64)],
}

const TOLERANCE: f64 = 1e-4;

/// Both figures within the tolerance of the norm, or of `floor` where the norm is less.
fn close(what: &str, values: &[f32], expected: (f64, f64), floor: f64) {
    let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let product: f64 = values.iter().enumerate().map(|(i, v)| f64::from(*v) * (0.9 * i as f64).sin()).sum();
    let allowed = TOLERANCE * expected.0.max(floor);
    let spread = (values.len() as f64 / 2.0).sqrt().max(1.0);
    assert!((norm - expected.0).abs() <= allowed, "{what}: norm {norm}, expected {expected:?}");
    assert!((product - expected.1).abs() <= allowed * spread, "{what}: product {product}, expected {expected:?}");
}

fn agrees(norm: Norm, reference: &Reference) {
    let network = network_of(&residual_plan(norm));
    let samples = [sample(0), sample(1)];
    let heads = network.forward(images(&samples).autodiff(), Mode::Train(&mut BatchStatistics::default()));
    for (index, (head, expected)) in heads.iter().zip(reference.heads).enumerate() {
        close(&format!("head {index}"), &values(head), expected, 0.0);
    }
    let step = step(&network, &settings(2, 2, FloatDType::F32), &samples);
    assert!((step.loss - reference.loss).abs() < 1e-5, "loss {}, expected {}", step.loss, reference.loss);
    assert_eq!(network.parameters.len(), reference.gradients.len());
    // A bias in front of a norm has no gradient but rounding: compared on the scale of a typical gradient.
    for ((parameter, gradient), expected) in network.parameters.iter().zip(&step.gradients).zip(reference.gradients) {
        close(&parameter.name, &host(gradient), *expected, 0.1);
    }
}

#[test]
fn instance_norm_is_pytorchs() {
    agrees(Norm::Instance, &reference::INSTANCE);
}

#[test]
fn group_norm_is_pytorchs() {
    agrees(Norm::Group { groups: 2 }, &reference::GROUP);
}

#[test]
fn batch_norm_is_pytorchs() {
    agrees(Norm::Batch, &reference::BATCH);
}

/// Where three gradients meet, they are added in one order, whether the stage is part of a graph or one of its own.
#[test]
fn micro_batches_and_recompute_give_the_same_bits() {
    let samples: Vec<_> = (0..3).map(sample).collect();
    for norm in [Norm::Instance, Norm::Group { groups: 2 }] {
        let network = network_of(&residual_plan(norm));
        for activations in [FloatDType::F32, FloatDType::BF16, FloatDType::F16] {
            let of = |micro, recompute| {
                let settings = StepSettings { recompute, ..settings(3, micro, activations) };
                step(&network, &settings, &samples)
            };
            let bits = |step: &StepGradient| flat(step).iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let whole = of(3, Recompute::None);
            assert!(flat(&whole).iter().any(|value| *value != 0.0));
            for (micro, recompute) in [(1, Recompute::None), (2, Recompute::Blocks), (3, Recompute::Blocks)] {
                let found = of(micro, recompute);
                let error = relative_error(&flat(&found), &flat(&whole));
                assert!(bits(&found) == bits(&whole), "{norm:?} {activations:?} {micro} {recompute:?}: {error:e}");
                assert_eq!(found.loss.to_bits(), whole.loss.to_bits());
            }
        }
    }
}

/// nnU-Net's start: every block is the identity, so nothing is learnt of its convolutions before the norms let it through.
#[test]
fn a_block_begins_as_the_identity() {
    let network = UNet::new(&residual_plan(Norm::Instance), 1, &Device::flex());
    let of = |name: &str| {
        let found = network.parameters.iter().find(|parameter| parameter.name == name);
        host(&found.unwrap_or_else(|| panic!("{name}")).value)
    };
    assert!(of("encoder.1.block2.norm1.gamma").iter().all(|value| *value == 0.0));
    assert!(of("encoder.1.block2.norm0.gamma").iter().all(|value| *value == 1.0));
    assert!(of("encoder.1.block0.skip_norm.gamma").iter().all(|value| *value == 1.0));
    assert!(!network.parameters.iter().any(|parameter| parameter.name.ends_with("skip.bias")));
}
