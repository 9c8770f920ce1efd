use half::{bf16, f16};

use super::*;

/// Logits between -6 and 6 and labels, from a counter; about one voxel in five has the label `classes`.
fn case<E: Element>(shape: &LossShape<'_>) -> (Vec<E>, Vec<u16>) {
    let mix = |i: usize, seed: u64| {
        let mut z = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 11
    };
    let unit = |bits: u64| bits as f64 / (1_u64 << 53) as f64;
    let logits = (0..shape.batch * shape.classes * shape.voxels)
        .map(|i| E::from_f32((unit(mix(i, 1)) * 12.0 - 6.0) as f32))
        .collect();
    let labels = (0..shape.batch * shape.voxels)
        .map(|i| {
            let ignored = shape.ignore.is_some() && unit(mix(i, 2)) < 0.2;
            if ignored { shape.classes as u16 } else { (mix(i, 3) % shape.classes as u64) as u16 }
        })
        .collect();
    (logits, labels)
}

/// The loss of one sample in plain `f64`: value, cross-entropy, Dice per class, and the gradient of the logits.
struct Reference {
    loss: f64,
    cross_entropy: f64,
    dice: Vec<f64>,
    gradient: Vec<f64>,
}

fn reference(logits: &[f64], labels: &[u16], shape: &LossShape<'_>, weights: Weights) -> Reference {
    let (classes, voxels) = (shape.classes, shape.voxels);
    let mut p = vec![0.0; classes * voxels];
    let counts: Vec<bool> = labels.iter().map(|&label| Some(label) != shape.ignore).collect();
    let is = |v: usize, c: usize| f64::from(u8::from(labels[v] == c as u16));
    let mut cross_entropy = 0.0;
    for v in (0..voxels).filter(|&v| counts[v]) {
        let largest = (0..classes).map(|c| logits[c * voxels + v]).fold(f64::MIN, f64::max);
        let sum: f64 = (0..classes).map(|c| libm::exp(logits[c * voxels + v] - largest)).sum();
        for c in 0..classes {
            p[c * voxels + v] = libm::exp(logits[c * voxels + v] - largest) / sum;
        }
        cross_entropy += libm::log(sum) + largest - logits[usize::from(labels[v]) * voxels + v];
    }
    let labelled: Vec<usize> = (0..voxels).filter(|&v| counts[v]).collect();
    let sums = |c: usize| {
        let i: f64 = labelled.iter().map(|&v| p[c * voxels + v] * is(v, c)).sum();
        let whole: f64 = labelled.iter().map(|&v| p[c * voxels + v] + is(v, c)).sum();
        (2.0 * i + 1e-5, whole + 1e-5)
    };
    let dice: Vec<f64> = (0..classes).map(|c| sums(c).0 / sums(c).1).collect();
    let (ce, dw) = (f64::from(weights.ce), f64::from(weights.dice) / (classes - 1) as f64);
    let mut gradient = vec![0.0; classes * voxels];
    for &v in &labelled {
        let q: Vec<f64> = (0..classes)
            .map(|c| {
                let (above, below) = sums(c);
                if c == 0 { 0.0 } else { -dw * (2.0 * is(v, c) * below - above) / (below * below) }
            })
            .collect();
        let mean: f64 = (0..classes).map(|c| p[c * voxels + v] * q[c]).sum();
        for c in 0..classes {
            let p = p[c * voxels + v];
            gradient[c * voxels + v] = p * (q[c] - mean) + ce * (p - is(v, c));
        }
    }
    Reference { loss: ce * cross_entropy - dw * dice[1..].iter().sum::<f64>(), cross_entropy, dice, gradient }
}

fn shapes() -> Vec<LossShape<'static>> {
    let shape = |batch, classes, voxels, ignore| LossShape { batch, classes, voxels, ignore, regions: None };
    vec![
        shape(1, 2, 1, None),
        shape(2, 3, 15, Some(3)),
        shape(3, 2, 64, None),
        shape(2, 5, 211, Some(5)),
        shape(1, 4, 4096 + 33, Some(4)),
        shape(2, 128, 77, None),
    ]
}

const WEIGHTS: Weights = Weights { ce: 0.01, dice: 0.5 };

fn wide<E: Element>(values: &[E]) -> Vec<f64> {
    values.iter().map(|v| f64::from(v.to_f32())).collect()
}

fn run<E: Element>(
    isa: Isa,
    logits: &[E],
    labels: &[u16],
    shape: &LossShape<'_>,
    upstream: f32,
) -> (Vec<SampleSums>, Vec<E>) {
    let sums = forward_on(isa, logits, labels, shape).unwrap();
    let samples: Vec<_> = sums.iter().map(|sums| SampleGradient::new(sums, WEIGHTS, upstream)).collect();
    let mut gradient = vec![E::from_f32(f32::NAN); logits.len()];
    backward_on(isa, logits, labels, shape, &samples, &mut gradient);
    (sums, gradient)
}

