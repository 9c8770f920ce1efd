//! The processor's operations against the default bodies on the same backend, and both against plain f64 loops where
//! a mistake could be shared.
mod loss;
mod update;

use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, TensorData};
use rand::Rng;

use super::backend::VolumeOps;
use super::cpu::norm::{self, Affine, Groups, NormShape, Statistics};
use super::default;
use super::spec::{ConvSpec, NormSpec, ParameterSinks, UpsampleSpec};
use crate::random::stream;

/// f32 sums in another order.
const F32: f64 = 1e-5;
/// Results rounded to eight bits, from inputs that are the same numbers on both sides.
const BF16: f64 = 1.0 / 128.0;

type Size = [usize; 3];

fn noise(name: &str, count: usize) -> Vec<f32> {
    let mut random = stream(0, name, count as u64, 0);
    (0..count).map(|_| random.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0).collect()
}

fn tensor(values: Vec<f32>, shape: &[usize], dtype: DType) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()).convert_dtype(dtype))
}

fn random(name: &str, shape: &[usize], dtype: DType) -> FlexTensor {
    tensor(noise(name, shape.iter().product()), shape, dtype)
}

fn wide(tensor: &FlexTensor) -> FlexTensor {
    if tensor.dtype() == DType::F32 { tensor.clone() } else { Flex::float_cast(tensor.clone(), DType::F32.into()) }
}

fn values(tensor: &FlexTensor) -> Vec<f32> {
    wide(tensor).into_data().try_into_vec().unwrap()
}

/// Every value within `tolerance` of the largest.
fn close(what: &str, found: &FlexTensor, expected: &FlexTensor, tolerance: f64) {
    assert_eq!(found.shape(), expected.shape(), "{what}: shape");
    close_values(what, &values(found), &values(expected).into_iter().map(f64::from).collect::<Vec<_>>(), tolerance);
}

fn close_values(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(1e-6f64, |largest, value| largest.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs() / largest;
        assert!(error <= tolerance, "{what}: at {at} {found}, expected {expected}, {error:e} of the largest");
    }
}

/// The same values as a view that is not in order: made as `[z, batch, ...]` and permuted, its first plane cut off.
fn strided(tensor: FlexTensor) -> FlexTensor {
    let shape: [usize; 5] = tensor.shape().dims();
    let padded =
        Flex::float_cat(vec![random("pad", &[1, shape[1], shape[2], shape[3], shape[4]], tensor.dtype()), tensor], 0);
    let turned = padded.permute(&[2, 0, 1, 3, 4]).to_contiguous();
    turned.permute(&[1, 2, 0, 3, 4]).narrow(0, 1, shape[0])
}

/// No map: the input is read as it is.
fn none() -> FlexTensor {
    tensor(vec![0.0; 3], &[3, 1], DType::F32)
}

fn sinks() -> ParameterSinks {
    ParameterSinks::default()
}

/// Both precisions: `f32` tight, `bf16` from rounded inputs within rounding.
const TYPES: [(DType, f64); 2] = [(DType::F32, F32), (DType::BF16, BF16)];

fn convolutions() -> Vec<([usize; 3], Size, Size, Size)> {
    // [batch, in, out], size, kernel, stride.
    vec![
        ([2, 3, 5], [5, 7, 9], [3, 3, 3], [1, 1, 1]),
        ([1, 1, 4], [4, 6, 8], [3, 3, 3], [2, 2, 2]),
        ([3, 4, 2], [5, 3, 7], [3, 3, 3], [2, 2, 2]),
        ([2, 5, 3], [1, 6, 5], [1, 3, 3], [1, 2, 2]),
        ([1, 2, 7], [6, 1, 1], [3, 1, 3], [2, 1, 1]),
        ([1, 3, 3], [1, 1, 1], [3, 3, 3], [1, 1, 1]),
        ([2, 2, 2], [1, 1, 1], [3, 3, 3], [2, 2, 2]),
        ([2, 17, 19], [3, 4, 18], [3, 3, 1], [1, 2, 1]),
        ([2, 9, 3], [3, 5, 4], [1, 1, 1], [1, 1, 1]),
        ([1, 16, 33], [2, 3, 35], [3, 3, 3], [1, 1, 1]),
    ]
}

