//! Updates, clipping and schedule against torch.
//!
//! Values were printed by torch in float64 from this recipe, with `a = [0.5, -1.25, 2]`, `b = [[3, -0.1]]`:
//! ```python
//! for s in range(5):
//!     a.grad = torch.sin(1.7 * torch.arange(3.) + s); b.grad = 0.01 * torch.cos(2.3 * torch.arange(2.) + 0.5 * s).view(1, 2)
//!     optimizer.param_groups[0]["lr"] = 0.01 * (1 - s / 5) ** 0.9
//!     optimizer.step(); print(a.tolist() + b.flatten().tolist())
//! ```
use burn::tensor::{Device, Tensor, TensorData};
use voxfit::config::{OptimizerName, Schedule};
use voxfit::network::Parameter;
use voxfit::train::optimizer::{Optimizer, clip_factor, global_norm, learning_rate};

fn tensor(values: Vec<f32>) -> Tensor<1> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), &Device::flex())
}

fn parameters() -> Vec<Parameter> {
    vec![
        Parameter::new("a".into(), vec![3], vec![0.5, -1.25, 2.0], &Device::flex()),
        Parameter::new("b".into(), vec![1, 2], vec![3.0, -0.1], &Device::flex()),
    ]
}

fn gradients(step: usize) -> Vec<Tensor<1>> {
    let a = (0..3).map(|i| (1.7 * i as f64 + step as f64).sin() as f32).collect();
    let b = (0..2).map(|i| (0.01 * (2.3 * i as f64 + 0.5 * step as f64).cos()) as f32).collect();
    vec![tensor(a), tensor(b)]
}

fn flat(parameters: &[Parameter]) -> Vec<f32> {
    parameters.iter().flat_map(Parameter::values).collect()
}

fn follows(rule: OptimizerName, weight_decay: f64, expected: [[f64; 5]; 5]) {
    let mut optimizer = Optimizer::new(rule, weight_decay);
    let mut parameters = parameters();
    for (step, expected) in expected.iter().enumerate() {
        optimizer.update(&mut parameters, gradients(step), 1.0, learning_rate(Schedule::Poly, 0.01, step as u64, 5, 0));
        for (found, expected) in flat(&parameters).iter().zip(expected) {
            // Five roundings of numbers below 4, in f32.
            assert!((f64::from(*found) - expected).abs() < 1.5e-6, "step {step}: {found}, expected {expected}");
        }
    }
    assert_eq!(optimizer.updates, 5);
}

/// `torch.optim.SGD([a, b], momentum=0.99, nesterov=True, weight_decay=W)`.
#[test]
fn sgd_is_torchs() {
    follows(
        OptimizerName::Sgd,
        3e-5,
        [
            [0.499999702, -1.269733383, 2.005084074, 2.999799209, -0.099867351],
            [0.486300831, -1.284640781, 2.022622829, 2.999573981, -0.099660472],
            [0.469666742, -1.286702844, 2.039786664, 2.999388268, -0.099437178],
            [0.460949135, -1.28169628, 2.04721273, 2.999277509, -0.099257547],
            [0.460190418, -1.278791189, 2.047221939, 2.999239637, -0.0991619],
        ],
    );
    // A decay that shows.
    follows(
        OptimizerName::Sgd,
        0.5,
        [
            [0.495025, -1.25729663, 1.985185268, 2.969951, -0.098872411],
            [0.475292747, -1.256959952, 1.978549103, 2.933527096, -0.097459934],
            [0.452609281, -1.243405728, 1.97101357, 2.896532017, -0.096012089],
            [0.438791075, -1.224970065, 1.957159823, 2.864853508, -0.094783515],
            [0.434827036, -1.213523119, 1.943596837, 2.844740002, -0.094021475],
        ],
    );
}

/// `torch.optim.AdamW([a, b], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.03)`.
#[test]
fn adamw_is_torchs() {
    follows(
        OptimizerName::Adamw,
        0.03,
        [
            [0.49985, -1.259625, 2.0094, 2.98910001, -0.089970015],
            [0.493639902, -1.266759618, 2.016207137, 2.980231006, -0.081813089],
            [0.488118787, -1.268728131, 2.021742147, 2.973650717, -0.075487097],
            [0.4846993, -1.267896805, 2.024590372, 2.969717216, -0.071117289],
            [0.484031863, -1.26709757, 2.02484906, 2.9683237, -0.068897196],
        ],
    );
}

/// Put back after two updates, it goes on as if nothing had been.
#[test]
fn a_restored_optimizer_goes_on_with_the_same_bits() {
    for rule in [OptimizerName::Sgd, OptimizerName::Adamw] {
        let (mut first, mut parameters) = (Optimizer::new(rule, 0.03), parameters());
        for step in 0..2 {
            first.update(&mut parameters, gradients(step), 1.0, 0.01);
        }
        assert!(first.state().iter().all(|tensors| tensors.len() == first.state_names().len()));
        let mut second = Optimizer::new(rule, 0.03);
        let mut restored: Vec<Parameter> = parameters
            .iter()
            .map(|p| Parameter::new(p.name.clone(), p.shape.clone(), p.values(), &Device::flex()))
            .collect();
        second.restore(&restored, first.state(), first.updates);
        for step in 2..4 {
            first.update(&mut parameters, gradients(step), 1.0, 0.01);
            second.update(&mut restored, gradients(step), 1.0, 0.01);
        }
        assert_eq!(flat(&parameters), flat(&restored), "{rule:?}");
        assert_eq!(first.state(), second.state(), "{rule:?}");
    }
}

