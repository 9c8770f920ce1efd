//! What is drawn, from where, and that a sample is the same whenever it is made.
use ndarray::Array4;
use rand_chacha::ChaCha8Rng;
use voxfit::patch::Sample;
use voxfit::patch::augment::config::{GammaConfig, MirrorAxis, MirrorConfig};
use voxfit::patch::augment::{self, AugmentConfig, augment, draw, gamma, mirror, noise, source_size};
use voxfit::random::stream;

use crate::{PATCH, sample};

#[test]
fn noise_is_normal_and_independent_per_channel() {
    let mut image = Array4::zeros((2, 40, 40, 40));
    noise::apply(&noise::Params { sigma: 0.1, seed: 7 }, &mut image);
    let values: Vec<f64> = image.iter().map(|&value| f64::from(value) / 0.1).collect();
    let n = values.len() as f64;
    let moment = |power: i32| values.iter().map(|value| value.powi(power)).sum::<f64>() / n;
    // moments of the standard normal, each within 5 standard errors: sqrt((E x^2k - (E x^k)^2) / n)
    for (power, expected, variance) in
        [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10170.0)]
    {
        let difference = (moment(power) - expected).abs();
        assert!(difference < 5.0 * (variance / n).sqrt(), "moment {power} off by {difference}");
    }
    let (first, second) = values.split_at(values.len() / 2);
    let product: f64 = first.iter().zip(second).map(|(a, b)| a * b).sum::<f64>() / (n / 2.0);
    let neighbours: f64 = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / n;
    assert!(product.abs() < 5.0 / (n / 2.0).sqrt() && neighbours.abs() < 5.0 / n.sqrt());
}

fn always() -> AugmentConfig {
    let mut config = AugmentConfig::default();
    config.spatial.rotation.probability = 1.0;
    config.spatial.scale.probability = 1.0;
    for probability in [
        &mut config.noise.probability,
        &mut config.blur.probability,
        &mut config.blur.channel_probability,
        &mut config.brightness.probability,
        &mut config.contrast.probability,
        &mut config.low_resolution.probability,
        &mut config.low_resolution.channel_probability,
        &mut config.gamma_inverted.probability,
        &mut config.gamma.probability,
        &mut config.mirror.probability,
    ] {
        *probability = 1.0;
    }
    config
}

