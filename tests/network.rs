//! The network against nnU-Net's PlainConvUNet in PyTorch: logits, loss, gradients, batch norm's memory.
//!
//! References are float64, ours is f32 with about twenty layers, whose roundings (6e-8 each) grow to some 1e-6 of a
//! tensor's norm; LeakyReLU's kink adds the few voxels whose sign differs. Hence 1e-4. The products with a wave see an
//! order of axes or of channels that is not PyTorch's, which norms would not.
#[path = "network/reference.rs"]
mod reference;
mod small_net;

use burn::tensor::{Device, FloatDType};
use small_net::{TOLERANCE, close, images, network, sample, settings, step, step_is, values};
use voxfit::network::plan::{Kind, NetworkPlan, Norm, Stage};
use voxfit::network::{BatchStatistics, Mode, UNet, head_weights, host};

/// What `network/reference.py` prints for one kind of norm; pairs are a tensor's norm and its product with sin(0.9 i).
pub struct Reference {
    loss: f64,
    /// Logits of the two heads that count, finest first.
    heads: [(f64, f64); 2],
    /// Logits `[1, 2, 3, 4, 5..9]` of the finest.
    logits: [f64; 4],
    /// Per parameter.
    gradients: &'static [(f64, f64)],
}

fn agrees(norm: Norm, reference: &Reference) {
    let network = network(norm);
    let samples = [sample(0), sample(1)];
    let mut statistics = BatchStatistics::default();
    let heads = network.forward(images(&samples).autodiff(), Mode::Train(&mut statistics));
    assert_eq!(heads.len(), 2);
    for (index, (head, expected)) in heads.iter().zip(reference.heads).enumerate() {
        close(&format!("head {index}"), &values(head), expected, 0.0);
    }
    let [_, _, z, y, x] = heads[0].dims();
    let at = (((3 + 2) * z + 3) * y + 4) * x + 5;
    for (found, expected) in values(&heads[0])[at..at + 4].iter().zip(reference.logits) {
        assert!((f64::from(*found) - expected).abs() < TOLERANCE, "{found}, expected {expected}");
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

/// One step of three samples in micro-batches of two: the mean of both micro-batches' statistics, taken in once.
#[test]
fn batch_norm_remembers_as_pytorch_does_and_predicts_with_it() {
    let mut network = network(Norm::Batch);
    let samples = [sample(0), sample(1), sample(2)];
    let step = step(&network, &settings(3, 2, FloatDType::F32), &samples);
    network.remember(&step.statistics);
    assert_eq!(network.buffers.len(), reference::RUNNING.len());
    for (buffer, expected) in network.buffers.iter().zip(reference::RUNNING) {
        close(&buffer.name, &buffer.values, *expected, 0.0);
    }
    let logits = network.forward(images(&samples[..1]), Mode::Predict);
    assert_eq!(logits.len(), 1);
    close("logits", &values(&logits[0]), reference::REMEMBERED, 0.0);
}

/// `sum(p.numel() for p in net.parameters())` of PlainConvUNet(1, 4, [32, 64, 128, 256], Conv3d, kernels 3, strides
/// 1 2 2 2, 2 convolutions per stage, 3 classes, conv_bias=True, affine instance norm, deep_supervision=True).
#[test]
fn parameters_are_as_many_as_nnunets() {
    let stage = |index: usize| Stage {
        features: 32 << index,
        kernel: [3; 3],
        stride: [if index == 0 { 1 } else { 2 }; 3],
        norm: Norm::Instance,
    };
    let plan = NetworkPlan {
        kind: Kind::Plain,
        in_channels: 1,
        classes: 3,
        stages: (0..4).map(stage).collect(),
        deep_supervision: true,
    };
    assert_eq!(UNet::new(&plan, 0, &Device::flex()).parameter_count(), 5_603_177);
}

/// `DeepSupervisionWrapper`'s weights in nnU-Net: halves, the lowest head 0, normalised.
#[test]
fn heads_weigh_as_in_nnunet() {
    assert_eq!(head_weights(4, true), [2.0 / 3.0, 1.0 / 3.0]);
    assert_eq!(head_weights(6, true), [8.0 / 15.0, 4.0 / 15.0, 2.0 / 15.0, 1.0 / 15.0]);
    assert_eq!((head_weights(2, true), head_weights(4, false)), (vec![1.0], vec![1.0]));
}

/// A network of one stage has its head on the encoder, and trains.
#[test]
fn one_stage_has_a_head_and_a_gradient() {
    let mut plan = small_net::plan(Norm::Instance);
    plan.stages.truncate(1);
    let network = UNet::new(&plan, 1, &Device::flex());
    let step = step(&network, &settings(1, 1, FloatDType::F32), &[sample(0)]);
    let head = network.parameters.iter().position(|parameter| parameter.name == "head.0.weight").unwrap();
    assert!(host(&step.gradients[head]).iter().any(|value| *value != 0.0));
    assert!(host(&step.gradients[0]).iter().any(|value| *value != 0.0));
}