#[test]
fn convolution_is_the_default_s() {
    for ([batch, from, to], size, kernel, stride) in convolutions() {
        for (dtype, tolerance) in TYPES {
            let what = format!("{batch}x{from}->{to} {size:?} kernel {kernel:?} stride {stride:?} {dtype:?}");
            let spec = ConvSpec { stride, input_gradient: true, slope: None };
            let input = strided(random("input", &[batch, from, size[0], size[1], size[2]], dtype));
            let weights = random("weights", &[to, from, kernel[0], kernel[1], kernel[2]], DType::F32);
            let bias = random("bias", &[to], DType::F32);
            // The default bodies in f32 on the same numbers; weights are rounded to the type where products are.
            let plain = wide(&input);
            let weights = wide(&Flex::float_cast(weights, dtype.into()));

            let found = Flex::volume_conv(input.clone(), none(), weights.clone(), bias.clone(), spec, sinks());
            assert_eq!(found.dtype(), dtype, "{what}");
            let expected = default::conv::<Flex>(plain.clone(), weights.clone(), bias, spec);
            close(&format!("{what}: value"), &found, &expected, tolerance);

            let shape: [usize; 5] = found.shape().dims();
            let gradient = strided(random("gradient", &shape, dtype));
            let found = Flex::volume_conv_input_gradient(gradient.clone(), weights.clone(), spec, size);
            assert_eq!(found.dtype(), dtype, "{what}");
            let expected = default::conv_input_gradient::<Flex>(wide(&gradient), weights.clone(), spec, size);
            close(&format!("{what}: input gradient"), &found, &expected, tolerance);

            let sums = || (random("weight sum", &weights.shape(), DType::F32), random("bias sum", &[to], DType::F32));
            let (weight_sum, bias_sum) = sums();
            // In two shares of the batch, which come to what the batch at once does.
            let (from, gradient_of) = (input.clone(), gradient.clone());
            let (w, b) = Flex::volume_conv_parameter_gradient(
                from.clone(),
                none(),
                gradient_of.clone(),
                weight_sum,
                bias_sum,
                spec,
                0..1,
            );
            let rest = 1..shape[0];
            let found = Flex::volume_conv_parameter_gradient(from, none(), gradient_of, w, b, spec, rest);
            let (weight_sum, bias_sum) = sums();
            let plain = (plain, wide(&gradient));
            let expected = default::conv_parameter_gradient::<Flex>(plain.0, plain.1, weight_sum, bias_sum, spec);
            // Sums are in f32 in every type.
            close(&format!("{what}: weight gradient"), &found.0, &expected.0, F32);
            close(&format!("{what}: bias gradient"), &found.1, &expected.1, F32);
        }
    }
}

