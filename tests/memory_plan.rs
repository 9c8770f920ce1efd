//! What a step holds is what its rehearsal says. The pool counts for the whole process, so there is one test here.
use std::convert::Infallible;

use burn::tensor::{Device, FloatDType};
use ndarray::{Array3, Array4};
use voxfit::config::{Activations, OptimizerName, Recompute, Train};
use voxfit::memory::step::{StepBytes, StepShape, rehearse};
use voxfit::network::UNet;
use voxfit::network::plan::{Kind, NetworkPlan, Norm, Stage};
use voxfit::ops::cpu::isa::isa;
use voxfit::ops::cpu::pool::{self, Keep, Pool};
use voxfit::ops::cpu::worker::on_worker;
use voxfit::ops::tree::Stretch;
use voxfit::patch::Sample;
use voxfit::ranks::Ranks;
use voxfit::train::optimizer::Optimizer;
use voxfit::train::step::{StepSettings, gradient};

#[global_allocator]
static ALLOCATOR: Pool = Pool;

#[derive(Clone, Copy, Debug)]
struct Case {
    /// Voxels, z, y, x.
    patch: [usize; 3],
    features: &'static [usize],
    channels: usize,
    norm: Norm,
    activations: Activations,
    effective: usize,
    micro: usize,
    recompute: Recompute,
    optimizer: OptimizerName,
    ema_decay: f64,
    kind: Kind,
    batch_dice: bool,
}

const CASE: Case = Case {
    patch: [32; 3],
    features: &[16, 32, 64],
    channels: 1,
    norm: Norm::Instance,
    activations: Activations::Bf16,
    effective: 2,
    micro: 2,
    recompute: Recompute::None,
    optimizer: OptimizerName::Sgd,
    ema_decay: 0.0,
    kind: Kind::Plain,
    batch_dice: false,
};

impl Case {
    fn plan(&self) -> NetworkPlan {
        let flat = self.patch[0] < self.patch[2] / 2;
        let stage = |(index, features): (usize, &usize)| Stage {
            features: *features,
            kernel: if flat && index == 0 { [1, 3, 3] } else { [3; 3] },
            stride: match index {
                0 => [1; 3],
                1 if flat => [1, 2, 2],
                _ => [2; 3],
            },
            norm: self.norm,
        };
        let stages = self.features.iter().enumerate().map(stage).collect();
        NetworkPlan { kind: self.kind, in_channels: self.channels, classes: 3, stages, deep_supervision: true }
    }

    fn predicted(&self) -> StepBytes {
        rehearse(
            &StepShape {
                plan: &self.plan(),
                patch: self.patch,
                source: [0; 3],
                stretch: Stretch::whole(self.effective),
                micro: self.micro,
                activations: self.activations,
                recompute: self.recompute,
                remembered: Train { optimizer: self.optimizer, ema_decay: self.ema_decay, ..Train::default() }
                    .remembered(),
                threads: rayon::current_num_threads(),
                isa: isa(),
            },
            u64::MAX,
        )
        .unwrap()
    }

    /// Bytes that the pool has after some steps.
    fn measured(&self) -> u64 {
        let device = Device::flex();
        let mut network = UNet::new(&self.plan(), 0, &device);
        let mut optimizer = Optimizer::new(self.optimizer, 0.0).averaging(self.ema_decay);
        let [z, y, x] = self.patch;
        let sample = |number: usize| Sample {
            image: Array4::from_shape_fn((self.channels, z, y, x), |(c, z, y, x)| {
                ((c + 3 * x + 5 * y + 7 * z + number) % 11) as f32 / 5.0 - 1.0
            }),
            label: Array3::from_shape_fn((z, y, x), |(z, y, x)| ((z + y / 2 + x / 3) % 3) as u16),
        };
        let settings = StepSettings {
            effective: self.effective,
            micro: self.micro,
            recompute: self.recompute,
            patch: self.patch,
            activations: match self.activations {
                Activations::F32 => FloatDType::F32,
                Activations::Bf16 => FloatDType::BF16,
                Activations::F16 => FloatDType::F16,
            },
            ignore: None,
            regions: None,
            batch_dice: self.batch_dice,
            loss_scale: 1.0,
            device,
            ranks: Ranks::alone(),
        };
        pool::set_arena(self.predicted().arena);
        let _keep = Keep::new();
        optimizer.reserve(&network.parameters);
        for _ in 0..5 {
            on_worker(|| {
                let Ok(step) = gradient(&network, &settings, |range: std::ops::Range<usize>| {
                    Ok::<_, Infallible>(range.map(sample).collect())
                });
                optimizer.update(&mut network.parameters, step.gradients, 1.0, 0.01);
            });
        }
        pool::bytes().0 as u64
    }
}

#[test]
fn rehearsed_steps_are_those_that_run() {
    let cases = [
        CASE,
        Case { recompute: Recompute::Blocks, ..CASE },
        Case { micro: 1, ..CASE },
        Case { micro: 1, recompute: Recompute::Blocks, patch: [48, 40, 56], ..CASE },
        Case { activations: Activations::F32, ..CASE },
        Case { activations: Activations::F32, recompute: Recompute::Blocks, micro: 1, patch: [64, 48, 40], ..CASE },
        Case { activations: Activations::F16, channels: 4, patch: [40; 3], ..CASE },
        Case { optimizer: OptimizerName::Adamw, features: &[32, 64, 128], ..CASE },
        Case { ema_decay: 0.99, features: &[32, 64, 128], micro: 1, ..CASE },
        Case { norm: Norm::Group { groups: 8 }, effective: 3, patch: [16, 64, 64], ..CASE },
        Case { norm: Norm::Batch, features: &[32, 64, 128, 256], ..CASE },
        Case { features: &[16], ..CASE },
        Case { features: &[8, 16], patch: [24; 3], effective: 13, ..CASE },
        Case { features: &[32, 64], patch: [24; 3], effective: 40, micro: 1, ..CASE },
        Case { features: &[32, 64], patch: [24; 3], effective: 11, micro: 2, ..CASE },
        Case { features: &[32, 64], patch: [24; 3], effective: 8, micro: 4, ..CASE },
        Case { batch_dice: true, ..CASE },
        Case { batch_dice: true, effective: 3, micro: 1, recompute: Recompute::Blocks, ..CASE },
        Case { kind: Kind::ResEnc, ..CASE },
        Case { kind: Kind::ResEnc, recompute: Recompute::Blocks, micro: 1, ..CASE },
        Case { kind: Kind::ResEnc, features: &[32, 64, 64, 64], activations: Activations::F32, ..CASE },
        Case { kind: Kind::ResEnc, features: &[32, 64, 64, 64], recompute: Recompute::Blocks, effective: 3, ..CASE },
        Case { kind: Kind::ResEnc, norm: Norm::Group { groups: 8 }, effective: 3, patch: [16, 64, 64], ..CASE },
        Case { kind: Kind::ResEnc, features: &[16], ..CASE },
    ];
    for case in cases {
        let (predicted, measured) = (case.predicted(), case.measured());
        // To the byte: every block that the step takes is in the rehearsal, in its place.
        assert_eq!(predicted.pool, measured, "{case:?}");
    }
}
