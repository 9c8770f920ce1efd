//! A small network and samples for it, all from formulas, for the tests of a training step.
#![allow(dead_code, reason = "each test takes what it needs")]
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use ndarray::{Array3, Array4};
use voxfit::config::Recompute;
use voxfit::network::plan::{Kind, NetworkPlan, Norm, Stage};
use voxfit::network::{UNet, host};
use voxfit::patch::Sample;
use voxfit::ranks::Ranks;
use voxfit::train::step::{StepGradient, StepSettings, gradient};

/// Voxels of a sample, z, y, x.
pub const SIZE: [usize; 3] = [8, 12, 16];
pub const CHANNELS: usize = 2;

/// Four stages: two heads count. Kernels and strides of every kind.
pub fn plan(norm: Norm) -> NetworkPlan {
    let stage = |features, kernel, stride| Stage { features, kernel, stride, norm };
    NetworkPlan {
        kind: Kind::Plain,
        in_channels: CHANNELS,
        classes: 3,
        stages: vec![
            stage(4, [1, 3, 3], [1, 1, 1]),
            stage(8, [3, 3, 3], [2, 2, 2]),
            stage(12, [3, 1, 3], [1, 2, 2]),
            stage(12, [3, 3, 3], [2, 1, 2]),
        ],
        deep_supervision: true,
    }
}

/// The same with the residual encoder: blocks with and without averages and convolutions beside them.
pub fn residual_plan(norm: Norm) -> NetworkPlan {
    NetworkPlan { kind: Kind::ResEnc, ..plan(norm) }
}

/// The network of [`plan`] with every parameter from a formula of its place; see tests/network/reference.py.
pub fn network(norm: Norm) -> UNet {
    network_of(&plan(norm))
}

pub fn network_of(plan: &NetworkPlan) -> UNet {
    let mut network = UNet::new(plan, 0, &Device::flex());
    for (number, parameter) in network.parameters.iter_mut().enumerate() {
        let fan_in = match parameter.shape[..] {
            // [in, out, kernel] of a transposed convolution, [out, in, kernel] of the others.
            [first, second, z, y, x] => {
                (if parameter.name.ends_with(".up.weight") { first } else { second }) as f64 * (z * y * x) as f64
            }
            _ => 0.0,
        };
        let values: Vec<f32> = (0..parameter.value.dims()[0])
            .map(|i| {
                let wave = (12.9898 * i as f64 + 0.7 * number as f64).sin();
                (match parameter.shape.len() {
                    5 => 2.0 * wave / fan_in.sqrt(),
                    _ if parameter.name.ends_with(".gamma") => 1.0 + 0.2 * wave,
                    _ => 0.1 * wave,
                }) as f32
            })
            .collect();
        let length = values.len();
        parameter.value = Tensor::from_data(TensorData::new(values, [length]), &Device::flex());
    }
    network
}

/// Sample `number` of any step, three classes.
pub fn sample(number: usize) -> Sample {
    let [z, y, x] = SIZE;
    let first = number * CHANNELS * z * y * x;
    let values = (first..first + CHANNELS * z * y * x)
        .map(|i| ((0.37 * i as f64).sin() + 0.5 * (0.011 * i as f64).cos()) as f32)
        .collect();
    Sample {
        image: Array4::from_shape_vec((CHANNELS, z, y, x), values).unwrap(),
        label: Array3::from_shape_fn((z, y, x), |(z, y, x)| ((number + z / 3 + y / 4 + x / 5) % 3) as u16),
    }
}

/// No class of the network.
pub const IGNORE: u16 = 7;

/// Samples of which ever other parts are labelled: all of the first, none of the fourth.
pub fn partly_labelled(count: usize) -> Vec<Sample> {
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

pub fn settings(effective: usize, micro: usize, activations: FloatDType) -> StepSettings {
    StepSettings {
        effective,
        micro,
        recompute: Recompute::None,
        patch: SIZE,
        activations,
        ignore: None,
        regions: None,
        batch_dice: false,
        loss_scale: 1.0,
        device: Device::flex(),
        ranks: Ranks::alone(),
    }
}

/// The step's gradient over `samples`.
pub fn step(network: &UNet, settings: &StepSettings, samples: &[Sample]) -> StepGradient {
    gradient(network, settings, |range: std::ops::Range<usize>| {
        Ok::<_, std::convert::Infallible>(samples[range].to_vec())
    })
    .unwrap()
}

/// All gradients behind one another.
pub fn flat(step: &StepGradient) -> Vec<f32> {
    step.gradients.iter().flat_map(host).collect()
}

/// `[batch, channel, z, y, x]`.
pub fn images(samples: &[Sample]) -> Tensor<5> {
    let values: Vec<f32> = samples.iter().flat_map(|sample| sample.image.iter().copied()).collect();
    let [z, y, x] = SIZE;
    Tensor::from_data(TensorData::new(values, [samples.len(), CHANNELS, z, y, x]), &Device::flex())
}

/// A tensor's values in f32, on the host.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().convert::<f32>().try_into_vec().unwrap()
}

/// ||a - b|| / ||b||.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    let norm: f64 = b.iter().map(|b| f64::from(*b).powi(2)).sum();
    (difference / norm).sqrt()
}

/// References are float64, ours is f32 with some twenty to forty layers, whose roundings (6e-8 each) grow to some 1e-6 of a
/// tensor's norm; LeakyReLU's kink adds the few voxels whose sign differs.
pub const TOLERANCE: f64 = 1e-4;

/// A tensor's norm, and its product with sin(0.9 i): that sees an order of axes or of channels that is not PyTorch's, which
/// norms would not.
pub fn figures(values: &[f32]) -> (f64, f64) {
    let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let product = values.iter().enumerate().map(|(i, v)| f64::from(*v) * (0.9 * i as f64).sin()).sum();
    (norm, product)
}

/// Both figures within the tolerance of the norm, or of `floor` where the norm is less.
pub fn close(what: &str, values: &[f32], expected: (f64, f64), floor: f64) {
    let found = figures(values);
    let allowed = TOLERANCE * expected.0.max(floor);
    // The product's error is at most the norm of the difference times the wave's norm, sqrt(n / 2).
    let spread = (values.len() as f64 / 2.0).sqrt().max(1.0);
    assert!((found.0 - expected.0).abs() <= allowed, "{what}: norm {found:?}, expected {expected:?}");
    assert!((found.1 - expected.1).abs() <= allowed * spread, "{what}: product {found:?}, expected {expected:?}");
}

/// Loss and gradients of a step against those of PyTorch. A bias in front of a norm has no gradient but rounding: compared
/// on the scale of a typical gradient.
pub fn step_is(network: &UNet, step: &StepGradient, loss: f64, gradients: &[(f64, f64)]) {
    assert!((step.loss - loss).abs() < 1e-5, "loss {}, expected {loss}", step.loss);
    assert_eq!(network.parameters.len(), gradients.len());
    for ((parameter, gradient), expected) in network.parameters.iter().zip(&step.gradients).zip(gradients) {
        close(&parameter.name, &host(gradient), *expected, 0.1);
    }
}
