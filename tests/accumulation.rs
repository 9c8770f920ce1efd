//! One effective batch gives one gradient, however it is cut into micro-batches and on however many threads.
mod small_net;

use burn::tensor::FloatDType;
use small_net::{IGNORE, flat, images, network, partly_labelled, relative_error, sample, settings, step, values};
use voxfit::config::Recompute;
use voxfit::network::plan::Norm;
use voxfit::network::{BatchStatistics, Mode, UNet, host};
use voxfit::patch::Sample;
use voxfit::train::step::{StepGradient, StepSettings};

const NORMS: [Norm; 2] = [Norm::Instance, Norm::Group { groups: 2 }];

fn with_ignore(effective: usize, micro: usize) -> StepSettings {
    StepSettings { ignore: Some(IGNORE), ..settings(effective, micro, FloatDType::F32) }
}

/// The first difference in bits, by parameter's name; `None` where there is none.
fn first_difference(network: &UNet, a: &StepGradient, b: &StepGradient) -> Option<String> {
    let pairs = a.gradients.iter().map(host).zip(b.gradients.iter().map(host));
    network.parameters.iter().zip(pairs).find_map(|(parameter, (a, b))| {
        let differ = a.iter().zip(&b).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        let error = relative_error(&a, &b);
        (differ > 0).then(|| format!("{}: {differ} of {} values, relative error {error:e}", parameter.name, a.len()))
    })
}

#[test]
fn micro_batches_give_the_gradient_of_the_whole() {
    let samples = partly_labelled(5);
    for norm in NORMS {
        let network = network(norm);
        let whole = step(&network, &with_ignore(5, 5), &samples);
        let expected = flat(&whole);
        assert!(expected.iter().any(|value| *value != 0.0) && expected.iter().all(|value| value.is_finite()));
        for micro in [1, 2, 3, 4] {
            let found = step(&network, &with_ignore(5, micro), &samples);
            let error = relative_error(&flat(&found), &expected);
            println!("{norm:?}: 5 samples as micro-batches of {micro}: relative error {error:e}");
            assert!(error < 1e-5, "{norm:?}, micro-batches of {micro}: {error:e}");
            // More than asked: on the processor each sample is summed alone, in order.
            assert_eq!(first_difference(&network, &found, &whole), None, "{norm:?}, micro-batches of {micro}");
            assert_eq!(found.loss, whole.loss, "{norm:?}, micro-batches of {micro}");
        }
    }
}

/// In bf16 too: each sample's activations are rounded alike wherever it stands.
#[test]
fn micro_batches_give_the_same_bits_in_bf16() {
    let samples = partly_labelled(3);
    let network = network(Norm::Group { groups: 2 });
    let of = |micro| {
        let settings = StepSettings { activations: FloatDType::BF16, ..with_ignore(3, micro) };
        step(&network, &settings, &samples)
    };
    let whole = of(3);
    assert_eq!(first_difference(&network, &of(1), &whole), None);
    assert_eq!(first_difference(&network, &of(2), &whole), None);
}

/// What is computed again has the same bits, and so has what is left of it: gradients, loss, and what batch norms remember.
#[test]
fn blocks_computed_again_give_the_same_bits() {
    let samples = partly_labelled(3);
    for norm in [Norm::Instance, Norm::Group { groups: 2 }, Norm::Batch] {
        for activations in [FloatDType::F32, FloatDType::BF16, FloatDType::F16] {
            let mut network = network(norm);
            let mut of = |recompute| {
                let settings = StepSettings { activations, recompute, ..with_ignore(3, 2) };
                let found = step(&network, &settings, &samples);
                network.remember(&found.statistics);
                let remembered: Vec<_> = network.buffers.iter().map(|buffer| buffer.values.clone()).collect();
                network.buffers.iter_mut().for_each(|buffer| buffer.values.fill(0.5));
                (found, remembered)
            };
            of(Recompute::None);
            let (whole, remembered) = of(Recompute::None);
            let (again, remembered_again) = of(Recompute::Blocks);
            assert_eq!(first_difference(&network, &again, &whole), None, "{norm:?}, {activations:?}");
            assert_eq!(again.loss, whole.loss, "{norm:?}, {activations:?}");
            assert_eq!(remembered_again, remembered, "{norm:?}, {activations:?}");
        }
    }
}

/// Why a batch norm of few samples is swapped for another: its gradient depends on the micro-batch.
#[test]
fn batch_norm_depends_on_the_micro_batch() {
    let samples: Vec<Sample> = (0..4).map(sample).collect();
    let network = network(Norm::Batch);
    let of = |micro| flat(&step(&network, &settings(4, micro, FloatDType::F32), &samples));
    let error = relative_error(&of(1), &of(4));
    println!("batch norm: 4 samples one by one: relative error {error:e}");
    assert!(error > 1e-3, "{error:e}");
}

