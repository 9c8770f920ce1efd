//! Losses that a micro-batch cannot know alone: one Dice over the whole effective batch, and regions (sigmoids) with an
//! ignore label. Against PyTorch in float64, and the same bits whatever is in memory at once.
//!
//! Tolerances are those of tests/network.rs, which says why.
#[path = "network/losses.rs"]
mod reference;
mod small_net;

use std::sync::Arc;

use burn::tensor::FloatDType;
use small_net::{flat, network, relative_error, sample, settings, step};
use voxfit::config::Recompute;
use voxfit::network::plan::Norm;
use voxfit::network::{UNet, host};
use voxfit::patch::Sample;
use voxfit::train::step::{StepGradient, StepSettings};

/// What `network/losses.py` prints for a loss; pairs are a gradient's norm and its product with sin(0.9 i).
pub struct Reference {
    loss: f64,
    gradients: &'static [(f64, f64)],
}

const IGNORE: u16 = 7;
const NORM: Norm = Norm::Group { groups: 2 };
const TOLERANCE: f64 = 1e-4;

fn samples(count: usize) -> Vec<Sample> {
    (0..count)
        .map(|number| {
            let mut sample = sample(number);
            for ((z, y, x), label) in sample.label.indexed_iter_mut() {
                if number == 3 || x >= 16 - 3 * number || (z + y) % 5 < number % 3 {
                    *label = IGNORE;
                }
            }
            sample
        })
        .collect()
}

fn regions() -> Option<Arc<Vec<Vec<u16>>>> {
    Some(Arc::new(vec![vec![1, 2], vec![2], vec![1]]))
}

/// Every loss of this file, by whether regions are learnt and whether Dice is over the whole batch.
const LOSSES: [(bool, bool, &Reference); 3] = [
    (false, true, &reference::BATCH_DICE),
    (true, false, &reference::REGIONS),
    (true, true, &reference::REGIONS_BATCH_DICE),
];

fn with(learns_regions: bool, batch_dice: bool, effective: usize, micro: usize) -> StepSettings {
    let regions = if learns_regions { regions() } else { None };
    StepSettings { ignore: Some(IGNORE), regions, batch_dice, ..settings(effective, micro, FloatDType::F32) }
}

fn close(network: &UNet, step: &StepGradient, reference: &Reference) {
    assert!((step.loss - reference.loss).abs() < 1e-5, "loss {}, expected {}", step.loss, reference.loss);
    assert_eq!(network.parameters.len(), reference.gradients.len());
    for ((parameter, gradient), expected) in network.parameters.iter().zip(&step.gradients).zip(reference.gradients) {
        let values = host(gradient);
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let product: f64 = values.iter().enumerate().map(|(i, v)| f64::from(*v) * (0.9 * i as f64).sin()).sum();
        let allowed = TOLERANCE * expected.0.max(0.1);
        let spread = (values.len() as f64 / 2.0).sqrt().max(1.0);
        let found = (norm, product);
        assert!((norm - expected.0).abs() <= allowed, "{}: {found:?}, expected {expected:?}", parameter.name);
        assert!((product - expected.1).abs() <= allowed * spread, "{}: {found:?}, {expected:?}", parameter.name);
    }
}

#[test]
fn gradients_are_pytorchs() {
    let network = network(NORM);
    for (learns_regions, batch_dice, reference) in LOSSES {
        close(&network, &step(&network, &with(learns_regions, batch_dice, 3, 2), &samples(3)), reference);
    }
}

/// The sums of the whole batch come first, so the micro-batch changes no bit; nor does what is computed again.
#[test]
fn micro_batches_and_recompute_give_the_same_bits() {
    let samples = samples(5);
    let network = network(NORM);
    for (learns_regions, batch_dice, _) in LOSSES {
        for activations in [FloatDType::F32, FloatDType::BF16] {
            let of = |micro, recompute| {
                let settings = StepSettings { activations, recompute, ..with(learns_regions, batch_dice, 5, micro) };
                step(&network, &settings, &samples)
            };
            let whole = of(5, Recompute::None);
            assert!(flat(&whole).iter().any(|value| *value != 0.0));
            for (micro, recompute) in
                [(1, Recompute::None), (2, Recompute::Blocks), (3, Recompute::None), (1, Recompute::Blocks)]
            {
                let found = of(micro, recompute);
                let bits = |step: &StepGradient| flat(step).iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                let what = format!("{learns_regions} {batch_dice} {activations:?} {micro} {recompute:?}");
                assert!(bits(&found) == bits(&whole), "{what}: {:e}", relative_error(&flat(&found), &flat(&whole)));
                assert_eq!(found.loss.to_bits(), whole.loss.to_bits(), "{what}");
            }
        }
    }
}

/// What much software does in its place, the Dice of each micro-batch, is another gradient.
#[test]
fn dice_of_micro_batches_is_another_gradient() {
    let (network, samples) = (network(NORM), samples(3));
    let whole = flat(&step(&network, &with(false, true, 3, 3), &samples));
    let own = flat(&step(&network, &with(false, false, 3, 1), &samples));
    let error = relative_error(&own, &whole);
    assert!(error > 1e-2, "{error:e}");
}

/// A label that no region holds and that is not the background must not pass for one.
#[test]
fn a_label_of_no_region_is_no_number() {
    let mut all = vec![sample(0)];
    all[0].label[[0, 0, 0]] = 3;
    let settings = StepSettings { ignore: None, ..with(true, false, 1, 1) };
    assert!(step(&network(NORM), &settings, &all).loss.is_nan());
}
