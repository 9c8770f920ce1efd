use half::{bf16, f16};

use super::*;

/// Numbers in [-1, 1), from a counter.
fn noise(len: usize, seed: u64) -> Vec<f64> {
    (0..len as u64)
        .map(|i| {
            let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        })
        .collect()
}

/// The norm in plain `f64`.
struct Reference {
    shape: NormShape,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    slope: f64,
}

impl Reference {
    fn members(&self, slot: usize) -> Vec<usize> {
        let rows = (0..self.shape.rows()).filter(|&row| self.shape.slot(row) == slot);
        rows.flat_map(|row| row * self.shape.voxels..(row + 1) * self.shape.voxels).collect()
    }

    /// Mean and variance per slot.
    fn statistics(&self, x: &[f64]) -> Vec<(f64, f64)> {
        (0..self.shape.statistics_len())
            .map(|slot| {
                let members = self.members(slot);
                let mean = members.iter().map(|&i| x[i]).sum::<f64>() / members.len() as f64;
                (mean, members.iter().map(|&i| (x[i] - mean).powi(2)).sum::<f64>() / members.len() as f64)
            })
            .collect()
    }

    /// Normalised x, and z.
    fn normalised(&self, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let statistics = self.statistics(x);
        let at = |i: usize| {
            let row = i / self.shape.voxels;
            let (mean, variance) = statistics[self.shape.slot(row)];
            let xhat = (x[i] - mean) / (variance + 1e-5).sqrt();
            (xhat, xhat * self.gamma[row % self.shape.channels] + self.beta[row % self.shape.channels])
        };
        (0..x.len()).map(at).unzip()
    }

    fn forward(&self, x: &[f64]) -> Vec<f64> {
        self.normalised(x).1.iter().map(|&z| if z > 0.0 { z } else { self.slope * z }).collect()
    }

    /// gx, and per row the gradients of gamma and beta.
    fn backward(&self, x: &[f64], gy: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let (xhat, z) = self.normalised(x);
        let gz: Vec<f64> = gy.iter().zip(&z).map(|(&g, &z)| if z > 0.0 { g } else { self.slope * g }).collect();
        let by_row = |f: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let voxels = self.shape.voxels;
            (0..self.shape.rows()).map(|row| (row * voxels..(row + 1) * voxels).map(f).sum()).collect()
        };
        let gamma = |i: usize| self.gamma[i / self.shape.voxels % self.shape.channels];
        let mut gx = vec![0.0; x.len()];
        for (slot, (_, variance)) in self.statistics(x).into_iter().enumerate() {
            let members = self.members(slot);
            let count = members.len() as f64;
            let plain = members.iter().map(|&i| gz[i] * gamma(i)).sum::<f64>() / count;
            let with_xhat = members.iter().map(|&i| gz[i] * gamma(i) * xhat[i]).sum::<f64>() / count;
            for i in members {
                gx[i] = (gz[i] * gamma(i) - plain - xhat[i] * with_xhat) / (variance + 1e-5).sqrt();
            }
        }
        (gx, by_row(&|i| gz[i] * xhat[i]), by_row(&|i| gz[i]))
    }
}

fn shapes() -> Vec<NormShape> {
    let mut shapes = Vec::new();
    for (batch, channels, voxels) in [(1, 1, 1), (2, 4, 1), (2, 4, 5), (1, 4, 63), (3, 2, 64), (2, 4, 4096 + 77)] {
        shapes.extend([Groups::Instance, Groups::Group(1), Groups::Batch].map(|groups| NormShape {
            batch,
            channels,
            voxels,
            groups,
        }));
        if channels == 4 {
            shapes.push(NormShape { batch, channels, voxels, groups: Groups::Group(2) });
        }
    }
    shapes.push(NormShape { batch: 1, channels: 3, voxels: CHUNK + 4097, groups: Groups::Instance });
    shapes.push(NormShape { batch: 1, channels: 5, voxels: 35, groups: Groups::Group(5) });
    shapes
}

