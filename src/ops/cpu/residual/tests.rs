use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::ops::cpu::norm::RowMap;

fn values<E: Element>(count: usize, seed: u32) -> Vec<E> {
    (0..count).map(|i| E::from_f32(libm::sinf(0.7 * i as f32 + seed as f32) * 3.0)).collect()
}

fn maps(rows: usize, slope: f32) -> Vec<RowMap> {
    (0..rows)
        .map(|row| {
            let row = row as f32;
            RowMap { mean: 0.3 * row - 0.5, scale: 0.7 + 0.1 * row, beta: 0.2 - 0.1 * row, slope }
        })
        .collect()
}

/// What is read of a stored value, rounded to its type; in f64 up to there.
fn read<E: Element>(value: E, map: Option<RowMap>) -> f64 {
    let Some(map) = map else { return f64::from(value.to_f32()) };
    let z = (f64::from(value.to_f32()) - f64::from(map.mean)) * f64::from(map.scale) + f64::from(map.beta);
    let y = if z > 0.0 { z } else { z * f64::from(map.slope) };
    f64::from(E::from_f32(y as f32).to_f32())
}

/// Within the rounding of the type; a value read through a map may be rounded either way, once in a long while. Below the
/// type's smallest normal number values stand as far apart as at that number: f16's, 2^-14, is met by small gradients.
fn near<E: Element>(found: E, expected: f64, scale: f64) -> bool {
    let (unit, smallest) = match E::NAME {
        "f32" => (1e-6, f64::from(f32::MIN_POSITIVE)),
        "bf16" => (1.0 / 128.0, f64::from(bf16::MIN_POSITIVE.to_f32())),
        _ => (1.0 / 1024.0, f64::from(f16::MIN_POSITIVE.to_f32())),
    };
    (f64::from(found.to_f32()) - expected).abs() <= unit * expected.abs().max(scale).max(smallest)
}

fn check<E: Element>(rows: usize, size: [usize; 3], stride: [usize; 3]) {
    let fine: [usize; 3] = std::array::from_fn(|axis| size[axis] * stride[axis]);
    let shape = PoolShape { rows, size: fine, stride };
    let (many, voxels) = (rows * fine.iter().product::<usize>(), fine.iter().product::<usize>());
    let few = rows * size.iter().product::<usize>();
    let (a, b) = (values::<E>(many, 1), values::<E>(many, 2));
    let (norm, plain) = (maps(rows, 1.0), maps(rows, 0.01));
    let bytes = |values: &[E]| bytemuck::cast_slice::<E, u8>(values).to_vec();
    let mut first: Option<[Vec<u8>; 4]> = None;
    for isa in Isa::available() {
        let poison = |count: usize| vec![E::from_f32(f32::NAN); count];
        let (mut y, mut averages, mut spread) = (poison(many), poison(few), poison(many));
        let part = |values, maps| Part { values, channels: rows, maps };
        add_act(isa, &part(&a, Some(&norm[..])), &part(&b, Some(&plain[..])), voxels, 0.01, &mut y);
        let mut gradient = b.clone();
        add_act_gradient(isa, &y, 0.01, &mut gradient);
        average(isa, &part(&a, Some(&plain[..])), &shape, &mut averages);
        average_gradient(&averages, &shape, &mut spread);
        for at in 0..many {
            let row = at / voxels;
            let sum = read(a[at], Some(norm[row])) + read(b[at], Some(plain[row]));
            let expected = if sum > 0.0 { sum } else { 0.01 * sum };
            assert!(near(y[at], expected, 4.0), "{:?}: {expected}", y[at]);
            let g = f64::from(b[at].to_f32());
            let expected = if y[at].to_f32() > 0.0 { g } else { f64::from(0.01f32) * g };
            assert!(near(gradient[at], expected, 0.0), "{:?}: {expected}", gradient[at]);
        }
        let cell = stride.iter().product::<usize>() as f64;
        for (at, found) in averages.iter().enumerate() {
            let [_, height, width] = size;
            let (row, z, y, x) = (at / (few / rows), at / (height * width) % size[0], at / width % height, at % width);
            let mut sum = 0.0;
            for dz in 0..stride[0] {
                for dy in 0..stride[1] {
                    for dx in 0..stride[2] {
                        let place = (z * stride[0] + dz) * fine[1] + y * stride[1] + dy;
                        let place = row * voxels + place * fine[2] + x * stride[2] + dx;
                        sum += read(a[place], Some(plain[row]));
                        assert!(near(spread[place], f64::from(found.to_f32()) / cell, 1e-3));
                    }
                }
            }
            assert!(near(*found, sum / cell, 3.0), "{found:?}: {}", sum / cell);
        }
        let all = [bytes(&y), bytes(&gradient), bytes(&averages), bytes(&spread)];
        assert!(first.get_or_insert_with(|| all.clone()) == &all, "{isa:?} gives other bits");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn follows_the_definition(
        rows in 1usize..4,
        size in [1usize..4, 1usize..5, 1usize..40],
        stride in [1usize..3, 1usize..3, 1usize..3],
    ) {
        check::<f32>(rows, size, stride);
        check::<bf16>(rows, size, stride);
        check::<f16>(rows, size, stride);
    }
}
