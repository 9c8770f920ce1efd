//! The planning rules against nnU-Net's own.
//!
//! Unless a comment says otherwise, expected values were printed by nnunetv2 2.8.1 (`pip install nnunetv2`): patches by
//! `ExperimentPlanner.get_plans_for_configuration` (`UNet_vram_target_GB` set to the budget), strides and kernels by
//! `get_pool_and_conv_props(spacing, size, 4, 999999)`, feature maps by `PlainConvUNet.compute_conv_feature_map_size`,
//! spacings by `determine_fullres_target_spacing`. Triples are z, y, x.
use proptest::prelude::*;
use voxfit::network::plan::Kind;
use voxfit::network::topology::{
    Rules, Topology, TopologyError, divisor, feature_map_elements, kernels, median_size, nearest_patch, planned,
    target_spacing, topology,
};

const GIB: u64 = 1 << 30;

fn rules(design: u64, classes: usize) -> Rules {
    Rules { kind: Kind::Plain, features: 32, features_max: 320, stages: None, design, classes }
}

#[test]
fn patches_for_each_budget_are_nnunets() {
    let liver = ([1.0, 0.7676, 0.7676], [482.0, 512.0, 512.0], 3);
    let brats = ([1.0, 1.0, 1.0], [138.0, 170.0, 138.0], 4);
    let hippocampus = ([1.0, 1.0, 1.0], [36.0, 50.0, 35.0], 3);
    let prostate = ([3.6, 0.625, 0.625], [20.0, 320.0, 319.0], 3);
    let coarse_y = ([1.0, 4.0, 1.0], [100.0, 30.5, 120.0], 2);
    for ((spacing, median, classes), gib, patch) in [
        (liver, 2, [80, 96, 80]),
        (liver, 4, [96, 112, 112]),
        (liver, 6, [112, 128, 128]),
        (liver, 8, [128, 128, 128]),
        (liver, 12, [128, 160, 160]),
        (brats, 2, [80, 96, 80]),
        (brats, 4, [96, 128, 96]),
        (brats, 6, [128, 128, 112]),
        (brats, 8, [128, 128, 128]),
        (brats, 12, [128, 192, 128]),
        (hippocampus, 2, [40, 56, 40]),
        (hippocampus, 8, [40, 56, 40]),
        (prostate, 2, [12, 192, 192]),
        (prostate, 4, [16, 256, 224]),
        (prostate, 6, [20, 256, 256]),
        (prostate, 8, [20, 320, 256]),
        (prostate, 12, [20, 320, 320]),
        (coarse_y, 8, [112, 32, 128]),
    ] {
        let plan = planned(spacing, median, &rules(gib * GIB, classes)).unwrap();
        assert_eq!(plan.patch, patch, "{spacing:?} at {gib} GiB");
    }
}

#[test]
fn fewer_features_leave_room_for_a_larger_patch() {
    // UNet_base_num_features = 16 and 8.
    for (design, features) in [(GIB, 16), (GIB / 2, 8)] {
        let rules = Rules { features, ..rules(design, 3) };
        let plan = planned([1.0; 3], [189.0, 233.0, 197.0], &rules).unwrap();
        assert_eq!((plan.patch, plan.strides.len()), ([80, 96, 80], 5));
    }
}