fn against_reference<E: Element>(tolerance: f64) {
    for shape in shapes() {
        let (logits, labels) = case::<E>(&shape);
        let (sums, gradient) = run(Isa::Portable, &logits, &labels, &shape, 3.0);
        for isa in Isa::available() {
            let other = run(isa, &logits, &labels, &shape, 3.0);
            assert_eq!((&other.0, bytemuck::cast_slice::<E, u8>(&other.1)), (&sums, bytemuck::cast_slice(&gradient)));
        }
        let per_sample = shape.classes * shape.voxels;
        for (sample, sums) in sums.iter().enumerate() {
            let range = sample * per_sample..(sample + 1) * per_sample;
            let labels = &labels[sample * shape.voxels..][..shape.voxels];
            let expected = reference(&wide(&logits[range.clone()]), labels, &shape, WEIGHTS);
            assert!((sums.cross_entropy - expected.cross_entropy).abs() <= 1e-6 * expected.cross_entropy);
            assert!((sums.loss(WEIGHTS) - expected.loss).abs() <= 1e-6 * (1.0 + expected.loss.abs()));
            assert_eq!(sums.labelled, labels.iter().filter(|&&label| Some(label) != shape.ignore).count());
            for (got, expected) in sums.dice().iter().zip(&expected.dice) {
                assert!((got - expected).abs() <= 1e-6, "{got}, not {expected}");
            }
            for (got, expected) in wide(&gradient[range]).iter().zip(&expected.gradient) {
                // p - 1 has no more digits than p; f16 has none below 2^-24.
                let rounding = 3.0 * f64::from(WEIGHTS.ce) * 3e-7 + if E::NAME == "f16" { 3e-8 } else { 0.0 };
                let room = tolerance * 3.0 * expected.abs() + rounding;
                assert!((got - 3.0 * expected).abs() <= room, "{shape:?}: {got}, not {}", 3.0 * expected);
            }
        }
    }
}

#[test]
fn follows_the_reference_in_f32() {
    against_reference::<f32>(2e-5);
}

#[test]
fn follows_the_reference_in_bf16() {
    against_reference::<bf16>(4e-3);
}

#[test]
fn follows_the_reference_in_f16() {
    against_reference::<f16>(6e-4);
}

