//! Every direction against a plain f64 reference, on every instruction set the processor has.
use half::bf16;
use proptest::prelude::*;
use rand::RngExt;

use super::*;
use crate::ops::cpu::isa::Isa;

fn values(count: usize, name: u64) -> Vec<f32> {
    let mut random = crate::random::stream(7, "conv test", 0, name);
    (0..count).map(|_| random.random_range(-1.0f32..1.0)).collect()
}

/// Calls `visit(input index, output index, weight index)` for every product of the convolution.
fn products(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let out = shape.out_size();
    let [depth, height, width] = shape.size;
    for n in 0..shape.batch {
        for o in 0..shape.out_channels {
            for (z, y, x) in indices(out) {
                for i in 0..shape.in_channels {
                    for (a, b, c) in indices(shape.kernel) {
                        let pad = shape.kernel.map(|k| (k - 1) / 2);
                        let at = |p: usize, s: usize, t: usize, pad: usize| (p * s + t).checked_sub(pad);
                        let (Some(iz), Some(iy), Some(ix)) = (
                            at(z, shape.stride[0], a, pad[0]),
                            at(y, shape.stride[1], b, pad[1]),
                            at(x, shape.stride[2], c, pad[2]),
                        ) else {
                            continue;
                        };
                        if iz >= depth || iy >= height || ix >= width {
                            continue;
                        }
                        visit(
                            (((n * shape.in_channels + i) * depth + iz) * height + iy) * width + ix,
                            (((n * shape.out_channels + o) * out[0] + z) * out[1] + y) * out[2] + x,
                            (((o * shape.in_channels + i) * shape.kernel[0] + a) * shape.kernel[1] + b)
                                * shape.kernel[2]
                                + c,
                        );
                    }
                }
            }
        }
    }
}

fn indices(size: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..size[0]).flat_map(move |z| (0..size[1]).flat_map(move |y| (0..size[2]).map(move |x| (z, y, x))))
}

fn whole<E>(values: &[E], channels: usize) -> [Part<'_, E>; 1] {
    [Part { values, channels, maps: None }]
}

fn whole_mut<E>(values: &mut [E], channels: usize) -> [PartMut<'_, E>; 1] {
    [PartMut { values, channels }]
}

fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt().max(1e-3);
    let error = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).powi(2)).sum::<f64>().sqrt() / norm;
    assert!(error < tolerance, "{what}: relative error {error}"); // NaN (an element never written) fails too
}