/// Cross-entropy over all labelled voxels of the batch minus mean Dice of its samples, in f64.
fn defined_loss(network: &UNet, samples: &[Sample]) -> f64 {
    let heads = network.forward(images(samples).autodiff(), Mode::Train(&mut BatchStatistics::default()));
    let strides = [[1, 1, 1], [2, 2, 2]];
    let weights = [2.0 / 3.0, 1.0 / 3.0];
    let mut loss = 0.0;
    for ((head, stride), weight) in heads.iter().zip(strides).zip(weights) {
        let [batch, classes, z, y, x] = head.dims();
        let (logits, voxels) = (values(head), z * y * x);
        let (mut entropy, mut labelled, mut dice) = (0.0, 0.0, 0.0);
        for (number, sample) in samples.iter().enumerate() {
            let mut sums = vec![[0.0f64; 2]; classes];
            for voxel in 0..voxels {
                let at = [voxel / (y * x), voxel / x % y, voxel % x];
                let label = sample.label[[at[0] * stride[0], at[1] * stride[1], at[2] * stride[2]]];
                if label == IGNORE {
                    continue;
                }
                let of = |class: usize| f64::from(logits[(number * classes + class) * voxels + voxel]);
                let total: f64 = (0..classes).map(|class| of(class).exp()).sum();
                labelled += 1.0;
                entropy += total.ln() - of(usize::from(label));
                for (class, sums) in sums.iter_mut().enumerate() {
                    let (p, hit) = (of(class).exp() / total, f64::from(usize::from(label) == class));
                    *sums = [sums[0] + p * hit, sums[1] + p + hit];
                }
            }
            let dices = sums[1..].iter().map(|[both, sum]| (2.0 * both + 1e-5) / (sum + 1e-5));
            dice += dices.sum::<f64>() / (classes - 1) as f64;
        }
        loss += weight * (entropy / labelled - dice / batch as f64);
    }
    loss
}

#[test]
fn loss_is_the_definition_s_over_the_whole_batch() {
    let samples = partly_labelled(5);
    let network = network(Norm::Instance);
    let expected = defined_loss(&network, &samples);
    for micro in [1, 2, 5] {
        let found = step(&network, &with_ignore(5, micro), &samples).loss;
        // Five f32 losses of about 1.
        assert!((found - expected).abs() < 5e-6, "{found}, expected {expected}");
    }
}

/// The mean of micro-batches' own means, which much software takes for the whole's, is something else as soon as
/// micro-batches have unlike numbers of labelled voxels (huggingface/transformers#24725 is this for tokens).
#[test]
fn the_mean_of_means_is_another_gradient() {
    let samples = partly_labelled(4);
    let network = network(Norm::Instance);
    let expected = flat(&step(&network, &with_ignore(4, 2), &samples));
    let halves = [0..2, 2..4].map(|range| flat(&step(&network, &with_ignore(2, 2), &samples[range])));
    let mean: Vec<f32> = halves[0].iter().zip(&halves[1]).map(|(a, b)| (a + b) / 2.0).collect();
    let error = relative_error(&mean, &expected);
    println!("mean of two micro-batches' means: relative error {error:e}");
    assert!(error > 1e-2, "{error:e}");
}

/// A batch without any label at all: nothing to learn, nothing that is not a number.
#[test]
fn a_batch_without_labels_has_no_gradient() {
    let mut samples = vec![sample(0), sample(1)];
    samples.iter_mut().for_each(|sample| sample.label.fill(IGNORE));
    let step = step(&network(Norm::Instance), &with_ignore(2, 1), &samples);
    assert!(flat(&step).iter().all(|value| *value == 0.0));
    // Dice of what is nowhere is 1.
    assert!((step.loss + 1.0).abs() < 1e-6, "{}", step.loss);
}

#[test]
fn threads_do_not_change_a_bit() {
    let of = |threads: usize, norm: Norm, activations: FloatDType| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let settings = StepSettings { activations, ..with_ignore(2, 2) };
            step(&network(norm), &settings, &partly_labelled(2))
        })
    };
    for norm in [Norm::Instance, Norm::Group { groups: 2 }, Norm::Batch] {
        for activations in [FloatDType::F32, FloatDType::BF16] {
            let (one, two) = (of(1, norm, activations), of(2, norm, activations));
            assert_eq!(first_difference(&network(norm), &one, &two), None, "{norm:?} {activations:?}");
        }
    }
}
