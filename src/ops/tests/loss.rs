//! The loss against its definition in f64, its gradient against differences of that.
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;

use super::{BF16, F32, Size, close, close_values, noise, strided, tensor, values, wide};
use crate::ops::backend::VolumeOps;
use crate::ops::cpu::loss::ClassSums;
use crate::ops::default;
use crate::ops::spec::{BatchSums, LossSpec};

const CLASSES: usize = 3;
const IGNORE: u16 = 9;

/// The loss of each sample from its definition, in f64.
fn defined_loss(logits: &[f64], spec: &LossSpec, voxels: usize) -> Vec<f64> {
    logits
        .chunks(CLASSES * voxels)
        .zip(spec.target.chunks(voxels))
        .map(|(logits, target)| {
            let mut entropy = 0.0;
            let mut sums = [[0.0; 2]; CLASSES];
            for (voxel, label) in target.iter().enumerate().filter(|(_, label)| Some(**label) != spec.ignore) {
                let total: f64 = (0..CLASSES).map(|class| logits[class * voxels + voxel].exp()).sum();
                entropy += total.ln() - logits[usize::from(*label) * voxels + voxel];
                for (class, sums) in sums.iter_mut().enumerate() {
                    let p = logits[class * voxels + voxel].exp() / total;
                    let hit = f64::from(usize::from(*label) == class);
                    *sums = [sums[0] + p * hit, sums[1] + p + hit];
                }
            }
            let dice: f64 = sums[1..].iter().map(|[both, sum]| (2.0 * both + 1e-5) / (sum + 1e-5)).sum();
            spec.cross_entropy * entropy - spec.dice * dice / (CLASSES - 1) as f64
        })
        .collect()
}

fn loss_case(size: Size, ignore: Option<u16>) -> (FlexTensor, LossSpec) {
    let (batch, voxels) = (2, size.iter().product::<usize>());
    let logits = noise("logits", batch * CLASSES * voxels).into_iter().map(|v| 3.0 * v).collect();
    let labels = noise("labels", batch * voxels).into_iter().enumerate().map(|(at, v)| {
        // The second sample has no class 2.
        let label = ((v * 0.5 + 0.5) * if at < voxels { 2.999 } else { 1.999 }) as u16;
        if ignore.is_some() && at % 7 < 2 { IGNORE } else { label }
    });
    let target = Arc::new(labels.collect::<Vec<u16>>());
    let spec = LossSpec {
        target,
        ignore,
        regions: None,
        cross_entropy: 0.7 / (2.0 * voxels as f64),
        dice: 0.35,
        totals: None,
        gradient_scale: 4.0,
    };
    (tensor(logits, &[batch, CLASSES, size[0], size[1], size[2]], DType::F32), spec)
}

#[test]
fn loss_and_its_gradient_are_the_definition_s() {
    for size in [[3, 4, 5], [1, 1, 1], [1, 9, 2]] {
        for ignore in [None, Some(IGNORE)] {
            let (logits, spec) = loss_case(size, ignore);
            let voxels: usize = size.iter().product();
            let exact: Vec<f64> = values(&logits).into_iter().map(f64::from).collect();
            let expected = defined_loss(&exact, &spec, voxels);
            let upstream = tensor(vec![1.0, 0.5], &[2], DType::F32);
            // Central differences of the definition: exact to about 1e-9.
            let gradient: Vec<f64> = (0..exact.len())
                .map(|at| {
                    let moved = |by: f64| {
                        let mut logits = exact.clone();
                        logits[at] += by;
                        let losses = defined_loss(&logits, &spec, voxels);
                        losses[0] + 0.5 * losses[1]
                    };
                    f64::from(spec.gradient_scale) * (moved(1e-5) - moved(-1e-5)) / 2e-5
                })
                .collect();
            let what = format!("{size:?} ignoring {ignore:?}");
            let found = Flex::volume_loss(strided(logits.clone()), spec.clone());
            close_values(&format!("{what}: own loss"), &values(&found), &expected, F32);
            let found = default::loss::<Flex>(logits.clone(), spec.clone());
            close_values(&format!("{what}: default loss"), &values(&found), &expected, F32);
            let found = Flex::volume_loss_gradient(strided(logits.clone()), upstream.clone(), spec.clone());
            close_values(&format!("{what}: own gradient"), &values(&found), &gradient, F32);
            let found = default::loss_gradient::<Flex>(logits, upstream, spec);
            close_values(&format!("{what}: default gradient"), &values(&found), &gradient, F32);
        }
    }
}