#[test]
fn a_sample_is_the_same_whenever_and_wherever_it_is_made() {
    let config = always();
    let source = source_size(&config, PATCH);
    let make = |number| augment(&config, sample(source, 2), PATCH, &mut stream(1, "augment", 0, number));
    let (first, second) = (make(0), make(1));
    let again: Vec<Sample> = std::thread::scope(|scope| {
        let threads = [1, 0].map(|number| scope.spawn(move || make(number)));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    assert_eq!([&second, &first], [&again[0], &again[1]]);
    assert_ne!(first, second);
    assert_eq!(first.image.dim(), (2, 10, 9, 11));
    assert_eq!(first.label.dim(), (10, 9, 11));
    assert!(first.image.iter().all(|value| value.is_finite()));
    assert!(first.label.iter().all(|label| [0, 1, 2, 255].contains(label)));
}

#[test]
fn transforms_are_drawn_as_often_as_their_probability_says_and_within_their_ranges() {
    let config = AugmentConfig::default();
    let n = 20_000;
    let drawn: Vec<_> =
        (0..n).map(|number| draw(&config, 2, [40, 56, 40], &mut stream(2, "augment", number, 0))).collect();
    let share = |taken: &dyn Fn(&augment::Drawn) -> bool| drawn.iter().filter(|drawn| taken(drawn)).count() as f64;
    // within 5 standard deviations of a binomial
    let check = |name: &str, p: f64, taken: &dyn Fn(&augment::Drawn) -> bool| {
        let (expected, deviation) = (p * n as f64, (p * (1.0 - p) * n as f64).sqrt());
        assert!((share(taken) - expected).abs() < 5.0 * deviation, "{name}: {} of {n}", share(taken));
    };
    check("spatial", 1.0 - 0.8 * 0.8, &|drawn| drawn.spatial.is_some());
    check("noise", 0.1, &|drawn| drawn.noise.is_some());
    check("blur", 0.2, &|drawn| drawn.blur.is_some());
    check("blur of channel 1", 0.1, &|drawn| drawn.blur.as_ref().is_some_and(|params| params.sigma[1].is_some()));
    check("brightness", 0.15, &|drawn| drawn.brightness.is_some());
    check("contrast", 0.15, &|drawn| drawn.contrast.is_some());
    check("low resolution", 0.25, &|drawn| drawn.low_resolution.is_some());
    check("inverted gamma", 0.1, &|drawn| drawn.gamma_inverted.is_some());
    check("gamma", 0.3, &|drawn| drawn.gamma.is_some());
    for axis in 0..3 {
        check("mirror", 0.5, &|drawn| drawn.mirror.axes[axis]);
    }
    for params in drawn.iter().filter_map(|drawn| drawn.gamma.as_ref()) {
        assert!(!params.inverted && params.gamma.len() == 2);
        assert!(params.gamma.iter().all(|gamma| (0.7..=1.5).contains(gamma)));
    }
    for params in drawn.iter().filter_map(|drawn| drawn.spatial.as_ref()) {
        let scale = params.matrix.iter().map(|row| row[0] * row[0]).sum::<f64>().sqrt();
        assert!((0.7 - 1e-9..=1.4 + 1e-9).contains(&scale), "scale {scale}");
        for (axis, row) in params.matrix.iter().enumerate() {
            let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
            assert!((length - scale).abs() < 1e-9, "row {axis} has another scale");
        }
    }
}

#[test]
fn a_flat_patch_is_turned_in_its_plane_and_keeps_its_slices() {
    let config = always();
    for (patch, thin) in [([16, 64, 96], 0), ([64, 16, 96], 1), ([64, 96, 16], 2)] {
        let mut widest: f64 = 0.0;
        for number in 0..200 {
            let drawn = draw(&config, 1, patch, &mut stream(3, "augment", 0, number));
            let matrix = drawn.spatial.unwrap().matrix;
            for (axis, row) in matrix.iter().enumerate() {
                let expected = if axis == thin { 1.0 } else { 0.0 };
                assert_eq!((matrix[thin][axis], row[thin]), (expected, expected));
            }
            let other = if thin == 0 { 1 } else { 0 };
            widest = widest.max(-matrix[other][other]);
            let scale = drawn.low_resolution.unwrap().scale[0].unwrap();
            assert_eq!(scale[thin], 1.0);
            assert!((0.5..1.0).contains(&scale[other]));
        }
        assert!(widest > 0.7, "never turned by more than a right angle");
    }
}

#[test]
fn the_source_is_nnunets_initial_patch() {
    // get_patch_size(patch, r, r, r, (0.85, 1.25)) with batchgenerators 0.25.5, r = 30 degrees, or 180 and the first
    // axis kept where the patch is flat: [73 80 64] [205 205 205] [137 144 128] [60 86 84] [- 112 112]
    let config = AugmentConfig::default();
    assert_eq!(source_size(&config, [40, 56, 40]), [73, 80, 64]);
    assert_eq!(source_size(&config, [128, 128, 128]), [205, 205, 205]);
    assert_eq!(source_size(&config, [80, 96, 80]), [137, 144, 128]);
    assert_eq!(source_size(&config, [32, 48, 64]), [60, 86, 84]);
    assert_eq!(source_size(&config, [16, 64, 96]), [16, 112, 112]);
    assert_eq!(source_size(&AugmentConfig::off(), [40, 56, 40]), [40, 56, 40]);
    let mut still = AugmentConfig::default();
    still.spatial.rotation.probability = 0.0;
    assert_eq!(source_size(&still, [40, 56, 40]), [47, 65, 47]);
    still.spatial.scale.probability = 0.0;
    assert_eq!(source_size(&still, [40, 56, 40]), [40, 56, 40]);
}

#[test]
fn an_ignore_label_is_kept_and_never_mixed_into_another() {
    let config = always();
    let source = source_size(&config, PATCH);
    let mut original = sample(source, 1);
    original.label.mapv_inplace(|label| if label == 255 { u16::MAX } else { 7 });
    let turned = augment(&config, original, PATCH, &mut stream(4, "augment", 0, 0));
    assert!(turned.label.iter().all(|&label| [0, 7, u16::MAX].contains(&label)));
    assert!(turned.label.iter().any(|&label| label == u16::MAX));
}

#[test]
fn the_tables_read_as_written_and_a_wrong_key_is_refused() {
    let config: AugmentConfig = toml::from_str(
        "[spatial.rotation]\ndegrees = [-15, 15]\n[gamma_inverted]\ngamma = [0.9, 1.1]\n[mirror]\naxes = ['y', 'z']",
    )
    .unwrap();
    assert_eq!(config.spatial.rotation.degrees, [-15.0, 15.0]);
    assert_eq!(config.spatial.rotation.probability, 0.2);
    assert_eq!(config.mirror, MirrorConfig { probability: 0.5, axes: vec![MirrorAxis::Y, MirrorAxis::Z] });
    assert_eq!(config.mirror.allowed(), [true, true, false]);
    assert!(config.enabled);
    let written = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<AugmentConfig>(&written).unwrap(), config);
    for wrong in ["[noise]\nvariance = [0, 1]", "[rotation]\nprobability = 1", "[mirror]\naxes = ['w']"] {
        assert!(toml::from_str::<AugmentConfig>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_range_that_makes_no_sense_is_refused_by_name() {
    assert_eq!(AugmentConfig::default().validate(), Ok(()));
    let refused = |change: &dyn Fn(&mut AugmentConfig), key: &str, said: &str| {
        let mut config = AugmentConfig::default();
        change(&mut config);
        let error = config.validate().unwrap_err();
        assert!(error.contains(key) && error.contains(said), "{error}");
    };
    refused(&|config| config.noise.probability = 1.5, "augment.noise.probability", "1.5");
    refused(&|config| config.blur.channel_probability = f64::NAN, "augment.blur.channel_probability", "0 (never)");
    refused(&|config| config.mirror.probability = -0.1, "augment.mirror.probability", "-0.1");
    refused(&|config| config.gamma.gamma = [1.5, 0.7], "augment.gamma.gamma", "write [0.7, 1.5]");
    refused(&|config| config.spatial.scale.factor = [0.0, 1.4], "augment.spatial.scale.factor", "0.1 to 10");
    refused(
        &|config| config.spatial.rotation.degrees = [-400.0, 30.0],
        "augment.spatial.rotation.degrees",
        "-180 to 180",
    );
    refused(&|config| config.noise.sigma = [-0.1, 0.1], "augment.noise.sigma", "0 to 10");
    refused(&|config| config.low_resolution.scale = [0.5, f64::INFINITY], "augment.low_resolution.scale", "0.05 to 1");
    refused(&|config| config.blur.sigma = [f64::NAN, 1.0], "augment.blur.sigma", "numbers");
}

#[test]
fn forbidding_an_axis_leaves_the_draws_of_the_others() {
    let only = |axes: Vec<MirrorAxis>| MirrorConfig { probability: 0.5, axes };
    let (all, two) = (MirrorConfig::default(), only(vec![MirrorAxis::Z, MirrorAxis::Y]));
    let mut ever = false;
    for number in 0..50 {
        let rng = || -> ChaCha8Rng { stream(9, "augment", number, 0) };
        let (with, without) = (mirror::draw(&all, &mut rng()).axes, mirror::draw(&two, &mut rng()).axes);
        assert_eq!(with[..2], without[..2]);
        assert!(!without[2]);
        ever |= with[2];
    }
    assert!(ever);
}

#[test]
fn odd_shapes_are_survived() {
    for shape in [[1, 1, 1], [1, 5, 2], [2, 1, 3]] {
        let made = augment(&always(), sample(shape, 1), [2, 2, 2], &mut stream(6, "augment", 0, 0));
        assert_eq!(made.image.dim(), (1, 2, 2, 2));
        assert!(made.image.iter().all(|value| value.is_finite()), "{shape:?}");
    }
    let config = GammaConfig { probability: 1.0, gamma: [1.3, 1.3] };
    let drawn = gamma::draw(&config, false, 3, &mut stream(7, "augment", 0, 0)).unwrap();
    assert_eq!(drawn.gamma, [1.3; 3]);
}

#[test]
fn the_bits_are_the_same_on_every_platform() {
    // recorded on x86-64 Linux; integers only go in, so any difference is the augmentation's. A change of what is drawn
    // or computed changes this digest and with it every run: then it is to be recorded anew, and said in the changelog.
    let config = always();
    let [z, y, x] = source_size(&config, PATCH);
    let value = |(c, z, y, x): (usize, usize, usize, usize)| ((c * 31 + z * 17 + y * 13 + x * 7) % 64) as f32 / 8.0;
    let label = |(z, y, x): (usize, usize, usize)| ((z / 4 + y / 5 + x / 3) % 3) as u16;
    let original = Sample {
        image: Array4::from_shape_fn((2, z, y, x), value),
        label: ndarray::Array3::from_shape_fn((z, y, x), label),
    };
    let mut bytes = Vec::new();
    for number in 0..4 {
        let made = augment(&config, original.clone(), PATCH, &mut stream(5, "augment", 0, number));
        bytes.extend(made.image.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(made.label.iter().flat_map(|label| label.to_le_bytes()));
    }
    assert_eq!(voxfit::files::sha256_hex(&bytes), "affe5c8fc7d2eda4956e3dec1716623ef815c3f9f93dc18708bff6730df4b621");
}