#[test]
fn upsampling_is_the_default_s() {
    for ([batch, from, to], size, stride) in [
        ([2, 3, 5], [5, 7, 9], [2, 2, 2]),
        ([1, 8, 4], [3, 5, 6], [1, 2, 2]),
        ([3, 1, 1], [1, 1, 1], [2, 2, 2]),
        ([2, 6, 17], [4, 1, 19], [2, 1, 1]),
        ([2, 33, 3], [1, 3, 2], [1, 1, 2]),
        ([1, 4, 4], [2, 3, 4], [1, 1, 1]),
    ] {
        for (dtype, tolerance) in TYPES {
            let what = format!("{batch}x{from}->{to} {size:?} stride {stride:?} {dtype:?}");
            let spec = UpsampleSpec { stride, slope: None };
            let input = strided(random("input", &[batch, from, size[0], size[1], size[2]], dtype));
            let weights = random("weights", &[from, to, stride[0], stride[1], stride[2]], DType::F32);
            let weights = wide(&Flex::float_cast(weights, dtype.into()));
            let bias = random("bias", &[to], DType::F32);
            let plain = wide(&input);

            let found = Flex::volume_upsample(input.clone(), none(), weights.clone(), bias.clone(), spec);
            assert_eq!(found.dtype(), dtype, "{what}");
            let expected = default::upsample::<Flex>(plain.clone(), weights.clone(), bias, spec);
            close(&format!("{what}: value"), &found, &expected, tolerance);

            let shape: [usize; 5] = found.shape().dims();
            let gradient = strided(random("gradient", &shape, dtype));
            let found = Flex::volume_upsample_input_gradient(gradient.clone(), weights.clone(), spec);
            let expected = default::upsample_input_gradient::<Flex>(wide(&gradient), weights.clone(), spec);
            close(&format!("{what}: input gradient"), &found, &expected, tolerance);

            let sums = || (random("weight sum", &weights.shape(), DType::F32), random("bias sum", &[to], DType::F32));
            let (weight_sum, bias_sum) = sums();
            let found = Flex::volume_upsample_parameter_gradient(
                input,
                none(),
                gradient.clone(),
                weight_sum,
                bias_sum,
                spec,
                0..batch,
            );
            let (weight_sum, bias_sum) = sums();
            let plain = (plain, wide(&gradient));
            let expected = default::upsample_parameter_gradient::<Flex>(plain.0, plain.1, weight_sum, bias_sum, spec);
            close(&format!("{what}: weight gradient"), &found.0, &expected.0, F32);
            close(&format!("{what}: bias gradient"), &found.1, &expected.1, F32);
        }
    }
}

/// Both bodies of the transposed convolution against its definition.
#[test]
fn upsampling_is_its_definition() {
    let ([from, to], size, stride) = ([3, 2], [2, 3, 2], [1, 2, 2]);
    let input = random("input", &[1, from, size[0], size[1], size[2]], DType::F32);
    let weights = random("weights", &[from, to, stride[0], stride[1], stride[2]], DType::F32);
    let bias = random("bias", &[to], DType::F32);
    let (x, w, b) = (values(&input), values(&weights), values(&bias));
    let mut expected = Vec::new();
    for out in 0..to {
        for z in 0..size[0] * stride[0] {
            for y in 0..size[1] * stride[1] {
                for at in 0..size[2] * stride[2] {
                    let voxel = (z / stride[0] * size[1] + y / stride[1]) * size[2] + at / stride[2];
                    let tap = (z % stride[0] * stride[1] + y % stride[1]) * stride[2] + at % stride[2];
                    let taps = stride.iter().product::<usize>();
                    let voxels = size.iter().product::<usize>();
                    let term = |i: usize| f64::from(x[i * voxels + voxel]) * f64::from(w[(i * to + out) * taps + tap]);
                    expected.push(f64::from(b[out]) + (0..from).map(term).sum::<f64>());
                }
            }
        }
    }
    let spec = UpsampleSpec { stride, slope: None };
    let own = Flex::volume_upsample(input.clone(), none(), weights.clone(), bias.clone(), spec);
    close_values("own", &values(&own), &expected, F32);
    close_values("default", &values(&default::upsample::<Flex>(input, weights, bias, spec)), &expected, F32);
}