#[test]
fn the_loss_of_bf16_logits_is_that_of_their_values() {
    let (logits, spec) = loss_case([4, 5, 6], Some(IGNORE));
    let logits = Flex::float_cast(logits, DType::BF16.into());
    let upstream = tensor(vec![1.0, 0.5], &[2], DType::F32);
    let found = Flex::volume_loss(logits.clone(), spec.clone());
    assert_eq!(found.dtype(), DType::F32);
    close("loss", &found, &default::loss::<Flex>(wide(&logits), spec.clone()), F32);
    let found = Flex::volume_loss_gradient(logits.clone(), upstream.clone(), spec.clone());
    assert_eq!(found.dtype(), DType::BF16);
    close("gradient", &found, &default::loss_gradient::<Flex>(wide(&logits), upstream, spec), BF16);
}

/// A label that is no class must not pass for a loss.
#[test]
fn a_label_that_is_no_class_is_no_number() {
    let (logits, mut spec) = loss_case([2, 2, 2], None);
    let mut target = spec.target.to_vec();
    target[3] = CLASSES as u16;
    spec.target = Arc::new(target);
    assert!(values(&Flex::volume_loss(logits, spec)).iter().any(|loss| loss.is_nan()));
}

/// Three regions over label values 0 to 2 in place of the three classes, or one Dice over both samples, or both.
#[test]
fn own_and_default_bodies_agree_on_regions_and_one_dice() {
    let regions = Arc::new(vec![vec![1, 2], vec![2], vec![1]]);
    for (regions, one_dice) in [(None, true), (Some(regions.clone()), false), (Some(regions), true)] {
        for dtype in [DType::F32, DType::BF16] {
            let (logits, spec) = loss_case([4, 5, 6], Some(IGNORE));
            let logits = Flex::float_cast(logits, dtype.into());
            let mut spec = LossSpec { regions: regions.clone(), ..spec };
            let own = values(&Flex::volume_loss_sums(logits.clone(), spec.clone()));
            let other = values(&default::loss_sums::<Flex>(wide(&logits), spec.clone()));
            close_values("sums", &own, &other.iter().copied().map(f64::from).collect::<Vec<_>>(), F32);
            let entries = CLASSES + usize::from(regions.is_some());
            assert_eq!(own.len(), 2 * entries * 3);
            if one_dice {
                let mut totals = vec![ClassSums::default(); entries];
                for (at, sums) in own.as_chunks::<3>().0.iter().enumerate() {
                    let [intersection, probability, label] = sums.map(f64::from);
                    totals[at % entries].add(&ClassSums { intersection, probability, label });
                }
                spec.totals = Some(Arc::new(BatchSums { classes: totals, samples: 2 }));
            }
            let upstream = tensor(vec![1.0, 0.5], &[2], DType::F32);
            let what = format!("regions {}, one Dice {one_dice}, {dtype:?}", regions.is_some());
            let found = Flex::volume_loss(logits.clone(), spec.clone());
            close(&format!("{what}: loss"), &found, &default::loss::<Flex>(wide(&logits), spec.clone()), F32);
            let found = Flex::volume_loss_gradient(logits.clone(), upstream.clone(), spec.clone());
            let expected = default::loss_gradient::<Flex>(wide(&logits), upstream, spec);
            close(&format!("{what}: gradient"), &found, &expected, if dtype == DType::F32 { F32 } else { BF16 });
        }
    }
}
