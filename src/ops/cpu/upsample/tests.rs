use half::{bf16, f16};

use super::*;
use crate::ops::cpu::isa::isa;

/// Numbers in [-1, 1), from a counter.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
        })
        .collect()
}

fn stored<E: Element>(len: usize, seed: u64) -> Vec<E> {
    noise(len, seed).into_iter().map(E::from_f32).collect()
}

fn wide<E: Element>(values: &[E]) -> Vec<f64> {
    values.iter().map(|v| f64::from(v.to_f32())).collect()
}

/// A value of the reference, and the sum of the sizes of its terms.
#[derive(Clone, Copy, Default)]
struct Sum(f64, f64);

impl Sum {
    fn add(&mut self, term: f64) {
        self.0 += term;
        self.1 += term.abs();
    }
}

/// Everything by definition: y, gx, and the gradients of weight and bias over all samples.
fn reference(
    shape: &UpsampleShape,
    x: &[f64],
    w: &[f64],
    bias: &[f64],
    gy: &[f64],
) -> (Vec<Sum>, Vec<Sum>, Vec<Sum>, Vec<Sum>) {
    let [depth, height, width] = shape.size;
    let [kz, ky, kx] = shape.stride;
    let [out_z, out_y, out_x] = shape.output_size();
    let mut y = vec![Sum::default(); gy.len()];
    let (mut gx, mut gw) = (vec![Sum::default(); x.len()], vec![Sum::default(); w.len()]);
    let mut gb = vec![Sum::default(); bias.len()];
    for n in 0..shape.batch {
        for co in 0..shape.outputs {
            for oz in 0..out_z {
                for oy in 0..out_y {
                    for ox in 0..out_x {
                        let out = (((n * shape.outputs + co) * out_z + oz) * out_y + oy) * out_x + ox;
                        let tap = ((oz % kz) * ky + oy % ky) * kx + ox % kx;
                        y[out].add(bias[co]);
                        gb[co].add(gy[out]);
                        for ci in 0..shape.inputs {
                            let voxel = ((oz / kz) * height + oy / ky) * width + ox / kx;
                            let from = (n * shape.inputs + ci) * depth * height * width + voxel;
                            let weight = (ci * shape.outputs + co) * shape.taps() + tap;
                            y[out].add(x[from] * w[weight]);
                            gx[from].add(gy[out] * w[weight]);
                            gw[weight].add(gy[out] * x[from]);
                        }
                    }
                }
            }
        }
    }
    (y, gx, gw, gb)
}

struct Case<E> {
    shape: UpsampleShape,
    x: Vec<E>,
    gy: Vec<E>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl<E: Element> Case<E> {
    fn new(shape: UpsampleShape) -> Self {
        let (x, gy) = (stored(shape.batch * shape.input_len(), 1), stored(shape.batch * shape.output_len(), 2));
        // Weights that the type can hold, so that the reference need not round them.
        let weight = stored::<E>(shape.weight_len(), 3).into_iter().map(E::to_f32).collect();
        Self { shape, x, gy, weight, bias: noise(shape.outputs, 4) }
    }

    fn part(&self) -> Part<'_, E> {
        Part { values: &self.x, channels: self.shape.inputs, maps: None }
    }

    /// y, gx, and the gradients of weight and bias over all samples; y and gx start as NaN.
    fn run(&self, isa: Isa) -> (Vec<E>, Vec<E>, Vec<f32>, Vec<f32>) {
        let shape = &self.shape;
        let mut y = vec![E::from_f32(f32::NAN); self.gy.len()];
        forward(isa, &self.part(), &self.weight, Some(&self.bias), shape, &mut y);
        let mut gx = vec![E::from_f32(f32::NAN); self.x.len()];
        input_gradient(isa, &self.gy, &self.weight, shape, &mut gx);
        let (mut gw, mut gb) = (vec![0.0; shape.weight_len()], vec![0.0; shape.outputs]);
        add_weight_gradient(isa, &self.part(), &self.gy, shape, &mut gw);
        add_bias_gradient(&self.gy, shape, &mut gb);
        (y, gx, gw, gb)
    }
}