#[test]
fn normalisation_is_the_default_s() {
    for (batch, channels, size, groups) in [
        (2, 3, [5, 7, 9], Groups::Instance),
        (3, 4, [1, 5, 1], Groups::Instance),
        (2, 6, [3, 5, 7], Groups::Group(3)),
        (1, 8, [2, 1, 3], Groups::Group(1)),
        (2, 4, [4, 5, 6], Groups::Group(4)),
        (3, 5, [3, 5, 7], Groups::Batch),
        (1, 2, [20, 30, 31], Groups::Batch),
        (1, 2, [41, 41, 41], Groups::Group(2)),
    ] {
        for (dtype, tolerance) in TYPES {
            let what = format!("{batch}x{channels} {size:?} {groups:?} {dtype:?}");
            let spec = NormSpec { groups, epsilon: 1e-5, slope: 0.01 };
            let shape = [batch, channels, size[0], size[1], size[2]];
            // Away from zero mean, where a variance by squares would lose digits.
            let moved = noise("input", shape.iter().product()).into_iter().map(|v| 0.5 * v + 1.5).collect();
            let input = strided(tensor(moved, &shape, dtype));
            let plain = wide(&input);
            let gamma = random("gamma", &[channels], DType::F32);
            let beta = random("beta", &[channels], DType::F32);

            let statistics = Flex::volume_norm_statistics(input.clone(), spec);
            let expected = default::norm_statistics::<Flex>(plain.clone(), spec);
            close(&format!("{what}: statistics"), &statistics, &expected, F32);

            // The same statistics on both sides, so that no value is on another side of the activation's kink.
            let map = Flex::volume_norm_map(statistics.clone(), gamma.clone(), beta.clone(), spec, batch);
            let expected = default::norm_map::<Flex>(statistics.clone(), gamma.clone(), beta.clone(), spec, batch);
            close(&format!("{what}: map"), &map, &expected, F32);

            let gradient = strided(random("gradient", &shape, dtype));
            let affine = [statistics, gamma, beta];
            let [statistics, gamma, beta] = affine.clone();
            let found = Flex::volume_norm_act_gradient(input, statistics, gamma, beta, gradient.clone(), spec);
            let [statistics, gamma, beta] = affine;
            let expected = default::norm_act_gradient::<Flex>(plain, statistics, gamma, beta, wide(&gradient), spec);
            close(&format!("{what}: input gradient"), &found.0, &expected.0, tolerance);
            // Against f32 sums over up to 69000 values in a row.
            close(&format!("{what}: gamma gradient"), &found.1, &expected.1, 5.0 * F32);
            close(&format!("{what}: beta gradient"), &found.2, &expected.2, 5.0 * F32);
        }
    }
}