fn wide<E: Element>(values: &[E]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

/// f32 and bf16: sums are in f32 for both, so that the weight gradient is as close; the others are rounded to the type.
fn check(shape: ConvShape) {
    check_type::<f32>(shape, 2e-6);
    check_type::<bf16>(shape, 3e-3);
}

fn check_type<E: Element>(shape: ConvShape, rounding: f64) {
    let stored = |count, name| values(count, name).into_iter().map(E::from_f32).collect::<Vec<E>>();
    let input = stored(shape.batch * shape.in_channels * shape.in_voxels(), 1);
    // What the type can hold, so that the reference need not round weights.
    let weights = wide(&stored(shape.weights(), 2));
    let bias = values(shape.out_channels, 3);
    let gradient = stored(shape.batch * shape.out_channels * shape.out_voxels(), 4);
    let mut output = vec![0.0f64; gradient.len()];
    for (index, value) in output.iter_mut().enumerate() {
        *value = f64::from(bias[index / shape.out_voxels() % shape.out_channels]);
    }
    let mut input_grad = vec![0.0f64; input.len()];
    let mut weight_grad: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect(); // added to what is there
    let (x, gy) = (wide(&input), wide(&gradient));
    products(&shape, |i, o, w| {
        output[o] += f64::from(x[i]) * f64::from(weights[w]);
        input_grad[i] += f64::from(gy[o]) * f64::from(weights[w]);
        weight_grad[w] += f64::from(gy[o]) * f64::from(x[i]);
    });
    let mut bits: Option<[Vec<f32>; 3]> = None;
    for isa in Isa::available() {
        let mut out = vec![E::from_f32(f32::NAN); output.len()];
        forward(isa, &shape, &whole(&input, shape.in_channels), &weights, Some(&bias), &mut out);
        let out = wide(&out);
        assert_close(&out, &output, rounding, "forward");
        let mut back = vec![E::from_f32(f32::NAN); input.len()];
        input_gradient(
            isa,
            &shape,
            &whole(&gradient, shape.out_channels),
            &weights,
            None,
            &mut whole_mut(&mut back, shape.in_channels),
        );
        let back = wide(&back);
        assert_close(&back, &input_grad, rounding, "input gradient");
        let (mut w, mut b) = (weights.clone(), vec![0.0; shape.out_channels]);
        add_parameter_gradients(isa, &shape, &whole(&input, shape.in_channels), &gradient, &mut w, &mut b);
        assert_close(&w, &weight_grad, 2e-6, "weight gradient");
        let found = [out, back, w];
        match &bits {
            None => bits = Some(found),
            Some(first) => assert_eq!(first, &found, "{isa:?} gives other bits than portable"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn all_directions_agree_with_f64(
        batch in 1usize..3, inputs in 1usize..6, outputs in 1usize..12,
        size in [1usize..8, 1usize..10, 1usize..21],
        kernel in [0usize..2, 0usize..2, 0usize..2], stride in [1usize..3, 1usize..3, 1usize..3],
    ) {
        check(ConvShape { batch, in_channels: inputs, out_channels: outputs, size, kernel: kernel.map(|k| 2 * k + 1), stride });
    }
}

#[test]
fn more_channels_than_a_block_and_rows_longer_than_a_tile() {
    let base =
        ConvShape { batch: 1, in_channels: 37, out_channels: 19, size: [3, 4, 53], kernel: [3; 3], stride: [1; 3] };
    check(base);
    check(ConvShape { stride: [2, 2, 2], ..base });
    check(ConvShape { in_channels: 2, size: [3, 70, 65], ..base });
    check(ConvShape { in_channels: 17, out_channels: 50, size: [4, 9, 10], kernel: [1, 3, 1], ..base });
    check(ConvShape { in_channels: 8, out_channels: 3, size: [5, 30, 30], kernel: [1; 3], ..base });
}

/// Layers that Winograd's products are used for in f32: odd sizes, one plane, rows longer than a tile, several blocks,
/// channels that fill no vector.
#[test]
fn fewer_products_give_the_same_sums() {
    let base =
        ConvShape { batch: 1, in_channels: 8, out_channels: 9, size: [7, 9, 11], kernel: [3; 3], stride: [1; 3] };
    check(base);
    check(ConvShape { batch: 2, in_channels: 19, out_channels: 35, size: [9, 8, 8], ..base });
    check(ConvShape { size: [1, 23, 24], ..base });
    check(ConvShape { size: [24, 23, 1], ..base });
    check(ConvShape { size: [26, 1, 25], ..base });
    check(ConvShape { in_channels: 33, out_channels: 17, size: [4, 5, 67], ..base });
    check(ConvShape { in_channels: 9, out_channels: 8, size: [30, 31, 33], ..base });
}

#[test]
fn a_sample_gives_the_same_bits_alone_and_in_a_batch() {
    let shape =
        ConvShape { batch: 3, in_channels: 5, out_channels: 9, size: [6, 7, 18], kernel: [3; 3], stride: [1, 2, 2] };
    let one = ConvShape { batch: 1, ..shape };
    let input = values(shape.batch * shape.in_channels * shape.in_voxels(), 1);
    let gradient = values(shape.batch * shape.out_channels * shape.out_voxels(), 4);
    let isa = Isa::detected();
    let (mut w, mut b) = (vec![0.0; shape.weights()], vec![0.0; shape.out_channels]);
    add_parameter_gradients(isa, &shape, &whole(&input, shape.in_channels), &gradient, &mut w, &mut b);
    let (mut w1, mut b1) = (vec![0.0; shape.weights()], vec![0.0; shape.out_channels]);
    for n in 0..shape.batch {
        let input = &input[n * one.in_channels * one.in_voxels()..][..one.in_channels * one.in_voxels()];
        let gradient = &gradient[n * one.out_channels * one.out_voxels()..][..one.out_channels * one.out_voxels()];
        add_parameter_gradients(isa, &one, &whole(input, one.in_channels), gradient, &mut w1, &mut b1);
    }
    assert_eq!((w, b), (w1, b1));
}