fn bytes<E: Element>(values: &[E]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn shape(batch: usize, inputs: usize, outputs: usize, size: [usize; 3], stride: [usize; 3]) -> UpsampleShape {
    UpsampleShape { batch, inputs, outputs, size, stride }
}

fn shapes() -> Vec<UpsampleShape> {
    let mut shapes = Vec::new();
    for stride in [[1, 1, 1], [2, 2, 2], [1, 2, 2], [2, 1, 1], [1, 1, 2], [2, 2, 1], [1, 2, 1], [2, 1, 2]] {
        shapes.push(shape(2, 3, 5, [2, 3, 7], stride));
        shapes.push(shape(1, 1, 1, [1, 1, 1], stride));
        shapes.push(shape(1, 5, 2, [1, 2, 35], stride));
    }
    // Several tiles in a plane and of planes, several segments, several groups of channels.
    shapes.push(shape(1, 4, 13, [3, 40, 49], [2, 2, 2]));
    shapes.push(shape(2, 4, 3, [70, 9, 33], [1, 2, 2]));
    shapes.push(shape(1, 130, 150, [2, 3, 4], [2, 2, 2]));
    shapes.push(shape(1, 70, 70, [3, 3, 5], [1, 2, 1]));
    shapes.push(shape(1, 1, 1, [1, 1, 1700], [1, 1, 2]));
    shapes
}

fn assert_close<E: Element>(what: &str, shape: &UpsampleShape, got: &[E], expected: &[Sum], rounding: f64) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, Sum(expected, terms))) in wide(got).iter().zip(expected).enumerate() {
        let room = rounding * expected.abs() + 1e-6 * terms + 1e-7;
        assert!((got - expected).abs() <= room, "{what}[{i}] of {shape:?}: {got}, not {expected}");
    }
}

fn against_reference<E: Element>(rounding: f64) {
    for shape in shapes() {
        let case = Case::<E>::new(shape);
        let expected = reference(&shape, &wide(&case.x), &wide(&case.weight), &wide(&case.bias), &wide(&case.gy));
        let highest = case.run(isa());
        assert_close("y", &shape, &highest.0, &expected.0, rounding);
        assert_close("gx", &shape, &highest.1, &expected.1, rounding);
        assert_close("gw", &shape, &highest.2, &expected.2, 0.0);
        assert_close("gb", &shape, &highest.3, &expected.3, 0.0);
        for isa in Isa::available() {
            let got = case.run(isa);
            assert!(bytes(&got.0) == bytes(&highest.0) && bytes(&got.1) == bytes(&highest.1), "{shape:?} {isa:?}");
            assert!(got.2 == highest.2 && got.3 == highest.3, "{shape:?} on {isa:?}");
        }
    }
}

#[test]
fn follows_the_definition_in_f32() {
    against_reference::<f32>(1e-7);
}

#[test]
fn follows_the_definition_in_bf16() {
    against_reference::<bf16>(1.0 / 256.0);
}

#[test]
fn follows_the_definition_in_f16() {
    against_reference::<f16>(1.0 / 2048.0);
}

#[test]
fn samples_and_threads_do_not_touch_each_other() {
    for stride in [[2, 2, 2], [1, 2, 2]] {
        let shape = shape(3, 20, 24, [11, 19, 21], stride);
        let case = Case::<bf16>::new(shape);
        let all = case.run(isa());
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| case.run(isa())) == all);
        }
        for sample in 0..3 {
            let mut alone = Case::<bf16>::new(UpsampleShape { batch: 1, ..shape });
            alone.x = case.x[sample * shape.input_len()..][..shape.input_len()].to_vec();
            alone.gy = case.gy[sample * shape.output_len()..][..shape.output_len()].to_vec();
            let got = alone.run(isa());
            assert!(got.0 == all.0[sample * shape.output_len()..][..shape.output_len()]);
            assert!(got.1 == all.1[sample * shape.input_len()..][..shape.input_len()]);
        }
    }
}

