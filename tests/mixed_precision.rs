//! Activations in half the bytes: what that saves, and what it costs the gradient.
mod small_net;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use small_net::{flat, network, relative_error, sample, settings, step};
use voxfit::config::{Activations, Device as DeviceName};
use voxfit::device::{check_type, float_type};
use voxfit::network::plan::{NetworkPlan, Norm, Stage};
use voxfit::network::{BatchStatistics, Mode, UNet};
use voxfit::ops::{self, LossSpec};
use voxfit::patch::Sample;
use voxfit::train::optimizer::{global_norm, scale};
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

/// Bytes that a forward pass leaves behind for the backward pass.
fn held(network: &UNet, values: &[f32], size: [usize; 3], activations: FloatDType) -> usize {
    let [z, y, x] = size;
    let target = Arc::new(vec![1u16; z * y * x]);
    let input = Tensor::<5>::from_data(TensorData::new(values.to_vec(), [1, 1, z, y, x]), &Device::flex());
    let before = LIVE.load(Relaxed);
    let input = input.cast(activations).autodiff().require_grad();
    let mut heads = network.forward(input, Mode::Train(&mut BatchStatistics::default()));
    let spec =
        LossSpec { target, ignore: None, cross_entropy: 1.0 / values.len() as f64, dice: 1.0, gradient_scale: 1.0 };
    let loss = ops::segmentation_loss(heads.swap_remove(0), spec);
    drop(heads);
    let after = LIVE.load(Relaxed);
    drop(loss.backward());
    after - before
}

#[test]
fn half_types_hold_half_of_the_bytes() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let stage = |index: usize| Stage {
        features: 8 << index,
        kernel: [3; 3],
        stride: [if index == 0 { 1 } else { 2 }; 3],
        norm: Norm::Group { groups: 8 },
    };
    let plan = NetworkPlan { in_channels: 1, classes: 3, stages: (0..3).map(stage).collect(), deep_supervision: true };
    let network = UNet::new(&plan, 0, &Device::flex());
    let size = [24, 28, 20];
    let values: Vec<f32> = (0..24 * 28 * 20).map(|i| (0.37 * i as f32).sin()).collect();
    // Whatever is made once and kept (threads, gradients) is made here.
    held(&network, &values, size, FloatDType::F32);
    let [wide, bf16, f16] =
        [FloatDType::F32, FloatDType::BF16, FloatDType::F16].map(|kind| held(&network, &values, size, kind));
    println!("held between forward and backward: f32 {wide} bytes, bf16 {bf16}, f16 {f16}");
    // The graph itself must not be all there is: the two full-resolution stages alone keep 8 volumes of 8 channels.
    assert!(wide > 8 * 8 * 4 * values.len(), "{wide}");
    assert!(bf16 * 100 <= wide * 55, "{bf16} of {wide}");
    assert!(f16 * 100 <= wide * 55, "{f16} of {wide}");
}

fn samples() -> Vec<Sample> {
    vec![sample(0), sample(1)]
}

fn gradient_of(activations: FloatDType, loss_scale: f32) -> Vec<f32> {
    let settings = StepSettings { loss_scale, ..settings(2, 1, activations) };
    let step = step(&network(Norm::Group { groups: 2 }), &settings, &samples());
    let gradients = scale(step.gradients, 1.0 / f64::from(loss_scale));
    flat(&voxfit::train::step::StepGradient { gradients, ..step })
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

#[test]
fn zz_debug() {
    let of = |kind| {
        let network = network(Norm::Group { groups: 2 });
        let step = step(&network, &StepSettings { loss_scale: 1024.0, ..settings(2, 1, kind) }, &samples());
        (network, scale(step.gradients, 1.0 / 1024.0))
    };
    let (n, a) = of(FloatDType::F32);
    for kind in [FloatDType::F16, FloatDType::BF16] {
        let (_, b) = of(kind);
        for ((p, a), b) in n.parameters.iter().zip(&a).zip(&b) {
            let (a, b) = (voxfit::network::host(a), voxfit::network::host(b));
            let norm = a.iter().map(|v| v * v).sum::<f32>().sqrt();
            println!("ZZ {kind:?} {} {norm:e} {:e}", p.name, relative_error(&b, &a));
        }
    }
}

#[test]
fn half_types_give_nearly_the_same_gradient() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let exact = gradient_of(FloatDType::F32, 1.0);
    let bf16 = gradient_of(FloatDType::BF16, 1.0);
    let f16 = gradient_of(FloatDType::F16, 65536.0);
    for (name, found, least, most) in [("bf16", bf16, 0.999, 0.05), ("f16", f16, 0.999_98, 0.01)] {
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
    // In f16 small gradients are lost without it.
    let exact = gradient_of(FloatDType::F32, 1.0);
    let plain = gradient_of(FloatDType::F16, 1.0);
    let scaled = gradient_of(FloatDType::F16, 1024.0);
    let (lost, kept) = (relative_error(&plain, &exact), relative_error(&scaled, &exact));
    println!("f16 beside f32: relative error {lost:e} at scale 1, {kept:e} at scale 1024");
    assert!(relative_error(&scaled, &plain) < 0.05);
    assert!(kept < lost, "{kept:e} at scale 1024, {lost:e} at scale 1");
}

#[test]
fn an_overflow_is_seen_in_the_norm() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let network = network(Norm::Group { groups: 2 });
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