#[test]
fn strides_and_kernels_are_nnunets() {
    let plan = planned([3.6, 0.625, 0.625], [20.0, 320.0, 319.0], &rules(8 * GIB, 3)).unwrap();
    assert_eq!(plan.strides, [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2], [1, 2, 2]]);
    assert_eq!(plan.kernels, [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]);
    // The coarse axis is not the first: nnU-Net moves it there, plans and moves it back.
    let plan = planned([1.0, 4.0, 1.0], [100.0, 30.5, 120.0], &rules(8 * GIB, 2)).unwrap();
    assert_eq!(plan.strides, [[1, 1, 1], [2, 1, 2], [2, 1, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]]);
    assert_eq!(plan.kernels, [[3, 1, 3], [3, 1, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]);

    // Twelve voxels along the only fine axis, cut to eleven: nnU-Net's rules end without a stride.
    let plan = planned([3.03, 7.34, 0.81], [224.0, 48.0, 12.0], &rules(GIB, 3)).unwrap();
    assert_eq!((plan.patch, plan.strides), ([224, 48, 11], vec![[1; 3]]));

    type Case = ([f64; 3], [f64; 3], [usize; 3], Vec<[usize; 3]>, Vec<[usize; 3]>);
    let small: [Case; 6] = [
        ([1.0; 3], [8.0; 3], [8; 3], vec![[1; 3], [2; 3]], vec![[3; 3]; 2]),
        ([1.0; 3], [7.0; 3], [7; 3], vec![[1; 3]], vec![[3; 3]]),
        // A lone axis is halved from 12 voxels on.
        ([1.0; 3], [8.0, 4.0, 4.0], [8, 4, 4], vec![[1; 3]], vec![[3; 3]]),
        ([1.0; 3], [12.0, 4.0, 4.0], [12, 4, 4], vec![[1; 3], [2, 1, 1]], vec![[3; 3]; 2]),
        // 5 mm across: not halved until the others have come within twice of it.
        (
            [5.0, 1.0, 1.0],
            [16.0; 3],
            [16; 3],
            vec![[1; 3], [1, 2, 2], [1, 2, 2], [2, 1, 1]],
            vec![[1, 3, 3], [1, 3, 3], [3; 3], [3; 3]],
        ),
        ([1.0; 3], [35.5, 50.0, 33.0], [40, 56, 40], vec![[1; 3], [2; 3], [2; 3], [2; 3]], vec![[3; 3]; 4]),
    ];
    for (spacing, size, patch, strides, kernels) in small {
        assert_eq!(topology(spacing, size, None), Topology { patch, kernels, strides }, "{spacing:?} {size:?}");
    }
}

#[test]
fn an_axis_of_one_voxel_is_left_alone() {
    let plan = planned([1.0; 3], [1.0, 256.0, 256.0], &rules(8 * GIB, 2)).unwrap();
    assert_eq!(plan.patch, [1, 256, 256]);
    assert_eq!(plan.strides[0], [1; 3]);
    assert_eq!(plan.strides[1..], [[1, 2, 2]; 6]);
    let line = topology([1.0; 3], [1.0, 1.0, 64.0], None);
    // By hand: 64, 32, 16, 8; a lone axis of 8 stays.
    assert_eq!((line.patch, line.strides.len()), ([1, 1, 64], 4));
}

#[test]
fn feature_maps_are_counted_as_nnunet_does() {
    for (size, spacing, classes, features, elements) in [
        ([128.0; 3], [1.0; 3], 3, 32, 452_796_416.0),
        ([40.0, 56.0, 40.0], [1.0; 3], 3, 32, 19_174_400.0),
        ([20.0, 320.0, 256.0], [3.6, 0.625, 0.625], 3, 32, 483_315_200.0),
        ([32.0; 3], [1.0; 3], 4, 12, 2_723_840.0),
    ] {
        let rules = Rules { features, ..rules(8 * GIB, classes) };
        assert_eq!(feature_map_elements(&topology(spacing, size, None), &rules), elements);
    }
}

#[test]
fn the_target_spacing_is_the_median_but_for_one_coarse_short_axis() {
    let cardiac = [[5.0, 0.7, 0.7], [6.0, 0.8, 0.8], [10.0, 1.5, 1.5], [10.0, 1.4, 1.4], [10.0, 1.5, 1.5]];
    let sizes = [[10, 250, 220], [9, 256, 216], [8, 256, 256], [10, 200, 240], [9, 230, 230]];
    let target = target_spacing(&cardiac, &sizes).unwrap();
    assert_eq!(target, [5.4, 1.4, 1.4]);
    assert_eq!(median_size(&cardiac, &sizes, target).unwrap(), [15.0, 200.0, 240.0]);

    let sizes = [[10, 100, 100]; 3];
    let target = target_spacing(&[[4.0, 1.0, 1.0], [1.0, 1.0, 1.0], [4.0, 1.0, 1.0]], &sizes).unwrap();
    assert_eq!(target, [1.6, 1.0, 1.0]);

    let spacings = [[1.0, 0.7, 0.8], [1.2, 0.9, 0.7]];
    let sizes = [[100, 100, 101], [90, 90, 95]];
    let target = target_spacing(&spacings, &sizes).unwrap();
    assert_eq!(target, [1.1, 0.8, 0.75]);
    assert_eq!(median_size(&spacings, &sizes, target).unwrap(), [94.5, 94.0, 98.5]);

    // Coarse, but with too many voxels to be an exception.
    assert_eq!(target_spacing(&[[10.0, 1.0, 1.0]; 3], &[[40, 100, 100]; 3]).unwrap(), [10.0, 1.0, 1.0]);
    assert_eq!(target_spacing(&[], &[]), Err(TopologyError::NoCases));
}