struct Case<E> {
    reference: Reference,
    x: Vec<E>,
    gy: Vec<E>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl<E: Element> Case<E> {
    fn new(shape: NormShape) -> Self {
        let len = shape.rows() * shape.voxels;
        let stored = |seed, factor: f64, term: f64| {
            noise(len, seed).iter().map(|v| E::from_f32((v * factor + term) as f32)).collect::<Vec<_>>()
        };
        let per_channel = |seed| noise(shape.channels, seed).iter().map(|&v| v as f32).collect::<Vec<_>>();
        let (gamma, beta) = (per_channel(1), per_channel(2));
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect();
        let reference = Reference { shape, gamma: wide(&gamma), beta: wide(&beta), slope: f64::from(0.01_f32) };
        Self { reference, x: stored(3, 2.0, 0.5), gy: stored(4, 1.0, 0.1), gamma, beta }
    }

    fn affine(&self) -> Affine<'_> {
        Affine { gamma: &self.gamma, beta: &self.beta, slope: 0.01 }
    }

    fn run(&self, isa: Isa) -> (Statistics, Vec<E>, Vec<E>, AffineGradients) {
        let shape = &self.reference.shape;
        let statistics = statistics_on(isa, &self.x, shape, 1e-5);
        let mut y = vec![E::from_f32(f32::NAN); self.x.len()];
        apply_on(isa, Some(&self.x), shape, &statistics, &self.affine(), &mut y);
        let mut gx = vec![E::from_f32(f32::NAN); self.x.len()];
        let affine = backward_on(isa, &self.x, shape, &statistics, &self.affine(), Some(&self.gy), &mut gx);

        let mut over = self.x.clone();
        apply_on(isa, None, shape, &statistics, &self.affine(), &mut over);
        assert_eq!(bytes(&over), bytes(&y), "in place");
        let mut over = self.gy.clone();
        let again = backward_on(isa, &self.x, shape, &statistics, &self.affine(), None, &mut over);
        assert_eq!(bytes(&over), bytes(&gx), "in place");
        assert_eq!(again, affine);
        (statistics, y, gx, affine)
    }
}

fn bytes<E: Element>(values: &[E]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn wide<E: Element>(values: &[E]) -> Vec<f64> {
    values.iter().map(|v| f64::from(v.to_f32())).collect()
}

/// Within `tolerance` of the expected value or, where that is small, of a tenth of the largest.
fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_close_beside(what, got, expected, tolerance, 1e-3);
}

