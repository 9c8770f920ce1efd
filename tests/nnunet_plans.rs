//! The planning rules against plans that nnU-Net wrote.
//!
//! `data/nnunet_plans.json` holds made-up datasets (a spacing and a size per case) and what nnU-Net's own
//! `ExperimentPlanner` made of them for several sizes of GPU; `data/nnunet_plans.py` is the recipe. Triples are z, y, x
//! in the datasets and in nnU-Net's order, the coarsest axis first, in the plans.
use std::collections::BTreeMap;
use std::{fs, path::Path};

use serde::Deserialize;
use voxfit::network::low_resolution::{coverage, low_resolution};
use voxfit::network::plan::Kind;
use voxfit::network::topology::{Rules, Topology, features_of, median_size, planned, target_spacing};

#[derive(Deserialize)]
struct Reference {
    datasets: Vec<Dataset>,
}

#[derive(Deserialize)]
struct Dataset {
    name: String,
    classes: usize,
    spacings: Vec<[f64; 3]>,
    sizes: Vec<[usize; 3]>,
    plans: Vec<Plan>,
}

#[derive(Deserialize)]
struct Plan {
    gib: u64,
    transpose_backward: [usize; 3],
    spacing: [f64; 3],
    median: [f64; 3],
    patch: [usize; 3],
    strides: Vec<[usize; 3]>,
    kernels: Vec<[usize; 3]>,
    features: Vec<usize>,
    low: Option<Low>,
}

/// nnU-Net's `3d_lowres`.
#[derive(Deserialize)]
struct Low {
    spacing: [f64; 3],
    median: [f64; 3],
    patch: [usize; 3],
    strides: Vec<[usize; 3]>,
    kernels: Vec<[usize; 3]>,
}

fn rules(kind: Kind, plan: &Plan, classes: usize) -> Rules {
    Rules { kind, features: 32, features_max: 320, stages: None, design: plan.gib << 30, classes }
}

impl Plan {
    /// That ours is the same network for the same patch.
    fn is(&self, ours: &Topology, at: &str) {
        assert_eq!(ours.patch, self.restored(self.patch), "{at}: patch");
        assert_eq!(ours.strides, self.all_restored(&self.strides), "{at}: strides");
        assert_eq!(ours.kernels, self.all_restored(&self.kernels), "{at}: kernels");
        let features: Vec<_> = (0..ours.strides.len()).map(|stage| features_of(stage, 32, 320)).collect();
        assert_eq!(features, self.features, "{at}: features");
    }

    /// A triple of the plan in the dataset's order of axes.
    fn restored<T: Copy>(&self, triple: [T; 3]) -> [T; 3] {
        self.transpose_backward.map(|axis| triple[axis])
    }

    fn all_restored(&self, triples: &[[usize; 3]]) -> Vec<[usize; 3]> {
        triples.iter().map(|&triple| self.restored(triple)).collect()
    }
}

fn reference() -> Vec<Dataset> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nnunet_plans.json");
    serde_json::from_slice::<Reference>(&fs::read(path).unwrap()).unwrap().datasets
}

#[test]
fn plans_are_nnunets() {
    let datasets = reference();
    assert_eq!(datasets.iter().map(|dataset| dataset.plans.len()).sum::<usize>(), 50);
    for Dataset { name, classes, spacings, sizes, plans } in datasets {
        let target = target_spacing(&spacings, &sizes).unwrap();
        let median = median_size(&spacings, &sizes, target).unwrap();
        for plan in plans {
            let at = format!("{name} at {} GiB", plan.gib);
            let spacing = plan.restored(plan.spacing);
            let near = target.iter().zip(spacing).all(|(ours, theirs)| (ours - theirs).abs() <= 1e-6 * theirs);
            assert!(near, "{at}: spacing {target:?}, nnU-Net has {spacing:?}");
            assert_eq!(median, plan.restored(plan.median), "{at}: median size");

            let rules = rules(Kind::Plain, &plan, classes);
            let ours = planned(target, median, &rules).unwrap();
            plan.is(&ours, &at);
        }
    }
}

/// The recommended residual encoder, planned for as many cards; `data/nnunet_resenc_plans.py` is the recipe.
#[test]
fn plans_of_the_residual_encoder_are_nnunets() {
    #[derive(Deserialize)]
    struct ResEnc {
        #[serde(flatten)]
        plan: Plan,
        blocks: Vec<usize>,
        decoder_convolutions: Vec<usize>,
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nnunet_resenc_plans.json");
    let mut all: BTreeMap<String, Vec<ResEnc>> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(all.values().map(Vec::len).sum::<usize>(), 50);
    for Dataset { name, classes, spacings, sizes, .. } in reference() {
        let target = target_spacing(&spacings, &sizes).unwrap();
        let median = median_size(&spacings, &sizes, target).unwrap();
        for ResEnc { plan, blocks, decoder_convolutions } in all.remove(&name).unwrap() {
            let at = format!("{name} at {} GiB", plan.gib);
            let kind = Kind::ResEnc;
            let ours = planned(target, median, &rules(kind, &plan, classes)).unwrap();
            plan.is(&ours, &at);
            let of_stages: Vec<_> = (0..ours.strides.len()).map(|stage| kind.blocks(stage)).collect();
            assert_eq!(of_stages, blocks, "{at}: blocks");
            assert!(decoder_convolutions.iter().all(|count| *count == kind.decoder_convolutions()), "{at}");
        }
    }
}

#[test]
fn low_resolutions_are_nnunets() {
    let mut count = 0;
    for Dataset { name, classes, spacings, sizes, plans } in reference() {
        let target = target_spacing(&spacings, &sizes).unwrap();
        let median = median_size(&spacings, &sizes, target).unwrap();
        for plan in plans {
            let at = format!("{name} at {} GiB", plan.gib);
            let rules = rules(Kind::Plain, &plan, classes);
            let full = planned(target, median, &rules).unwrap();
            let ours = low_resolution(target, median, full.patch, &rules).unwrap();
            assert_eq!(ours.is_some(), plan.low.is_some(), "{at}: {ours:?}");
            let (Some(ours), Some(low)) = (ours, &plan.low) else { continue };
            count += 1;
            let spacing = plan.restored(low.spacing);
            let near = ours.spacing.iter().zip(spacing).all(|(ours, theirs)| (ours - theirs).abs() <= 1e-6 * theirs);
            assert!(near, "{at}: spacing {:?}, nnU-Net has {spacing:?}", ours.spacing);
            assert_eq!(ours.median, plan.restored(low.median), "{at}: median size");
            assert_eq!(ours.topology.patch, plan.restored(low.patch), "{at}: patch");
            assert_eq!(ours.topology.strides, plan.all_restored(&low.strides), "{at}: strides");
            assert_eq!(ours.topology.kernels, plan.all_restored(&low.kernels), "{at}: kernels");
            assert!(coverage(full.patch, median) < 0.25 && coverage(ours.topology.patch, ours.median) > 0.24, "{at}");
        }
    }
    assert_eq!(count, 14);
}

#[test]
fn the_reference_moves_axes_every_way() {
    let mut coarsest: Vec<usize> = reference()
        .iter()
        .map(|dataset| dataset.plans[0].transpose_backward)
        .map(|backward| backward.iter().position(|&axis| axis == 0).unwrap())
        .collect();
    coarsest.sort();
    coarsest.dedup();
    assert_eq!(coarsest, [0, 1, 2]);
}
