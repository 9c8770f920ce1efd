//! Updates and the size of a gradient against the default bodies, which are PyTorch's rules (tests/optimizer.rs).
use burn::backend::Flex;
use burn::tensor::DType;

use super::{noise, tensor, values};
use crate::ops::backend::VolumeOps;
use crate::ops::cpu::isa::{Isa, isa};
use crate::ops::cpu::update;
use crate::ops::default;
use crate::ops::spec::{AdamwSpec, SgdSpec, UpdateSpec};

/// Odd lengths, more than one stretch, less than one vector.
const LENGTHS: [usize; 4] = [1, 15, 1000, 40_003];
const UPDATE: UpdateSpec = UpdateSpec { rate: 3e-3, decay: 0.02, factor: 0.37 };

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn updates_are_the_default_s_bit_for_bit_on_every_instruction_set() {
    let sgd = SgdSpec { update: UPDATE, momentum: 0.99 };
    let adamw = AdamwSpec { update: UPDATE, betas: [0.9, 0.999], corrections: [0.19, 0.002], epsilon: 1e-8 };
    for length in LENGTHS {
        let [value, gradient, first] = ["value", "gradient", "first"].map(|name| noise(name, length));
        let second: Vec<f32> = noise("second", length).into_iter().map(f32::abs).collect();
        let flat = |values: &Vec<f32>| tensor(values.clone(), &[length], DType::F32);
        let (expected, velocity) = default::sgd::<Flex>(flat(&value), flat(&gradient), flat(&first), sgd);
        let moments = default::adamw::<Flex>(flat(&value), flat(&gradient), flat(&first), flat(&second), adamw);
        let average = values(&default::ema::<Flex>(flat(&value), flat(&first), 0.999));
        for set in Isa::available() {
            let mut found = value.clone();
            update::ema(set, &mut found, &first, 0.999);
            assert_eq!(bits(&found), bits(&average), "average {length} {set:?}");
            let (mut found, mut state) = (value.clone(), first.clone());
            update::sgd(set, &mut found, &gradient, &mut state, sgd);
            assert_eq!(bits(&found), bits(&values(&expected)), "sgd {length} {set:?}");
            assert_eq!(bits(&state), bits(&values(&velocity)), "velocity {length} {set:?}");
            let (mut found, mut one, mut two) = (value.clone(), first.clone(), second.clone());
            update::adamw(set, &mut found, &gradient, &mut one, &mut two, adamw);
            assert_eq!(bits(&found), bits(&values(&moments.0)), "adamw {length} {set:?}");
            assert_eq!(bits(&one), bits(&values(&moments.1)), "first moment {length} {set:?}");
            assert_eq!(bits(&two), bits(&values(&moments.2)), "second moment {length} {set:?}");
        }
    }
}

#[test]
fn a_sum_of_squares_is_that_of_f64_and_of_every_instruction_set() {
    for length in LENGTHS {
        let gradient = noise("gradient", length);
        let expected: f64 = gradient.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        let found = update::square_sum(isa(), &gradient);
        assert!((found / expected - 1.0).abs() < 1e-12, "{found}, expected {expected}");
        for set in Isa::available() {
            assert_eq!(update::square_sum(set, &gradient).to_bits(), found.to_bits(), "{set:?}");
        }
        let default = values(&default::square_sum::<Flex>(tensor(gradient, &[length], DType::F32)));
        let default = f64::from(default[0]).powi(2) * f64::from(default[1]);
        assert!((default / expected - 1.0).abs() < 1e-4, "{default}, expected {expected}");
    }
    let huge = values(&Flex::volume_square_sum(tensor(vec![3e30, 4e30], &[2], DType::F32)));
    assert!(huge[1].is_infinite(), "only f64 holds this sum: {huge:?}");
}