#[test]
fn a_cap_on_stages_is_kept_and_an_impossible_design_is_refused() {
    let capped = Rules { stages: Some(3), ..rules(8 * GIB, 3) };
    assert_eq!(planned([1.0; 3], [36.0, 50.0, 35.0], &capped).unwrap().strides, [[1; 3], [2; 3], [2; 3]]);
    let tiny = rules(1, 3);
    assert_eq!(planned([1.0; 3], [36.0, 50.0, 35.0], &tiny), Err(TopologyError::DesignTooSmall));
}

#[test]
fn the_nearest_patch_is_one_that_divides() {
    for (patch, nearest) in [
        ([33, 32, 32], [32, 32, 32]),
        ([40, 56, 40], [40, 56, 40]),
        ([31, 31, 31], [32, 32, 32]),
        ([9, 9, 9], [8, 8, 8]),
    ] {
        assert_eq!(nearest_patch([1.0; 3], patch, None), nearest);
    }
}

#[test]
fn the_real_hippocampus_gets_nnunets_patch() {
    let Some(root) = std::env::var_os("VOXFIT_VOLUMES").map(std::path::PathBuf::from) else {
        eprintln!("skipped: VOXFIT_VOLUMES is not set");
        return;
    };
    let root = root.join("Task04_Hippocampus");
    if !root.is_dir() {
        eprintln!("skipped: {} is not there", root.display());
        return;
    }
    let dataset = voxfit::dataset::Dataset::open(&root).unwrap();
    let fingerprint = voxfit::dataset::fingerprint::fingerprint(&dataset).unwrap();
    let spacings: Vec<_> = fingerprint.spacings.iter().map(|&spacing| voxfit::zyx(spacing)).collect();
    let sizes: Vec<_> = fingerprint.sizes.iter().map(|&size| voxfit::zyx(size)).collect();
    let target = target_spacing(&spacings, &sizes).unwrap();
    let median = median_size(&spacings, &sizes, target).unwrap();
    // nnUNet#148 quotes the plan.
    let plan = planned(target, median, &rules(8 * GIB, dataset.classes.len())).unwrap();
    let mut patch = plan.patch;
    patch.sort();
    assert_eq!((target, patch), ([1.0; 3], [40, 40, 56]));
}

proptest! {
    #[test]
    fn every_plan_divides_its_patch(
        spacing in prop::array::uniform3(0.3f64..8.0),
        size in prop::array::uniform3(1usize..300),
        gib in 1u64..12,
    ) {
        let rules = rules(gib * GIB, 3);
        let plan = planned(spacing, size.map(|n| n as f64), &rules).unwrap();
        prop_assert_eq!(plan.strides.len(), plan.kernels.len());
        prop_assert!(feature_map_elements(&plan, &rules) <= 560e6 * gib as f64 / 8.0);
        let divisor = divisor(&plan.strides);
        prop_assert!(plan.patch.iter().zip(divisor).all(|(edge, divisor)| edge % divisor == 0));
        // Writing the patch down and planning for it gives the same network.
        let again = topology(spacing, plan.patch.map(|n| n as f64), None);
        prop_assert_eq!(&again, &plan);
        prop_assert_eq!(kernels(spacing, &plan.strides), plan.kernels);
    }

    #[test]
    fn the_nearest_patch_needs_no_other(spacing in prop::array::uniform3(0.3f64..8.0), patch in prop::array::uniform3(1usize..400)) {
        let nearest = nearest_patch(spacing, patch, None);
        prop_assert_eq!(nearest_patch(spacing, nearest, None), nearest);
    }
}