#[test]
fn the_reference_gradient_is_the_slope() {
    let shape = LossShape { batch: 1, classes: 3, voxels: 11, ignore: Some(3), regions: None };
    let (logits, labels) = case::<f32>(&shape);
    let logits = wide(&logits);
    let gradient = reference(&logits, &labels, &shape, WEIGHTS).gradient;
    for (i, &expected) in gradient.iter().enumerate() {
        let moved = |by: f64| {
            let mut logits = logits.clone();
            logits[i] += by;
            reference(&logits, &labels, &shape, WEIGHTS).loss
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((slope - expected).abs() < 1e-9, "{i}: {slope}, not {expected}");
    }
}

/// PyTorch 2.11, float64: logits 3 sin(0.37 i) as [2, 3, 7], labels (7 i + i // 2) % 4 as [2, 7], 3 ignored;
/// F.cross_entropy(ignore_index=3, reduction="sum") / labelled - mean of the foreground Dice of softmax and one-hot,
/// both without the ignored voxels: loss, Dice, gradient; and with the Dice of both samples together.
#[test]
fn follows_pytorch() {
    let logits: Vec<f32> = (0..42).map(|i| (3.0 * libm::sin(0.37 * f64::from(i))) as f32).collect();
    let labels: Vec<u8> = (0..14).map(|i| (7 * i + i / 2) % 4).collect();
    let shape = LossShape { batch: 2, classes: 3, voxels: 7, ignore: Some(3), regions: None };
    let sums = forward(&logits, &labels, &shape).unwrap();
    let labelled: usize = sums.iter().map(|sums| sums.labelled).sum();
    let weights = Weights { ce: 1.0 / labelled as f32, dice: 0.5 };
    let loss: f64 = sums.iter().map(|sums| sums.loss(weights)).sum();
    assert!((loss - 1.84856229).abs() < 1e-6, "{loss}");
    let dice: Vec<f64> = sums.iter().flat_map(SampleSums::dice).collect();
    let expected = [0.0833116077, 0.00291264131, 0.126925873, 0.835650928, 0.289725035, 0.723253759];
    assert!(dice.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{dice:?}");

    let samples: Vec<_> = sums.iter().map(|sums| SampleGradient::new(sums, weights, 1.0)).collect();
    let mut gradient = vec![f32::NAN; 42];
    backward(&logits, &labels, &shape, &samples, &mut gradient);
    let expected = [
        -0.0830655083,
        0.0,
        0.0,
        0.101296645,
        0.103728554,
        0.0679314469,
        0.0399566067,
        0.081781842,
        0.0,
        0.0,
        0.00141027254,
        0.000474387832,
        -0.100170536,
        -0.100159478,
        0.00128366631,
        0.0,
        0.0,
        -0.102706918,
        -0.104202942,
        0.0322390887,
        0.0602028708,
        -0.0180465759,
        -0.0382493056,
        0.0,
        0.0,
        0.0135518711,
        0.00756454178,
        0.00454917423,
        0.000599270494,
        0.000320195137,
        0.0,
        0.0,
        0.00151188965,
        0.00655745437,
        -0.138303966,
        0.0174473054,
        0.0379291105,
        0.0,
        0.0,
        -0.0150637608,
        -0.0141219961,
        0.133754791,
    ];
    assert!(gradient.iter().zip(expected).all(|(&a, b)| (f64::from(a) - b).abs() < 1e-7), "{gradient:?}");

    let mut both = sums[0].classes.clone();
    both.iter_mut().zip(&sums[1].classes).for_each(|(a, b)| a.add(b));
    let dice: Vec<f64> = both.iter().map(ClassSums::dice).collect();
    let expected = [0.442439015, 0.0891193577, 0.497381022];
    assert!(dice.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{dice:?}");
    let sample = SampleGradient { ce: weights.ce, dice: DiceSlopes::new(&both, 1.0) };
    backward(&logits, &labels, &shape, &[sample.clone(), sample], &mut gradient);
    let expected = [-0.0845963939, 0.0, 0.0, 0.0976410183, 0.0969181751, 0.0637812281];
    assert!(gradient.iter().zip(expected).all(|(&a, b)| (f64::from(a) - b).abs() < 1e-7), "{gradient:?}");
}

#[test]
fn an_unlabelled_sample_gives_nothing() {
    let shape = LossShape { batch: 1, classes: 3, voxels: 21, ignore: Some(255), regions: None };
    let mut logits = vec![1.0_f32; 63];
    logits[5] = f32::NAN;
    let sums = forward(&logits, &[255_u8; 21], &shape).unwrap();
    assert_eq!((sums[0].cross_entropy, sums[0].labelled), (0.0, 0));
    assert_eq!(sums[0].dice(), [1.0; 3]);
    let samples = [SampleGradient::new(&sums[0], WEIGHTS, 1.0)];
    let mut gradient = vec![f32::NAN; 63];
    backward(&logits, &[255_u8; 21], &shape, &samples, &mut gradient);
    assert_eq!(gradient, [0.0; 63]);
}

#[test]
fn a_stranger_among_the_labels_is_refused() {
    let shape = LossShape { batch: 2, classes: 2, voxels: 2, ignore: None, regions: None };
    let error = forward(&[0.0_f32; 8], &[0, 1, 2, -1], &shape).unwrap_err();
    assert_eq!(error, LossError::Label { sample: 1, voxels: 2, classes: 2 });
}

#[test]
fn a_logit_that_is_no_number_shows() {
    let shape = LossShape { batch: 1, classes: 2, voxels: 40, ignore: None, regions: None };
    let mut logits = vec![0.0_f32; 80];
    logits[33] = f32::NAN;
    assert!(forward(&logits, &[0_u8; 40], &shape).unwrap()[0].cross_entropy.is_nan());
    logits[33] = f32::INFINITY;
    assert!(forward(&logits, &[0_u8; 40], &shape).unwrap()[0].cross_entropy.is_nan());
    // Far apart but finite is no trouble.
    logits[33] = -1e30;
    assert!(forward(&logits, &[1_u8; 40], &shape).unwrap()[0].cross_entropy.is_finite());
}

#[test]
fn samples_and_threads_do_not_touch_each_other() {
    let shape = LossShape { batch: 3, classes: 3, voxels: 3 * BLOCK + 5, ignore: Some(3), regions: None };
    let (logits, labels) = case::<bf16>(&shape);
    let all = run(isa(), &logits, &labels, &shape, 1.0);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| run(isa(), &logits, &labels, &shape, 1.0)) == all);
    }
    let per_sample = 3 * shape.voxels;
    for sample in 0..3 {
        let range = sample * per_sample..(sample + 1) * per_sample;
        let labels = &labels[sample * shape.voxels..][..shape.voxels];
        let alone = run(isa(), &logits[range.clone()], labels, &LossShape { batch: 1, ..shape }, 1.0);
        assert!(alone.0[0] == all.0[sample] && alone.1 == all.1[range]);
    }
}

