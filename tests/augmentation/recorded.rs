//! Each transform against batchgeneratorsv2 0.3.6 (PyTorch 2.11) with the same parameters on the same input.
//!
//! The recorded values were made from these inputs (`S` = [z, y, x]) through the transform's own `_apply_to_image`:
//! ```python
//! i = np.arange(channels * n, dtype=np.float64)            # n = voxels of a channel
//! image = (np.sin(i * 0.37) + 0.5 * np.cos(i * 0.011)).astype(np.float32).reshape(channels, *S)
//! z, y, x = np.unravel_index(np.arange(n), S)
//! label = (z * 7 // S[0] + y * 5 // S[1] + x * 3 // S[2]) % 4; label[label == 3] = 255
//! ```
//! and are voxels 0, n/7, n/3, n/2, 5n/7, n-1 of the flattened result (n voxels, all channels), then f64 sums of
//! value, value * (index % 17) and value^2; of labels the counts and the sum of value * (index % 1009).
use ndarray::{Array3, Array4};
use voxfit::patch::augment::{
    AugmentConfig, augment, blur, brightness, contrast, gamma, low_resolution, mirror, spatial,
};
use voxfit::patch::{mirror_image, mirror_label};
use voxfit::random::stream;

use crate::{PATCH, sample};

/// Compares with recorded voxels and the sums of value, value * (index % 17), value^2.
#[track_caller]
fn assert_image(image: &Array4<f32>, voxels: [f64; 6], [sum, weighted, squares]: [f64; 3]) {
    assert!(image.is_standard_layout());
    let values: Vec<f64> = image.iter().map(|&value| f64::from(value)).collect();
    let n = values.len();
    for (index, expected) in [0, n / 7, n / 3, n / 2, n * 5 / 7, n - 1].into_iter().zip(voxels) {
        assert!((values[index] - expected).abs() < 2e-5, "voxel {index}: {} instead of {expected}", values[index]);
    }
    let total: f64 = values.iter().sum();
    let by_index: f64 = values.iter().enumerate().map(|(index, value)| value * (index % 17) as f64).sum();
    let energy: f64 = values.iter().map(|value| value * value).sum();
    assert!((total - sum).abs() < 2e-3, "sum {total} instead of {sum}");
    assert!((by_index - weighted).abs() < 1e-2, "weighted sum {by_index} instead of {weighted}");
    assert!((energy - squares).abs() < 2e-3, "sum of squares {energy} instead of {squares}");
}

#[track_caller]
fn assert_label(label: &Array3<u16>, counts: [(u16, usize); 4], weighted: u64) {
    for (class, count) in counts {
        assert_eq!(label.iter().filter(|&&value| value == class).count(), count, "voxels of label {class}");
    }
    let sum: u64 = label.iter().enumerate().map(|(index, &value)| u64::from(value) * (index % 1009) as u64).sum();
    assert_eq!(sum, weighted, "labels in other places");
}

#[test]
fn turning_and_scaling_match() {
    // SpatialTransform(PATCH, 0, False, rotation=angles by dim, scaling 1.23 synchronised, the rest nnU-Net's)
    let params = spatial::Params::turned([0.31, -0.47, 0.22], 1.23);
    let turned = spatial::apply(&params, &sample([13, 12, 14], 2), PATCH);
    assert_image(
        &turned.image,
        [0.0, 0.05184584856033325, 0.987092912197113, 0.0, -0.7774503231048584, 0.0],
        [-9.18622039, -54.7756784, 721.148992],
    );
    assert_label(&turned.label, [(0, 376), (1, 207), (2, 197), (255, 210)], 26_128_035);
}

#[test]
fn turning_beyond_a_source_smaller_than_the_patch_matches() {
    let params = spatial::Params::turned([0.31, -0.47, 0.22], 1.23);
    let turned = spatial::apply(&params, &sample([8, 8, 8], 2), PATCH);
    assert_image(
        &turned.image,
        [0.0, 0.0, 0.0, 0.0, -0.05124262720346451, 0.0],
        [-21.9524355, -236.729701, 126.839067],
    );
    assert_label(&turned.label, [(0, 804), (1, 63), (2, 65), (255, 58)], 7_656_798);
}

#[test]
fn turning_a_flat_patch_in_its_plane_matches() {
    // 2D SpatialTransform((14, 15), rotation 2.1, scaling 0.8) on the slices of a (3, 20, 18) source as channels
    let params = spatial::Params::in_plane(0, 2.1, 0.8);
    let turned = spatial::apply(&params, &sample([3, 20, 18], 2), [3, 14, 15]);
    assert_image(
        &turned.image,
        [
            -0.0022291119676083326,
            -1.078704595565796,
            -0.7222301363945007,
            -0.3480587303638458,
            1.4401957988739014,
            -0.9157742857933044,
        ],
        [-42.1865184, -309.695035, 728.972437],
    );
    assert_label(&turned.label, [(0, 174), (1, 136), (2, 174), (255, 146)], 11_861_235);
}

#[test]
fn ties_between_labels_are_settled_as_there() {
    // no turn, but a (5, 6, 7) patch of an (8, 8, 8) source: along z and x every voxel lies half-way between two
    let params = spatial::Params::turned([0.0; 3], 1.0);
    let turned = spatial::apply(&params, &sample([8, 8, 8], 2), [5, 6, 7]);
    assert_image(
        &turned.image,
        [
            0.7963719964027405,
            0.20677614212036133,
            -0.025612443685531616,
            1.1051409244537354,
            0.5078731179237366,
            0.020642172545194626,
        ],
        [-85.0460548, -673.558306, 160.104269],
    );
    assert_label(&turned.label, [(0, 55), (1, 50), (2, 55), (255, 50)], 1_331_676);
}

