//! What a tile's passes hold is what their rehearsal says. The pool counts for the whole process, so there is one test here.
use burn::tensor::{Device, FloatDType};
use ndarray::Array4;
use voxfit::config::{Activations, Recompute};
use voxfit::dataset::prepare::Preparation;
use voxfit::memory::step::{StepShape, rehearse_forward};
use voxfit::network::UNet;
use voxfit::network::plan::{Kind, NetworkPlan, Norm, Stage};
use voxfit::ops::cpu::isa::isa;
use voxfit::ops::cpu::pool::{self, Keep, Pool};
use voxfit::ops::cpu::worker::on_worker;
use voxfit::ops::tree::Stretch;
use voxfit::predict::{Memory, Predictor, PredictorSettings};
use voxfit::volume::normalise::Normalisation;

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
    networks: usize,
    mirror: [bool; 3],
}

const CASE: Case = Case {
    patch: [32; 3],
    features: &[16, 32, 64],
    channels: 1,
    norm: Norm::Instance,
    activations: Activations::Bf16,
    networks: 1,
    mirror: [false; 3],
};

impl Case {
    fn plan(&self) -> NetworkPlan {
        let stage = |(index, features): (usize, &usize)| Stage {
            features: *features,
            kernel: [3; 3],
            stride: if index == 0 { [1; 3] } else { [2; 3] },
            norm: self.norm,
        };
        let stages = self.features.iter().enumerate().map(stage).collect();
        NetworkPlan { kind: Kind::Plain, in_channels: self.channels, classes: 3, stages, deep_supervision: true }
    }

    fn predicted(&self, passes: usize) -> u64 {
        let shape = StepShape {
            plan: &self.plan(),
            patch: self.patch,
            source: [0; 3],
            stretch: Stretch::whole(1),
            micro: 1,
            activations: self.activations,
            recompute: Recompute::None,
            remembered: 1,
            threads: rayon::current_num_threads(),
            isa: isa(),
        };
        rehearse_forward(&shape, passes).unwrap().pool
    }

    /// Passes of a tile, and the bytes that the pool has after some tiles.
    fn measured(&self) -> (usize, u64) {
        let device = Device::flex();
        let networks: Vec<UNet> =
            (0..self.networks as u64).map(|seed| UNet::new(&self.plan(), seed, &device)).collect();
        let preparation = Preparation {
            spacing: [1.0; 3],
            normalisation: vec![Normalisation::ZScore { nonzero: false }; self.channels],
        };
        let predictor = Predictor {
            networks: networks.iter().collect(),
            preparation: &preparation,
            settings: PredictorSettings {
                patch: self.patch,
                classes: 3,
                paint: None,
                activations: match self.activations {
                    Activations::F32 => FloatDType::F32,
                    Activations::Bf16 => FloatDType::BF16,
                    Activations::F16 => FloatDType::F16,
                },
                device,
                overlap: 0.5,
                mirror: self.mirror,
            },
            memory: Memory::unbounded(),
            tiles: None,
        };
        let [z, y, x] = self.patch;
        let _keep = Keep::new();
        for number in 0..4 {
            on_worker(|| {
                let tile = Array4::from_shape_fn((self.channels, z, y, x), |(c, z, y, x)| {
                    ((c + 3 * x + 5 * y + 7 * z + number) % 11) as f32 / 5.0 - 1.0
                });
                predictor.tile_scores(&tile)
            });
        }
        (predictor.passes(), pool::bytes().0 as u64)
    }
}

#[test]
fn rehearsed_tiles_are_those_that_run() {
    let cases = [
        CASE,
        Case { patch: [64; 3], features: &[16, 32, 64, 128], ..CASE },
        Case { activations: Activations::F32, patch: [48, 40, 56], ..CASE },
        Case { activations: Activations::F16, channels: 4, patch: [40; 3], ..CASE },
        Case { mirror: [true, false, false], ..CASE },
        Case { networks: 2, mirror: [true; 3], activations: Activations::F32, ..CASE },
        Case { norm: Norm::Group { groups: 8 }, patch: [16, 64, 64], ..CASE },
        Case { norm: Norm::Batch, features: &[32, 64, 128], ..CASE },
        Case { features: &[16], ..CASE },
        Case { features: &[8, 16], patch: [24; 3], ..CASE },
    ];
    for case in cases {
        let (passes, measured) = case.measured();
        // To the byte: every block that a pass takes is in the rehearsal, in its place.
        assert_eq!(case.predicted(passes), measured, "{case:?}");
    }
}