/// Normalising and activating while reading gives the bits that a separate pass over the tensor gives, for every reader;
/// two inputs behind each other give those of a concatenation.
#[test]
fn reading_is_a_pass_that_nobody_writes() {
    for groups in [Groups::Instance, Groups::Group(2), Groups::Batch] {
        for (dtype, tolerance) in TYPES {
            let what = format!("{groups:?} {dtype:?}");
            let (batch, channels, [z, y, x]) = (2, 4, [3, 6, 21]);
            let shape = [batch, channels, z, y, x];
            let norm = NormSpec { groups, epsilon: 1e-5, slope: 0.01 };
            let raw = strided(random("input", &shape, dtype));
            let (gamma, beta) = (random("gamma", &[channels], DType::F32), random("beta", &[channels], DType::F32));
            let statistics = Flex::volume_norm_statistics(raw.clone(), norm);
            let map = Flex::volume_norm_map(statistics.clone(), gamma.clone(), beta.clone(), norm, batch);
            // The pass itself, against the default body.
            let mut pass = vec![0.0f32; batch * channels * z * y * x];
            let norm_shape = NormShape { batch, channels, voxels: z * y * x, groups };
            let numbers = values(&statistics);
            let (mean, rstd) = numbers.split_at(numbers.len() / 2);
            let numbers = Statistics { mean: mean.to_vec(), rstd: rstd.to_vec(), variance: Vec::new() };
            let affine = Affine { gamma: &values(&gamma), beta: &values(&beta), slope: norm.slope };
            norm::apply(&values(&raw), &norm_shape, &numbers, &affine, &mut pass);
            let activated = Flex::float_cast(tensor(pass, &shape, DType::F32), dtype.into());
            let expected = default::read::<Flex>(raw.clone(), map.clone(), Some(norm.slope));
            close(&format!("{what}: the pass"), &activated, &expected, tolerance);

            let same = |name: &str, found: &FlexTensor, expected: &FlexTensor| {
                assert_eq!(values(found), values(expected), "{what}: {name}");
            };
            let read = Some(norm.slope);
            for stride in [[1; 3], [1, 2, 2]] {
                let fused = ConvSpec { stride, input_gradient: true, slope: read };
                let plain = ConvSpec { slope: None, ..fused };
                let (w, b) = (random("w", &[5, channels, 3, 3, 3], DType::F32), random("b", &[5], DType::F32));
                let found = Flex::volume_conv(raw.clone(), map.clone(), w.clone(), b.clone(), fused, sinks());
                let expected = Flex::volume_conv(activated.clone(), none(), w.clone(), b.clone(), plain, sinks());
                same("convolution", &found, &expected);
                let gradient = random("gradient", &found.shape(), dtype);
                let add = |input: &FlexTensor, map: FlexTensor, spec| {
                    let (w, b) = (w.clone(), b.clone());
                    Flex::volume_conv_parameter_gradient(input.clone(), map, gradient.clone(), w, b, spec, 0..batch).0
                };
                same("weight gradient", &add(&raw, map.clone(), fused), &add(&activated, none(), plain));
            }

            let fused = UpsampleSpec { stride: [1, 2, 2], slope: read };
            let plain = UpsampleSpec { slope: None, ..fused };
            let (w, b) = (random("w", &[channels, 3, 1, 2, 2], DType::F32), random("b", &[3], DType::F32));
            let found = Flex::volume_upsample(raw.clone(), map.clone(), w.clone(), b.clone(), fused);
            let expected = Flex::volume_upsample(activated.clone(), none(), w.clone(), b.clone(), plain);
            same("way up", &found, &expected);
            let gradient = random("gradient", &found.shape(), dtype);
            let add = |input: &FlexTensor, map: FlexTensor, spec| {
                Flex::volume_upsample_parameter_gradient(
                    input.clone(),
                    map,
                    gradient.clone(),
                    w.clone(),
                    b.clone(),
                    spec,
                    0..batch,
                )
            };
            same("its weights", &add(&raw, map.clone(), fused).0, &add(&activated, none(), plain).0);

            let up = random("up", &[batch, 3, z, y, x], dtype);
            let both = Flex::float_cat(vec![up.clone(), activated], 1);
            let fused = ConvSpec { stride: [1; 3], input_gradient: true, slope: read };
            let plain = ConvSpec { slope: None, ..fused };
            let (w, b) = (random("w", &[5, 3 + channels, 3, 3, 3], DType::F32), random("b", &[5], DType::F32));
            let found = Flex::volume_joined_conv(up.clone(), raw.clone(), map.clone(), w.clone(), b.clone(), fused);
            let expected = Flex::volume_conv(both.clone(), none(), w.clone(), b.clone(), plain, sinks());
            same("joined convolution", &found, &expected);
            let gradient = random("gradient", &found.shape(), dtype);
            let part = |channels| Flex::volume_joined_input_gradient(gradient.clone(), w.clone(), fused, channels);
            let (gradient_up, gradient_skip) = (part(0..3), part(3..3 + channels));
            let expected = Flex::volume_conv_input_gradient(gradient.clone(), w.clone(), plain, [z, y, x]);
            same("joined input gradient", &Flex::float_cat(vec![gradient_up, gradient_skip], 1), &expected);
            let found = Flex::volume_joined_parameter_gradient(
                up,
                raw,
                map,
                gradient.clone(),
                w.clone(),
                b.clone(),
                fused,
                0..batch,
            );
            let expected = Flex::volume_conv_parameter_gradient(both, none(), gradient, w, b, plain, 0..batch);
            same("joined weight gradient", &found.0, &expected.0);
            same("joined bias gradient", &found.1, &expected.1);
        }
    }
}

/// The caller's tensors are not written over, although a gradient may be where nobody else holds it.
#[test]
fn a_gradient_that_is_held_elsewhere_stays() {
    let spec = NormSpec { groups: Groups::Instance, epsilon: 1e-5, slope: 0.01 };
    let input = random("input", &[1, 2, 3, 4, 5], DType::F32);
    let gradient = random("gradient", &[1, 2, 3, 4, 5], DType::F32);
    let one = || tensor(vec![1.0; 2], &[2], DType::F32);
    let statistics = Flex::volume_norm_statistics(input.clone(), spec);
    let before = values(&gradient);
    let (found, ..) = Flex::volume_norm_act_gradient(input, statistics, one(), one(), gradient.clone(), spec);
    assert_ne!(values(&found), before);
    assert_eq!(values(&gradient), before);
}