/// [`assert_close`] for differences of numbers about as large as `terms`.
fn assert_close_beside(what: &str, got: &[f64], expected: &[f64], tolerance: f64, terms: f64) {
    let largest = expected.iter().fold(terms, |a, b| a.max(b.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let room = tolerance * (expected.abs() + 0.1 * largest);
        assert!((got - expected).abs() <= room, "{what}[{i}]: {got}, not {expected}");
    }
}

fn against_reference<E: Element>(tolerance: f64) {
    for shape in shapes() {
        let case = Case::<E>::new(shape);
        let x = wide(&case.x);
        let expected = case.run(Isa::Portable);
        let (statistics, y, gx, affine) = &expected;
        let (means, variances): (Vec<_>, Vec<_>) = case.reference.statistics(&x).into_iter().unzip();
        assert_close("mean", &wide(&statistics.mean), &means, 1e-6);
        assert_close("variance", &wide(&statistics.variance), &variances, 1e-6);
        assert_close("y", &wide(y), &case.reference.forward(&x), tolerance);
        let (ref_gx, ref_gamma, ref_beta) = case.reference.backward(&x, &wide(&case.gy));
        // Groups of one or two values cancel: all of gx is nearly nothing.
        let terms = statistics.rstd.iter().fold(0.0_f64, |a, &rstd| a.max(f64::from(rstd)));
        assert_close_beside("gx", &wide(gx), &ref_gx, tolerance, terms);
        assert_close("gamma", &wide(&affine.gamma), &ref_gamma, 1e-5);
        assert_close("beta", &wide(&affine.beta), &ref_beta, 1e-5);
        for isa in Isa::available() {
            let got = case.run(isa);
            assert_eq!((&got.0, bytes(&got.1), bytes(&got.2), &got.3), (statistics, bytes(y), bytes(gx), affine));
        }
    }
}

#[test]
fn follows_the_reference_in_f32() {
    against_reference::<f32>(2e-5);
}

#[test]
fn follows_the_reference_in_bf16() {
    against_reference::<bf16>(4.1e-3);
}

#[test]
fn follows_the_reference_in_f16() {
    against_reference::<f16>(6e-4);
}

#[test]
fn the_reference_gradient_is_the_slope() {
    for groups in [Groups::Instance, Groups::Group(2), Groups::Batch] {
        let case = Case::<f32>::new(NormShape { batch: 2, channels: 4, voxels: 7, groups });
        let (x, gy) = (wide(&case.x), wide(&case.gy));
        let loss = |x: &[f64]| case.reference.forward(x).iter().zip(&gy).map(|(y, g)| y * g).sum::<f64>();
        let (gx, ..) = case.reference.backward(&x, &gy);
        for (i, &expected) in gx.iter().enumerate() {
            let moved = |by: f64| {
                let mut x = x.clone();
                x[i] += by;
                loss(&x)
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((slope - expected).abs() < 1e-7, "{groups:?} {i}: {slope}, not {expected}");
        }
    }
}

/// PyTorch 2.11, float64: x = 2 sin(0.7 i) + 0.3 as [2, 4, 5], gamma = 1 + 0.25 sin(1.3 c), beta = 0.2 sin(2.1 c),
/// eps 1e-5; F.instance_norm, F.group_norm (2 groups), F.batch_norm (training); F.leaky_relu 0.01; backward of
/// sin(1.9 i). The first six of y, the last six of gx, gamma's and beta's gradients summed over samples.
#[test]
fn follows_pytorch() {
    type Row = (Groups, [f64; 6], [f64; 6], [f64; 4], [f64; 4]);
    let expected: [Row; 3] = [
        (
            Groups::Instance,
            [-0.0157575637, 0.219113873, 1.16982859, 0.829251805, -0.00642437904, 0.902000101],
            [0.0272618576, -0.0447521286, -0.0192117862, 0.665491967, 0.0629111912, -0.664439244],
            [-0.0369266433, -2.69057906, 1.58861178, -1.58790241],
            [0.086193886, -0.995474103, 1.46552947, -0.644229887],
        ),
        (
            Groups::Group(2),
            [-1.28350066e-05, 0.960109162, 1.46934383, 1.28691949, 0.498633152, -0.00478541967],
            [-0.0186538243, -0.052505407, -0.0935727866, 0.407861116, -0.1136284, -0.693221639],
            [0.724975713, -1.11493383, 0.974673592, -0.985356609],
            [1.04443436, -0.921074494, 1.05036216, -0.990681742],
        ),
        (
            Groups::Batch,
            [-0.00616417818, 0.457512911, 1.02635724, 0.822578786, -0.000579822529, 0.0150017382],
            [0.0407222132, 0.018669933, -0.302086783, 0.672754332, 0.193184024, -0.414398707],
            [0.282709619, -1.60340066, 0.923482868, -1.07059211],
            [0.896793335, -0.995474103, 1.05036216, -1.29331982],
        ),
    ];
    let wave = |len: usize, step: f64, factor: f64, term: f64| -> Vec<f32> {
        (0..len).map(|i| (libm::sin(step * i as f64) * factor + term) as f32).collect()
    };
    let (x, gy) = (wave(40, 0.7, 2.0, 0.3), wave(40, 1.9, 1.0, 0.0));
    let (gamma, beta) = (wave(4, 1.3, 0.25, 1.0), wave(4, 2.1, 0.2, 0.0));
    let affine = Affine { gamma: &gamma, beta: &beta, slope: 0.01 };
    for (groups, y_start, gx_end, ggamma, gbeta) in expected {
        let shape = NormShape { batch: 2, channels: 4, voxels: 5, groups };
        let stats = statistics(&x, &shape, 1e-5);
        let (mut y, mut gx) = (vec![0.0_f32; 40], vec![0.0_f32; 40]);
        apply(&x, &shape, &stats, &affine, &mut y);
        let gradients = backward(&x, &shape, &stats, &affine, &gy, &mut gx);
        let over_samples = |g: &[f32]| (0..4).map(|c| f64::from(g[c]) + f64::from(g[c + 4])).collect::<Vec<_>>();
        assert_close("y", &wide(&y[..6]), &y_start, 1e-5);
        assert_close("gx", &wide(&gx[34..]), &gx_end, 1e-5);
        assert_close("gamma", &over_samples(&gradients.gamma), &ggamma, 1e-5);
        assert_close("beta", &over_samples(&gradients.beta), &gbeta, 1e-5);
    }
}

#[test]
fn a_mean_far_from_zero_costs_no_digits() {
    // Deviation about 0.58 on top of 10000: f32 keeps 1/1024 of a unit there; the reference sees the same values.
    let shape = NormShape { batch: 1, channels: 1, voxels: 100_003, groups: Groups::Instance };
    let x: Vec<f32> = noise(shape.voxels, 9).iter().map(|&v| (v + 10_000.0) as f32).collect();
    let reference = Reference { shape, gamma: vec![1.0], beta: vec![0.0], slope: 0.01 };
    let (mean, variance) = reference.statistics(&wide(&x))[0];
    let got = statistics(&x, &shape, 1e-5);
    assert!((f64::from(got.mean[0]) - mean).abs() < 5e-4, "{} not {mean}", got.mean[0]);
    assert!((f64::from(got.variance[0]) / variance - 1.0).abs() < 1e-6, "{} not {variance}", got.variance[0]);
}

#[test]
fn a_constant_has_no_variance() {
    let shape = NormShape { batch: 1, channels: 2, voxels: 4099, groups: Groups::Instance };
    let got = statistics(&vec![0.1_f32; 2 * 4099], &shape, 1e-5);
    assert!(got.variance.iter().all(|&variance| (0.0..1e-12).contains(&variance)), "{:?}", got.variance);
    let infinite = statistics(&vec![f32::INFINITY; 2 * 4099], &shape, 1e-5);
    assert!(infinite.rstd[0].is_nan());
}

#[test]
fn samples_and_threads_do_not_touch_each_other() {
    for groups in [Groups::Instance, Groups::Group(2)] {
        let shape = NormShape { batch: 3, channels: 4, voxels: CHUNK + 333, groups };
        let case = Case::<bf16>::new(shape);
        let all = case.run(isa());
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| case.run(isa()));
        let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap().install(|| case.run(isa()));
        assert!(all.1 == one.1 && all.2 == one.2 && all.3 == one.3 && all.0 == one.0);
        assert!(all.1 == three.1 && all.2 == three.2 && all.3 == three.3 && all.0 == three.0);
        let per_sample = 4 * shape.voxels;
        for sample in 0..3 {
            let part = |values: &[bf16]| values[sample * per_sample..][..per_sample].to_vec();
            let mut alone = Case::<bf16>::new(NormShape { batch: 1, ..shape });
            (alone.x, alone.gy) = (part(&case.x), part(&case.gy));
            let (_, y, gx, affine) = alone.run(isa());
            assert!(y == part(&all.1) && gx == part(&all.2));
            assert_eq!(affine.gamma, all.3.gamma[sample * 4..][..4]);
            assert_eq!(affine.beta, all.3.beta[sample * 4..][..4]);
        }
    }
}

#[test]
fn running_statistics_give_the_affine_map() {
    let shape = NormShape { batch: 2, channels: 2, voxels: 3, groups: Groups::Batch };
    let stats = Statistics::from_running(&[1.0, -1.0], &[4.0, 0.25], 0.0);
    let affine = Affine { gamma: &[2.0, 1.0], beta: &[0.5, 0.0], slope: 0.5 };
    let mut x = [1.0_f32, 3.0, -3.0, -1.0, -0.5, -2.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
    apply_in_place(&mut x, &shape, &stats, &affine);
    assert_eq!(x, [0.5, 2.5, -1.75, 0.0, 1.0, -1.0, 0.5, 0.5, 0.5, 2.0, 2.0, 2.0]);
}