/// The loss and its gradient where regions are learnt, from their definition in plain `f64`.
fn region_reference(logits: &[f64], labels: &[u16], shape: &LossShape<'_>, weights: Weights) -> (f64, Vec<f64>) {
    let (voxels, regions) = (shape.voxels, shape.regions.unwrap());
    let (ce, dice_weight) = (f64::from(weights.ce), f64::from(weights.dice) / regions.len() as f64);
    let (mut loss, mut gradient) = (0.0, vec![0.0; logits.len()]);
    let counted: Vec<usize> = (0..voxels).filter(|&v| Some(labels[v]) != shape.ignore).collect();
    for (region, values) in regions.iter().enumerate() {
        let p = |v: usize| 1.0 / (1.0 + libm::exp(-logits[region * voxels + v]));
        let t = |v: usize| f64::from(u8::from(values.contains(&labels[v])));
        let above = 2.0 * counted.iter().map(|&v| p(v) * t(v)).sum::<f64>() + 1e-5;
        let below = counted.iter().map(|&v| p(v) + t(v)).sum::<f64>() + 1e-5;
        loss -= dice_weight * above / below;
        for &v in &counted {
            let x = logits[region * voxels + v];
            loss += ce * (libm::log1p(libm::exp(-x)) + (1.0 - t(v)) * x);
            let q = -dice_weight * (2.0 * t(v) * below - above) / (below * below);
            gradient[region * voxels + v] = p(v) * (1.0 - p(v)) * q + ce * (p(v) - t(v));
        }
    }
    (loss, gradient)
}

fn regions_follow_the_reference<E: Element>(tolerance: f64) {
    let overlapping = [vec![1, 2, 3], vec![2, 3], vec![3]];
    let one = [vec![1]];
    for (regions, voxels, ignore) in [
        (&overlapping[..], 211, None),
        (&overlapping[..], 4096 + 33, Some(4)),
        (&one[..], 77, Some(2)),
        (&one[..], 1, None),
    ] {
        let values = 1 + regions.len();
        let shape = LossShape { batch: 2, classes: regions.len(), regions: Some(regions), voxels, ignore };
        let (_, labels) = case::<E>(&LossShape { classes: values, regions: None, ..shape });
        let (logits, _) = case::<E>(&LossShape { regions: None, ..shape });
        let (sums, gradient) = run(Isa::Portable, &logits, &labels, &shape, 3.0);
        for isa in Isa::available() {
            let other = run(isa, &logits, &labels, &shape, 3.0);
            assert_eq!((&other.0, bytemuck::cast_slice::<E, u8>(&other.1)), (&sums, bytemuck::cast_slice(&gradient)));
        }
        let per_sample = shape.classes * shape.voxels;
        for (sample, sums) in sums.iter().enumerate() {
            let range = sample * per_sample..(sample + 1) * per_sample;
            let labels = &labels[sample * shape.voxels..][..shape.voxels];
            let (loss, expected) = region_reference(&wide(&logits[range.clone()]), labels, &shape, WEIGHTS);
            assert!(
                (sums.loss(WEIGHTS) - loss).abs() <= 1e-6 * (1.0 + loss.abs()),
                "{}, not {loss}",
                sums.loss(WEIGHTS)
            );
            assert_eq!(sums.labelled, labels.iter().filter(|&&label| Some(label) != ignore).count());
            for (got, expected) in wide(&gradient[range]).iter().zip(&expected) {
                let rounding = 3.0 * f64::from(WEIGHTS.ce) * 3e-7;
                let room = tolerance * 3.0 * expected.abs() + rounding;
                assert!((got - 3.0 * expected).abs() <= room, "{shape:?}: {got}, not {}", 3.0 * expected);
            }
        }
    }
}

#[test]
fn regions_follow_the_reference_in_f32() {
    regions_follow_the_reference::<f32>(2e-5);
}

#[test]
fn regions_follow_the_reference_in_bf16() {
    regions_follow_the_reference::<bf16>(4e-3);
}

/// Logits beyond what a sigmoid tells from 0 and 1 keep their slope; what is no number shows.
#[test]
fn regions_of_extreme_logits() {
    let regions = [vec![1_u16]];
    let shape = LossShape { batch: 1, classes: 1, regions: Some(&regions), voxels: 20, ignore: None };
    let mut logits = vec![0.0_f32; 20];
    logits[3] = 1e30;
    logits[4] = -1e30;
    let sums = &forward(&logits, &[0_u8; 20], &shape).unwrap()[0];
    assert!(sums.cross_entropy.is_finite() && sums.cross_entropy > 9e29, "{}", sums.cross_entropy);
    logits[3] = f32::NAN;
    assert!(forward(&logits, &[0_u8; 20], &shape).unwrap()[0].cross_entropy.is_nan());
    let error = forward(&[0.0_f32; 20], &[2_u8; 20], &shape).unwrap_err();
    assert_eq!(error, LossError::Label { sample: 0, voxels: 20, classes: 1 });
}