/// The average of the values above by TensorFlow's `ExponentialMovingAverage(0.3, num_updates)`: in f64, from the recipe
/// `d = min(0.3, (1 + n) / (10 + n)); average = d * average + (1 - d) * value` with n from 1.
#[test]
fn averages_follow_the_values() {
    let mut optimizer = Optimizer::new(OptimizerName::Adamw, 0.03).averaging(0.3);
    let mut parameters = parameters();
    let mut expected: Vec<f64> = flat(&parameters).into_iter().map(f64::from).collect();
    for step in 0..5 {
        let rate = learning_rate(Schedule::Poly, 0.01, step as u64, 5, 0);
        optimizer.update(&mut parameters, gradients(step), 1.0, rate);
        let decay = [2.0 / 11.0, 3.0 / 12.0, 0.3, 0.3, 0.3][step];
        let values = flat(&parameters);
        expected.iter_mut().zip(&values).for_each(|(a, v)| *a = decay * *a + (1.0 - decay) * f64::from(*v));
        optimizer.exchange_averages(&mut parameters);
        for (found, expected) in flat(&parameters).iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "step {step}: {found}, expected {expected}");
        }
        optimizer.exchange_averages(&mut parameters);
        assert_eq!(flat(&parameters), values, "step {step}");
    }
    // Those of torch, whatever is averaged beside them.
    assert!((f64::from(flat(&parameters)[0]) - 0.484031863).abs() < 1.5e-6);
}

/// `torch.nn.utils.clip_grad_norm_(p, 12.)` with gradients `v[:2]`, `v[2:]`: the norm over both, and what they become.
#[test]
fn clipping_is_torchs() {
    let two = |v: [f32; 4]| vec![tensor(v[..2].to_vec()), tensor(v[2..].to_vec())];
    for (values, norm, clipped) in [
        ([3.0, 4.0, 0.0, 12.0], 13.0, [2.7692305562130346, 3.692307408284046, 0.0, 11.076922224852138]),
        ([0.3, 0.4, 0.0, 1.2], 1.3, [0.3, 0.4, 0.0, 1.2]),
    ] {
        let found = global_norm(&two(values));
        assert!((found - norm).abs() < 1e-6, "{found}, expected {norm}");
        // The first step of SGD with Nesterov momentum 0.99 is 1.99 times the gradient.
        let parameter = || Parameter::new("a".into(), vec![2], vec![0.0; 2], &Device::flex());
        let mut parameters = [parameter(), parameter()];
        let factor = clip_factor(found, 12.0);
        Optimizer::new(OptimizerName::Sgd, 0.0).update(&mut parameters, two(values), factor, 1.0 / 1.99);
        for (found, expected) in flat(&parameters).iter().zip(clipped) {
            assert!((f64::from(*found) + expected).abs() < 2e-6, "{found}, expected -{expected}");
        }
    }
    assert!(!global_norm(&two([1.0, f32::NAN, 0.0, 0.0])).is_finite());
    assert!(!global_norm(&two([1.0, 2.0, 0.0, f32::NEG_INFINITY])).is_finite());
    // Squares beyond f32's range are no overflow.
    assert!((global_norm(&two([3e30, 4e30, 0.0, 0.0])) / 5e30 - 1.0).abs() < 1e-6);
}

/// nnU-Net's PolyLRScheduler: `0.01 * (1 - s / n) ** 0.9`, printed by Python.
#[test]
fn the_schedule_is_nnunets() {
    for (step, expected) in
        [(0, 0.01), (1, 0.009990999549834914), (250, 0.007718895067235705), (999, 1.995262314968881e-05)]
    {
        assert!((learning_rate(Schedule::Poly, 0.01, step, 1000, 0) / expected - 1.0).abs() < 1e-14, "step {step}");
    }
}

/// PyTorch's `CosineAnnealingLR(T_max=n)`, whose closed form `0.01 * (1 + math.cos(math.pi * s / n)) / 2` Python printed.
#[test]
fn other_schedules_are_pytorchs() {
    for (step, expected) in
        [(0, 0.01), (1, 0.009999975326009292), (250, 0.008535533905932738), (999, 2.467399070893439e-08)]
    {
        assert!((learning_rate(Schedule::Cosine, 0.01, step, 1000, 0) / expected - 1.0).abs() < 1e-9, "step {step}");
        assert_eq!(learning_rate(Schedule::Constant, 0.01, step, 1000, 0), 0.01);
    }
}

/// PyTorch's `LinearLR(start_factor=1/4, total_iters=3)` times nnU-Net's schedule: quarters, and then the schedule alone.
#[test]
fn the_learning_rate_rises_in_even_steps() {
    for (step, share) in [(0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (4, 1.0), (999, 1.0)] {
        let (risen, plain) =
            (learning_rate(Schedule::Poly, 0.01, step, 1000, 4), learning_rate(Schedule::Poly, 0.01, step, 1000, 0));
        assert!((risen / plain - share).abs() < 1e-14, "step {step}");
    }
    assert_eq!(learning_rate(Schedule::Poly, 0.01, 0, 1000, 1), 0.01);
}
