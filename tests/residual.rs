//! The residual encoder against nnU-Net's ResidualEncoderUNet in PyTorch, and the same bits however a step is cut.
//!
//! References are float64, ours is f32 with some forty layers; tolerances are those of tests/network.rs, which says why.
#[path = "network/residual.rs"]
mod reference;
mod small_net;

use burn::tensor::{Device, FloatDType};
use small_net::{
    close, flat, images, network_of, relative_error, residual_plan, sample, settings, step, step_is, values,
};
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

fn agrees(norm: Norm, reference: &Reference) {
    let network = network_of(&residual_plan(norm));
    let samples = [sample(0), sample(1)];
    let heads = network.forward(images(&samples).autodiff(), Mode::Train(&mut BatchStatistics::default()));
    for (index, (head, expected)) in heads.iter().zip(reference.heads).enumerate() {
        close(&format!("head {index}"), &values(head), expected, 0.0);
    }
    let step = step(&network, &settings(2, 2, FloatDType::F32), &samples);
    step_is(&network, &step, reference.loss, reference.gradients);
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
