//! Losses that a micro-batch cannot know alone: one Dice over the whole effective batch, and regions (sigmoids) with an
//! ignore label. Against PyTorch in float64, and the same bits whatever is in memory at once.
//!
//! Tolerances are those of tests/network.rs, which says why.
#[path = "network/losses.rs"]
mod reference;
mod small_net;

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::FloatDType;
use small_net::{IGNORE, flat, network, partly_labelled, relative_error, sample, settings, step, step_is};
use voxfit::config::Recompute;
use voxfit::network::plan::Norm;
use voxfit::train::step::{StepGradient, StepSettings, first_not_finite};

/// What `network/losses.py` prints for a loss; pairs are a gradient's norm and its product with sin(0.9 i).
pub struct Reference {
    loss: f64,
    gradients: &'static [(f64, f64)],
}

const NORM: Norm = Norm::Group { groups: 2 };

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

#[test]
fn gradients_are_pytorchs() {
    let network = network(NORM);
    for (learns_regions, batch_dice, reference) in LOSSES {
        let found = step(&network, &with(learns_regions, batch_dice, 3, 2), &partly_labelled(3));
        step_is(&network, &found, reference.loss, reference.gradients);
    }
}

/// The sums of the whole batch come first, so the micro-batch changes no bit; nor does what is computed again.
#[test]
fn micro_batches_and_recompute_give_the_same_bits() {
    let samples = partly_labelled(5);
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
    let (network, samples) = (network(NORM), partly_labelled(3));
    let whole = flat(&step(&network, &with(false, true, 3, 3), &samples));
    let own = flat(&step(&network, &with(false, false, 3, 1), &samples));
    let error = relative_error(&own, &whole);
    assert!(error > 1e-2, "{error:e}");
}

/// One sample that is no number makes one Dice of all no number; the sample is named all the same.
#[test]
fn the_sample_at_fault_is_found_under_one_dice() {
    let mut all = partly_labelled(3);
    all[1].image[[0, 2, 3, 4]] = f32::NAN;
    let network = network(NORM);
    let settings = with(false, true, 3, 1);
    assert!(step(&network, &settings, &all).loss.is_nan());
    network.parameters.iter().for_each(|parameter| drop(parameter.take_gradient()));
    let found = first_not_finite(&network, &settings, |range: Range<usize>| Ok::<_, Infallible>(all[range].to_vec()));
    assert_eq!(found, Ok(Some(1..2)));
}

/// A label that no region holds and that is not the background must not pass for one.
#[test]
fn a_label_of_no_region_is_no_number() {
    let mut all = vec![sample(0)];
    all[0].label[[0, 0, 0]] = 3;
    let settings = StepSettings { ignore: None, ..with(true, false, 1, 1) };
    assert!(step(&network(NORM), &settings, &all).loss.is_nan());
}
