//! Activations in half the bytes: what that saves, and what it costs the gradient.
mod small_net;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use ndarray::{Array3, Array4};
use small_net::{relative_error, settings, step};
use voxfit::config::{Activations, Device as DeviceName};
use voxfit::device::{check_type, float_type};
use voxfit::network::plan::{Kind, NetworkPlan, Norm, Stage};
use voxfit::network::{BatchStatistics, Mode, UNet, host};
use voxfit::ops::{self, LossSpec};
use voxfit::patch::Sample;
use voxfit::train::optimizer::global_norm;
use voxfit::train::step::StepSettings;

/// Counts the bytes that are alive.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
/// Tests of one process share the count, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Voxels of a sample, z, y, x.
const SIZE: [usize; 3] = [24, 28, 20];
const VOXELS: usize = 24 * 28 * 20;

/// Three stages of 8, 16 and 32 channels as training starts them.
fn network() -> UNet {
    let stage = |index: usize| Stage {
        features: 8 << index,
        kernel: [3; 3],
        stride: [if index == 0 { 1 } else { 2 }; 3],
        norm: Norm::Group { groups: 8 },
    };
    let plan = NetworkPlan {
        kind: Kind::Plain,
        in_channels: 1,
        classes: 3,
        stages: (0..3).map(stage).collect(),
        deep_supervision: true,
    };
    UNet::new(&plan, 0, &Device::flex())
}

/// A ball in a box in a wavy background.
fn samples() -> Vec<Sample> {
    let label = |z: usize, y: usize, x: usize| {
        let square = |at: usize, middle: usize| (at as i64 - middle as i64).pow(2);
        match square(z, 12) + square(y, 13) + square(x, 9) {
            ..16 => 2u16,
            16..80 => 1,
            _ => 0,
        }
    };
    let [z, y, x] = SIZE;
    (0..2)
        .map(|number| Sample {
            image: Array4::from_shape_fn((1, z, y, x), |(_, z, y, x)| {
                f32::from(label(z, y, x)) - 0.5 + (0.9 * (z * 560 + y * 20 + x + 7 * number) as f32).sin()
            }),
            label: Array3::from_shape_fn((z, y, x), |(z, y, x)| label(z, y, x)),
        })
        .collect()
}

/// Bytes that a forward pass leaves behind for the backward pass.
fn held(network: &UNet, activations: FloatDType) -> usize {
    let [z, y, x] = SIZE;
    let target = Arc::new(vec![1u16; VOXELS]);
    let values: Vec<f32> = samples()[0].image.iter().copied().collect();
    let input = Tensor::<5>::from_data(TensorData::new(values, [1, 1, z, y, x]), &Device::flex());
    let before = LIVE.load(Relaxed);
    let input = input.cast(activations).autodiff().require_grad();
    let mut heads = network.forward(input, Mode::Train(&mut BatchStatistics::default()));
    let spec = LossSpec {
        target,
        ignore: None,
        regions: None,
        cross_entropy: 1.0 / VOXELS as f64,
        dice: 1.0,
        totals: None,
        gradient_scale: 1.0,
    };
    let loss = ops::segmentation_loss(heads.swap_remove(0), spec);
    drop(heads);
    let after = LIVE.load(Relaxed);
    drop(loss.backward());
    after - before
}

#[test]
fn half_types_hold_half_of_the_bytes() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let network = network();
    // Whatever is made once and kept (threads, gradients) is made here.
    held(&network, FloatDType::F32);
    let [wide, bf16, f16] = [FloatDType::F32, FloatDType::BF16, FloatDType::F16].map(|kind| held(&network, kind));
    println!("held between forward and backward: f32 {wide} bytes, bf16 {bf16}, f16 {f16}");
    // The full resolution keeps one tensor for each convolution but the first, 3 of 8 channels, and the lower ones together
    // less than as much again; the graph itself must not be all there is.
    let tensor = 8 * 4 * VOXELS;
    assert!(wide > 3 * tensor && wide < 6 * tensor, "{wide}, {tensor} each");
    assert!(bf16 * 100 <= wide * 55, "{bf16} of {wide}");
    assert!(f16 * 100 <= wide * 55, "{f16} of {wide}");
}

fn gradient_of(activations: FloatDType, loss_scale: f32) -> Vec<f32> {
    let settings = StepSettings { loss_scale, ..settings(2, 1, activations) };
    let step = step(&network(), &settings, &samples());
    step.gradients.iter().flat_map(host).map(|value| value / loss_scale).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

#[test]
fn half_types_give_nearly_the_same_gradient() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let exact = gradient_of(FloatDType::F32, 1.0);
    let bf16 = gradient_of(FloatDType::BF16, 1.0);
    let f16 = gradient_of(FloatDType::F16, 65536.0);
    for (name, found, least, most) in [("bf16", bf16, 0.999, 0.03), ("f16", f16, 0.9999, 0.01)] {
        let (cosine, error) = (cosine(&found, &exact), relative_error(&found, &exact));
        println!("{name} beside f32: cosine {cosine}, relative error {error:e}");
        assert!(cosine > least && error < most, "{name}: cosine {cosine}, relative error {error:e}");
        assert!(error > 1e-5, "{name}: as exact as f32, so not in {name} at all");
    }
}

#[test]
fn the_loss_scale_comes_out_again() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // A power of two changes exponents alone.
    let error = relative_error(&gradient_of(FloatDType::F32, 1024.0), &gradient_of(FloatDType::F32, 1.0));
    assert!(error < 1e-6, "{error:e}");
    let exact = gradient_of(FloatDType::F32, 1.0);
    let of = |loss_scale| relative_error(&gradient_of(FloatDType::F16, loss_scale), &exact);
    // Below f16's smallest number gradients are lost, which is what the scale is for.
    let [tiny, plain, scaled] = [2f32.powi(-12), 1.0, 1024.0].map(of);
    println!("f16 beside f32: relative error {tiny:e} at scale 2^-12, {plain:e} at 1, {scaled:e} at 1024");
    assert!(plain < 0.01 && scaled < 0.01, "{plain:e} at scale 1, {scaled:e} at 1024");
    assert!(tiny > 10.0 * scaled, "{tiny:e} at scale 2^-12, {scaled:e} at 1024");
}

#[test]
fn an_overflow_is_seen_in_the_norm() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let network = network();
    let norm = |loss_scale| {
        let settings = StepSettings { loss_scale, ..settings(2, 1, FloatDType::F16) };
        global_norm(&step(&network, &settings, &samples()).gradients)
    };
    assert!(norm(65536.0).is_finite());
    assert!(!norm(2f32.powi(60)).is_finite());
    // And nothing of it stays behind for the next step.
    assert!(norm(1.0).is_finite());
}

#[test]
fn the_processor_takes_every_type() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for activations in [Activations::F32, Activations::Bf16, Activations::F16] {
        let device = voxfit::device::open(DeviceName::Cpu).unwrap();
        assert_eq!(check_type(&device, DeviceName::Cpu, activations), Ok(()));
    }
    assert_eq!(float_type(Activations::Bf16), FloatDType::BF16);
}
