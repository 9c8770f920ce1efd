//! Dice, HD95, NSD and volume against MONAI, on pairs of masks that a formula makes on both sides.
use std::path::PathBuf;

use ndarray::Array3;
use voxfit::evaluate::{self, ClassFigures, FolderOptions, Summary, case_figures, class_figures, evaluate_folders};
use voxfit::volume;

type Shape = [usize; 3];
const SHAPE: Shape = [20, 24, 28];

/// Ellipsoid around `centre` with semi-axes `radii`; all z, y, x in voxels.
fn ball(centre: [f64; 3], radii: [f64; 3]) -> Array3<u16> {
    Array3::from_shape_fn(SHAPE, |(z, y, x)| {
        let at = [z as f64, y as f64, x as f64];
        let sum: f64 = (0..3).map(|axis| ((at[axis] - centre[axis]) / radii[axis]).powi(2)).sum();
        u16::from(sum <= 1.0)
    })
}

/// From voxel `low` up to `high`, which is not in it.
fn cuboid(low: Shape, high: Shape) -> Array3<u16> {
    Array3::from_shape_fn(SHAPE, |(z, y, x)| {
        u16::from([z, y, x].iter().zip(low).zip(high).all(|((&at, low), high)| low <= at && at < high))
    })
}

fn a() -> Array3<u16> {
    ball([9.0, 11.0, 13.0], [6.0, 7.0, 8.0])
}

fn b() -> Array3<u16> {
    ball([10.0, 12.0, 12.0], [6.0, 6.0, 9.0])
}

/// Every second voxel of `a`.
fn checker() -> Array3<u16> {
    let a = a();
    Array3::from_shape_fn(SHAPE, |(z, y, x)| u16::from((z + y + x) % 2 == 0) * a[[z, y, x]])
}

/// Scattered voxels of `b`, so that nearly every kind of neighbourhood occurs.
fn scatter() -> Array3<u16> {
    let b = b();
    Array3::from_shape_fn(SHAPE, |(z, y, x)| {
        u16::from((z * 7 + y * 13 + x * 29 + (z * y * x) % 11) % 5 < 2) * b[[z, y, x]]
    })
}

fn figures(a: &Array3<u16>, b: &Array3<u16>, spacing: [f64; 3], tolerance: f64) -> ClassFigures {
    class_figures(a.view(), b.view(), 1, None, spacing, tolerance)
}

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-6 * expected.abs().max(1.0)
}

// monai 1.6.1, torch 2, a and b as bool arrays by the formulas above (numpy.indices(shape), axes z, y, x), each [None, None]:
//   compute_dice(a.float(), b.float(), include_background=True)
//   compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
//   compute_surface_dice(a, b, [tolerance], include_background=True, spacing=spacing, use_subvoxels=True)
#[test]
fn figures_are_those_of_monai() {
    let unit = [1.0; 3];
    let flat = [3.0, 0.75, 0.7];
    let (low_box, high_box) = (cuboid([2, 3, 4], [9, 11, 13]), cuboid([4, 3, 5], [11, 15, 12]));
    let recorded = [
        ("balls", a(), b(), unit, 1.0, [0.7960088849067688, 2.0, 0.8100757598876953]),
        ("thick slices", a(), b(), flat, 1.0, [0.7960088849067688, 2.5246167182922363, 0.7232442498207092]),
        ("tolerance 2 mm", a(), b(), flat, 2.0, [0.7960088849067688, 2.5246167182922363, 0.9559366106987]),
        ("boxes", low_box.clone(), high_box.clone(), unit, 1.0, [0.5128205418586731, 4.0, 0.5440847873687744]),
        (
            "boxes, tolerance 0.5 mm",
            low_box,
            high_box,
            [1.5, 0.9, 1.2],
            0.5,
            [0.5128205418586731, 3.9000000953674316, 0.23054450750350952],
        ),
        ("neighbouring voxels", cuboid([2, 3, 4], [3, 4, 5]), cuboid([2, 3, 5], [3, 4, 6]), unit, 1.0, [0.0, 1.0, 1.0]),
        (
            "opposite corners of the volume",
            cuboid([0; 3], [1; 3]),
            cuboid([19, 23, 27], SHAPE),
            [2.0, 1.0, 0.5],
            1.0,
            [0.0, 46.4246711730957, 0.0],
        ),
        (
            "both at the border",
            cuboid([0; 3], [20, 10, 28]),
            cuboid([0; 3], [20, 12, 28]),
            unit,
            1.0,
            [0.9090909361839294, 2.0, 0.761666476726532],
        ),
        (
            "the whole volume",
            cuboid([0; 3], SHAPE),
            ball([9.0, 11.0, 13.0], [30.0, 9.0, 30.0]),
            [1.0, 2.0, 1.0],
            1.0,
            [0.8228080868721008, 8.0, 0.675162136554718],
        ),
        ("the same", a(), a(), unit, 1.0, [1.0, 0.0, 1.0]),
        (
            "far apart",
            ball([4.0, 5.0, 5.0], [3.0, 4.0, 4.0]),
            ball([14.0, 17.0, 21.0], [4.0, 5.0, 5.0]),
            [0.5, 0.5, 5.0],
            1.0,
            [0.0, 80.41299438476562, 0.0],
        ),
        ("checker", checker(), b(), [1.2, 0.8, 1.0], 1.0, [0.5372104644775391, 3.200000047683716, 0.6066132187843323]),
        (
            "scatter",
            scatter(),
            a(),
            [1.2, 0.8, 1.0],
            0.9,
            [0.45564305782318115, 3.3941125869750977, 0.5370544791221619],
        ),
    ];
    for (name, a, b, spacing, tolerance, [dice, hd95, nsd]) in recorded {
        let found = figures(&a, &b, spacing, tolerance);
        assert!(close(found.dice, dice) && close(found.hd95, hd95) && close(found.nsd, nsd), "{name}: {found:?}");
        assert_eq!(found.dice, evaluate::dice(a.view(), b.view(), 1, None));
        let turned = figures(&b, &a, spacing, tolerance);
        assert!(close(turned.hd95, found.hd95) && close(turned.nsd, found.nsd), "{name}: {turned:?}");
        let millilitres = |mask: &Array3<u16>| mask.sum() as f64 * spacing.iter().product::<f64>() / 1000.0;
        assert!(close(found.volume_prediction, millilitres(&a)) && close(found.volume_label, millilitres(&b)));
    }
}