#[test]
fn a_patch_not_turned_is_the_middle_of_the_source() {
    // the same SpatialTransform with nothing drawn
    let cropped = augment(&AugmentConfig::off(), sample([13, 12, 14], 2), PATCH, &mut stream(0, "test", 0, 0));
    assert_image(
        &cropped.image,
        [
            -1.1285730600357056,
            -0.3573993146419525,
            -0.24666652083396912,
            1.2328001260757446,
            -1.2459486722946167,
            0.5439489483833313,
        ],
        [-8.53330611, 14.4896009, 1238.7477],
    );
    assert_label(&cropped.label, [(0, 250), (1, 245), (2, 245), (255, 250)], 32_042_407);
}

#[test]
fn blur_matches() {
    // GaussianBlurTransform, channel 1 only, sigmas [0.5, 0.73, 1.0]
    let mut image = sample(PATCH, 2).image;
    blur::apply(&blur::Params { sigma: vec![None, Some([0.5, 0.73, 1.0])] }, &mut image);
    assert_image(
        &image,
        [0.5, -1.1185874938964844, -0.4676252603530884, 0.4091760814189911, -0.201996847987175, -0.7165175676345825],
        [20.1891809, -3102.47202, 754.246294],
    );
}

#[test]
fn brightness_matches() {
    // MultiplicativeBrightnessTransform, multipliers 0.8 and 1.2
    let mut image = sample(PATCH, 2).image;
    brightness::apply(&brightness::Params { factors: vec![0.8, 1.2] }, &mut image);
    assert_image(
        &image,
        [
            0.4000000059604645,
            -0.8948699831962585,
            -0.3741002082824707,
            1.0815852880477905,
            0.6005107164382935,
            -0.869230329990387,
        ],
        [34.9758664, -4805.8877, 1279.76578],
    );
}

#[test]
fn contrast_matches() {
    // ContrastTransform(preserve_range=True), multipliers 0.8 and 1.2
    let mut image = sample(PATCH, 2).image;
    contrast::apply(&contrast::Params { factors: vec![0.8, 1.2] }, &mut image);
    assert_image(
        &image,
        [
            0.39152950048446655,
            -0.9033405184745789,
            -0.38257071375846863,
            1.0700501203536987,
            0.5889755487442017,
            -0.8807654976844788,
        ],
        [13.017522, -4910.4277, 1226.89613],
    );
}

#[test]
fn low_resolution_matches() {
    // SimulateLowResolutionTransform, scales 0.61 and 0.5 (10 * 0.61 and the halves 4.5, 5.5 round to even)
    let mut image = sample(PATCH, 2).image;
    let scale = vec![Some([0.61; 3]), Some([0.5; 3])];
    low_resolution::apply(&low_resolution::Params { scale }, &mut image);
    assert_image(
        &image,
        [0.5, 0.1031125858426094, 0.03832874074578285, -0.5400196313858032, -0.6381937265396118, -1.106998085975647],
        [24.5369592, -400.894508, 546.721432],
    );
    // channel 1 only, scales [1, 0.77, 0.77] (ignore_axes of a flat patch)
    let mut image = sample(PATCH, 2).image;
    let scale = vec![None, Some([1.0, 0.77, 0.77])];
    low_resolution::apply(&low_resolution::Params { scale }, &mut image);
    assert_image(
        &image,
        [0.5, -1.1185874938964844, -0.4676252603530884, 0.9013210535049438, -1.0875869989395142, -0.7243585586547852],
        [12.5811273, -3649.98869, 1015.96317],
    );
}

#[test]
fn gamma_matches_inverted_and_plain() {
    // GammaTransform(p_retain_stats=1), gamma 0.74 and 1.41
    let mut image = sample(PATCH, 2).image;
    gamma::apply(&gamma::Params { gamma: vec![0.74, 1.41], inverted: true }, &mut image);
    assert_image(
        &image,
        [
            0.4403780698776245,
            -1.0554182529449463,
            -0.4958900809288025,
            0.8928887844085693,
            0.5729592442512512,
            -0.7258069515228271,
        ],
        [15.1702876, -4882.24319, 1234.66788],
    );
    let mut image = sample(PATCH, 2).image;
    gamma::apply(&gamma::Params { gamma: vec![0.74, 1.41], inverted: false }, &mut image);
    assert_image(
        &image,
        [
            0.517122745513916,
            -1.1551504135131836,
            -0.39842426776885986,
            0.9187424182891846,
            0.4472333788871765,
            -0.7352637052536011,
        ],
        [15.1702567, -5047.79918, 1234.66802],
    );
}

#[test]
fn gamma_leaves_a_constant_image() {
    let mut image = Array4::from_elem((2, 4, 4, 4), 1.5_f32);
    gamma::apply(&gamma::Params { gamma: vec![0.74, 1.41], inverted: false }, &mut image);
    assert!(image.iter().all(|&value| value == 1.5));
}

#[test]
fn mirroring_matches_and_undoes_itself() {
    // MirrorTransform, axes [0, 2]
    let original = sample(PATCH, 2);
    let mirrored = mirror::apply(&mirror::Params { axes: [true, false, true] }, original.clone());
    assert_image(
        &mirrored.image,
        [
            -0.0886751338839531,
            -0.4269450604915619,
            -0.5044878125190735,
            0.6007640957832336,
            -0.4387689232826233,
            0.5016740560531616,
        ],
        [15.170243, 68.7636933, 1234.66792],
    );
    assert_eq!(mirrored.label[[0, 0, 0]], original.label[[9, 0, 10]]);
    assert_eq!(mirror_image(&mirrored.image, [true, false, true]), original.image);
    assert_eq!(mirror_label(&mirrored.label, [true, false, true]), original.label);
}
