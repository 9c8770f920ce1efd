//! One training step of nnU-Net's nets, for comparison with other software: `cargo bench --bench step -- CASE f32|bf16|f16
//! [STEPS] [MICRO] [none|blocks]`, by default `hip2 bf16 3` with the whole batch at once and nothing computed again (0 for
//! MICRO is that too).
//!
//! A step is forward, backward, clipping and SGD on noise; memory is the peak of the process above what it held before.
use std::convert::Infallible;
use std::time::Instant;

use burn::tensor::{Device, FloatDType};
use ndarray::{Array3, Array4};
use rand::Rng;
use voxfit::config::{Activations, OptimizerName, Recompute};
use voxfit::memory::meter;
use voxfit::memory::step::{StepShape, rehearse};
use voxfit::network::UNet;
use voxfit::network::plan::{Kind, NetworkPlan, Norm, Stage};
use voxfit::ops::cpu::isa::isa;
use voxfit::ops::cpu::pool::{self, Keep, Pool};
use voxfit::ops::cpu::worker::on_worker;
use voxfit::ops::tree::Stretch;
use voxfit::patch::Sample;
use voxfit::random::stream;
use voxfit::ranks::Ranks;
use voxfit::train::optimizer::{Optimizer, clip_factor, global_norm};
use voxfit::train::step::{StepSettings, gradient};

#[global_allocator]
static ALLOCATOR: Pool = Pool;

struct Case {
    name: &'static str,
    features: &'static [usize],
    /// Voxels, z, y, x.
    patch: [usize; 3],
    batch: usize,
    classes: usize,
}

const CASES: [Case; 6] = [
    Case { name: "hip2", features: &[32, 64, 128, 256], patch: [40, 56, 40], batch: 2, classes: 3 },
    Case { name: "hip9", features: &[32, 64, 128, 256], patch: [40, 56, 40], batch: 9, classes: 3 },
    Case { name: "p64", features: &[32, 64, 128, 256, 320], patch: [64; 3], batch: 2, classes: 4 },
    Case { name: "p96", features: &[32, 64, 128, 256, 320], patch: [96; 3], batch: 1, classes: 4 },
    Case { name: "p128", features: &[32, 64, 128, 256, 320, 320], patch: [128; 3], batch: 1, classes: 4 },
    Case { name: "p128b2", features: &[32, 64, 128, 256, 320, 320], patch: [128; 3], batch: 2, classes: 4 },
];

impl Case {
    fn plan(&self) -> NetworkPlan {
        let stage = |(index, features): (usize, &usize)| Stage {
            features: *features,
            kernel: [3; 3],
            stride: [if index == 0 { 1 } else { 2 }; 3],
            norm: Norm::Instance,
        };
        let stages = self.features.iter().enumerate().map(stage).collect();
        NetworkPlan { kind: Kind::Plain, in_channels: 1, classes: self.classes, stages, deep_supervision: true }
    }

    fn samples(&self) -> Vec<Sample> {
        let [z, y, x] = self.patch;
        (0..self.batch as u64)
            .map(|number| {
                let mut noise = stream(0, "bench", 0, number);
                let mut uniform = || noise.next_u32() as f32 / u32::MAX as f32;
                Sample {
                    // Mean 0, deviation 1.
                    image: Array4::from_shape_simple_fn((1, z, y, x), || (uniform() - 0.5) * 12f32.sqrt()),
                    label: Array3::from_shape_simple_fn((z, y, x), || {
                        (uniform() * 0.9999 * self.classes as f32) as u16
                    }),
                }
            })
            .collect()
    }
}

fn main() -> Result<(), String> {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let argument = |at: usize, default: &'static str| arguments.get(at).map_or(default, String::as_str);
    let names = CASES.map(|case| case.name).join(", ");
    let name = argument(0, "hip2");
    let case = CASES.iter().find(|case| case.name == name).ok_or(format!("`{name}` is none of {names}"))?;
    let precision = argument(1, "bf16");
    let activations = match precision {
        "f32" => FloatDType::F32,
        "bf16" => FloatDType::BF16,
        "f16" => FloatDType::F16,
        other => return Err(format!("`{other}` is none of f32, bf16, f16")),
    };
    let number = |at, default| argument(at, default).parse::<usize>().map_err(|_| "steps and micro are numbers");
    let (steps, micro) = (number(2, "3")?.max(1), number(3, "0")?);

    let recompute = match argument(4, "none") {
        "none" => Recompute::None,
        "blocks" => Recompute::Blocks,
        other => return Err(format!("`{other}` is neither none nor blocks")),
    };

    let device = Device::flex();
    let mut network = UNet::new(&case.plan(), 0, &device);
    let mut optimizer = Optimizer::new(OptimizerName::Sgd, 3e-5);
    let samples = case.samples();
    let settings = StepSettings {
        effective: case.batch,
        micro: if micro == 0 { case.batch } else { micro },
        recompute,
        patch: case.patch,
        activations,
        ignore: None,
        regions: None,
        batch_dice: false,
        loss_scale: if activations == FloatDType::F16 { 65536.0 } else { 1.0 },
        device,
        ranks: Ranks::alone(),
    };
    let shape = StepShape {
        plan: &case.plan(),
        patch: case.patch,
        source: [0; 3],
        stretch: Stretch::whole(settings.effective),
        micro: settings.micro,
        activations: match activations {
            FloatDType::F32 => Activations::F32,
            FloatDType::F16 => Activations::F16,
            _ => Activations::Bf16,
        },
        recompute,
        remembered: 1,
        threads: rayon::current_num_threads(),
        isa: isa(),
    };
    let rehearsed = rehearse(&shape, u64::MAX);
    if let Some(bytes) = &rehearsed {
        pool::set_arena(bytes.arena);
    }
    meter::reset_peak();
    let before = meter::resident_bytes().unwrap_or(0);
    let _keep = Keep::new();
    optimizer.reserve(&network.parameters);
    let (mut best, mut digest) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..steps {
        let start = Instant::now();
        on_worker(|| {
            let step = gradient(&network, &settings, |range: std::ops::Range<usize>| {
                Ok::<_, Infallible>(samples[range].to_vec())
            });
            let Ok(step) = step;
            let norm = global_norm(&step.gradients) / f64::from(settings.loss_scale);
            let factor = clip_factor(norm, 12.0) / f64::from(settings.loss_scale);
            optimizer.update(&mut network.parameters, step.gradients, factor, 0.01);
        });
        best = best.min(start.elapsed().as_secs_f64());
        // What `train` does beside, for the record of the run; after the update it finds in the cache what it would there.
        let start = Instant::now();
        let _ = on_worker(|| network.weights_digest());
        digest = digest.min(start.elapsed().as_secs_f64());
    }
    let peak = meter::peak_bytes().unwrap_or(0).saturating_sub(before) as f64 / f64::from(1 << 20);
    let parameters = network.parameter_count();
    if let Some(bytes) = rehearsed {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let parts = bytes.parts.map(|(part, bytes)| format!("{} {:.0}", part.name(), mib(bytes))).join(", ");
        let between = mib(bytes.between());
        println!("rehearsed: +{:.0} MiB at {}: {parts}, free between {between:.0}", mib(bytes.pool), bytes.place);
    }
    println!("digest of the weights: {:.2} ms, {:.2} % of a step", digest * 1e3, digest / best * 100.0);
    println!("{name} {precision}: parameters {parameters}, best step {best:.3} s, peak memory +{peak:.0} MiB");
    Ok(())
}