#[test]
fn weight_gradients_are_added_to_what_is_there() {
    // One block of one sample: one term is added, so twice is exactly the double.
    let case = Case::<f32>::new(shape(1, 3, 5, [2, 3, 7], [2, 2, 2]));
    let (_, _, gw, gb) = case.run(isa());
    let (mut again, mut bias) = (gw.clone(), gb.clone());
    add_weight_gradient(isa(), &case.part(), &case.gy, &case.shape, &mut again);
    add_bias_gradient(&case.gy, &case.shape, &mut bias);
    assert_eq!(again, gw.iter().map(|once| 2.0 * once).collect::<Vec<_>>());
    assert_eq!(bias, gb.iter().map(|once| 2.0 * once).collect::<Vec<_>>());
}

#[test]
fn without_a_bias_it_is_a_bias_of_zero() {
    let case = Case::<f32>::new(shape(1, 3, 5, [2, 3, 7], [2, 1, 2]));
    let (mut without, mut zero) = (vec![f32::NAN; case.gy.len()], vec![f32::NAN; case.gy.len()]);
    forward(isa(), &case.part(), &case.weight, None, &case.shape, &mut without);
    forward(isa(), &case.part(), &case.weight, Some(&[0.0; 5]), &case.shape, &mut zero);
    assert_eq!(without, zero);
}

/// PyTorch 2.11, float64: F.conv_transpose3d of x = sin(0.7 i) as [2, 2, 1, 2, 3] with weight sin(1.3 i) as
/// [2, 3, *stride] and bias sin(2.1 c); backward of sin(1.9 i). The last five of y, the first five of gx, the last
/// five of the weight's gradient, the bias's gradient.
#[test]
fn follows_pytorch() {
    type Row = ([usize; 3], [f64; 5], [f64; 5], [f64; 5], [f64; 3]);
    let expected: [Row; 3] = [
        (
            [2, 2, 2],
            [-0.828005419, -0.591495044, -0.193067188, -0.631964756, 0.122757854],
            [-0.402475904, 0.588741746, -0.528875519, 0.597572746, -0.481156979],
            [0.862820161, 1.51198872, -0.371594345, 0.481078818, 1.20596631],
            [-0.237909446, 0.213526394, -0.187265499],
        ),
        (
            [1, 2, 2],
            [-2.58410889, -1.37997365, -2.14046308, -1.0090567, -1.10003973],
            [0.0931418954, 0.208612097, -0.423152761, 0.269490036, -0.449258902],
            [-0.079471966, -0.927183552, -0.322327474, 0.239507489, -1.12882481],
            [-1.01458134, 0.926830606, 0.927664418],
        ),
        (
            [2, 1, 1],
            [-0.142218667, 0.0270908079, -0.226256652, -0.783107778, -1.38156678],
            [-2.28812895, 1.59382699, 1.25759368, -2.40696082, 0.298696968],
            [0.643159441, 0.713885255, -0.0813447867, -0.777902116, -0.530849968],
            [1.31111218, -2.10808832, 1.59944052],
        ),
    ];
    let wave = |len: usize, step: f64| (0..len).map(|i| libm::sin(step * i as f64) as f32).collect::<Vec<_>>();
    for (stride, y_end, gx_start, gw_end, gb) in expected {
        let shape = shape(2, 2, 3, [1, 2, 3], stride);
        let (x, gy) = (wave(24, 0.7), wave(2 * shape.output_len(), 1.9));
        let case = Case { shape, x, gy, weight: wave(shape.weight_len(), 1.3), bias: wave(3, 2.1) };
        let got = case.run(isa());
        let close = |got: &[f32], expected: &[f64]| {
            let near = got.iter().zip(expected).all(|(&got, expected)| (f64::from(got) - expected).abs() < 2e-6);
            assert!(near && got.len() == expected.len(), "{stride:?}: {got:?}, not {expected:?}");
        };
        close(&got.0[got.0.len() - 5..], &y_end);
        close(&got.1[..5], &gx_start);
        close(&got.2[got.2.len() - 5..], &gw_end);
        close(&got.3, &gb);
    }
}