// scipy 1.17.1: scipy.ndimage.label(mask, numpy.ones((3, 3, 3)))[1], masks by the formulas of this file and below; for the
// ignored ones mask & (x < 12).
#[test]
fn parts_are_counted_as_scipy_counts_them() {
    let b = b();
    let dust = Array3::from_shape_fn(SHAPE, |(z, y, x)| {
        u16::from((z * 7 + y * 13 + x * 29 + (z * y * x) % 11) % 19 == 0) * b[[z, y, x]]
    });
    let two = ball([4.0, 5.0, 5.0], [3.0, 4.0, 4.0]) + ball([14.0, 17.0, 21.0], [4.0, 5.0, 5.0]);
    // Two boxes that touch at one corner.
    let corner = cuboid([0; 3], [3; 3]) + cuboid([3; 3], [5; 3]);
    let ignored = Array3::from_shape_fn(SHAPE, |(_, _, x)| if x < 12 { 0 } else { 9 });
    for (name, mask, [parts, without]) in [
        ("ball", a(), [1, 1]),
        ("scatter", scatter(), [1, 1]),
        ("dust", dust, [39, 16]),
        ("two", two, [2, 1]),
        ("corner", corner, [1, 1]),
        ("nothing", Array3::zeros(SHAPE), [0, 0]),
    ] {
        let found = figures(&mask, &a(), [1.0; 3], 1.0);
        assert_eq!((found.components_prediction, found.components_label), (parts, 1), "{name}");
        let turned = figures(&a(), &mask, [1.0; 3], 1.0);
        assert_eq!((turned.components_prediction, turned.components_label), (1, parts), "{name}");
        let partly = class_figures(mask.view(), ignored.view(), 1, Some(9), [1.0; 3], 1.0);
        assert_eq!((partly.components_prediction, partly.components_label), (without, 0), "{name}");
    }
}

#[test]
fn an_empty_class_is_not_defined_and_is_counted() {
    let none = Array3::zeros(SHAPE);
    let both = figures(&none, &none, [1.0; 3], 1.0);
    assert!(both.dice.is_nan() && both.hd95.is_nan() && both.nsd.is_nan());
    for one in [figures(&none, &a(), [1.0; 3], 1.0), figures(&a(), &none, [1.0; 3], 1.0)] {
        assert_eq!((one.dice, one.nsd), (0.0, 0.0));
        assert!(one.hd95.is_nan());
    }
    let case = |name: &str, prediction: &Array3<u16>, label: &Array3<u16>| {
        case_figures(name, prediction.view(), label.view(), &[1], None, [1.0; 3], 1.0)
    };
    let cases = vec![case("good", &a(), &a()), case("missed", &none, &a()), case("clean", &none, &none)];
    let summary = Summary::new(cases, &[], 1.0);
    let class = &summary.classes[0];
    assert_eq!((class.mean.dice, class.mean.hd95, class.mean.nsd), (0.5, 0.0, 0.5));
    assert_eq!((class.cases, class.hd95_undefined, summary.hd95_undefined), (2, 1, 1));
    assert_eq!(summary.worst_case.as_deref(), Some("missed"));
}

/// An ignored half must count as if it were not there: the same as cutting both masks by hand.
#[test]
fn ignored_voxels_are_left_out_of_both() {
    let half = |mask: Array3<u16>| Array3::from_shape_fn(SHAPE, |(z, y, x)| if x < 12 { mask[[z, y, x]] } else { 0 });
    let b = b();
    let ignored = Array3::from_shape_fn(SHAPE, |(z, y, x)| if x < 12 { b[[z, y, x]] } else { 9 });
    let spacing = [1.2, 0.8, 1.0];
    let found = class_figures(a().view(), ignored.view(), 1, Some(9), spacing, 1.0);
    assert_eq!(found, figures(&half(a()), &half(b), spacing, 1.0));
    let classes = case_figures("case", a().view(), ignored.view(), &[1, 9], Some(9), spacing, 1.0).classes;
    assert_eq!(classes.iter().map(|class| class.class).collect::<Vec<_>>(), [1]);
    assert_eq!(classes[0].figures, found);
}

/// One pass over all classes gives what each class gives alone, whatever memory order the maps have.
#[test]
fn all_classes_at_once_are_each_class_alone() {
    let prediction = a() + &cuboid([0; 3], [9, 24, 28]) * 2;
    let label = b() + &cuboid([0; 3], [10, 24, 28]) * 2;
    let turned = label.view().reversed_axes().as_standard_layout().into_owned().reversed_axes();
    let spacing = [2.0, 1.0, 0.5];
    let case = case_figures("case", prediction.view(), turned.view(), &[7], None, spacing, 1.0);
    assert_eq!(case.classes.iter().map(|class| class.class).collect::<Vec<_>>(), [1, 2, 3, 7]);
    for class in &case.classes[..3] {
        assert_eq!(class.figures, class_figures(prediction.view(), label.view(), class.class, None, spacing, 1.0));
        assert!(class.figures.dice > 0.0 && class.figures.dice < 1.0);
    }
    assert!(case.classes[3].figures.dice.is_nan());
}

/// Real files through folders. Recorded from MONAI 1.6.1 with nibabel:
/// `l` the label, `p = zeros_like(l); p[2:, 1:, :] = l[:-2, :-1, :]` (x, y, z), figures as above, spacing of the header.
#[test]
fn folders_of_real_labels_give_the_figures_of_monai() {
    let Some(volumes) = std::env::var_os("VOXFIT_VOLUMES").map(PathBuf::from).filter(|folder| folder.is_dir()) else {
        println!("skipped: VOXFIT_VOLUMES names no folder of volumes");
        return;
    };
    let hippocampus = [("1 Anterior", [0.8021148, 2.0, 0.8974844]), ("2 Posterior", [0.6921182, 2.0, 0.8065023])];
    let torso = [
        ("1", [0.8826163, 6.708204, 0.3871129]),
        ("2", [0.7815277, 6.708204, 0.2427013]),
        ("3", [0.7903743, 6.0, 0.3884896]),
        ("4", [0.8411452, 6.708204, 0.4803564]),
        ("5", [0.7563951, 6.708204, 0.3504871]),
    ];
    for (folder, name, expected) in [
        ("Task04_Hippocampus/labelsTr", "hippocampus_001.nii.gz", &hippocampus[..]),
        ("CT_Torso/labelsTr", "torso.nii.gz", &torso[..]),
    ] {
        let (labels, predictions) = (volumes.join(folder), tempfile::tempdir().unwrap());
        let label = volume::read_labels(&labels.join(name)).unwrap();
        let moved =
            Array3::from_shape_fn(
                label.data.dim(),
                |(z, y, x)| {
                    if x >= 2 && y >= 1 { label.data[[z, y - 1, x - 2]] } else { 0 }
                },
            );
        volume::write_labels(&predictions.path().join(name), moved.view(), &label.native).unwrap();
        let summary = evaluate_folders(predictions.path(), &labels, &FolderOptions::default(), &|_, _| ()).unwrap();
        assert_eq!(summary.cases.len(), 1);
        assert_eq!(summary.classes.len(), expected.len());
        assert!(summary.foreground_interval.unwrap().dice.low.is_nan(), "one case tells nothing of others");
        for ((class, of_case), (title, [dice, hd95, nsd])) in
            summary.classes.iter().zip(&summary.cases[0].classes).zip(expected)
        {
            let found = &of_case.figures;
            assert!(class.class.title().starts_with(title), "{}", class.class.title());
            assert!(
                close(found.dice, *dice) && close(found.hd95, *hd95) && close(found.nsd, *nsd),
                "{title} {found:?}"
            );
        }
    }
}
