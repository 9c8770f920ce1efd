//! The sizes of the network's layers.
use half::{bf16, f16};

use super::walk::Walk;
use crate::config::Activations;
use crate::ops::cpu::conv::ConvShape;
use crate::ops::cpu::conv::room::{self, Room};

/// Which pass of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Input,
    Weights,
}

/// A convolution of the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub shape: ConvShape,
    /// Transposed: its forward pass is the shape's input gradient, and the other way round.
    pub transposed: bool,
    /// Number of its weights among the parameters; the bias follows.
    pub weights: usize,
}

impl Walk<'_> {
    /// Bytes of an activation.
    pub fn element(&self) -> usize {
        if self.shape.activations == Activations::F32 { 4 } else { 2 }
    }

    /// Voxels of a stage, z, y, x.
    pub fn size(&self, stage: usize) -> [usize; 3] {
        let mut size = self.shape.patch;
        for stage in &self.shape.plan.stages[..=stage] {
            size = std::array::from_fn(|axis| size[axis].div_ceil(stage.stride[axis]));
        }
        size
    }

    pub fn voxels(&self, stage: usize) -> usize {
        self.size(stage).iter().product()
    }

    /// Bytes of a stage's activation.
    pub fn activation(&self, stage: usize, samples: usize) -> usize {
        self.element() * samples * self.shape.plan.stages[stage].features * self.voxels(stage)
    }

    /// Bytes of a level's logits.
    pub fn logits(&self, level: usize, samples: usize) -> usize {
        self.element() * samples * self.shape.plan.classes * self.voxels(level)
    }

    /// Values of each parameter, in the network's order.
    pub fn parameters(&self) -> Vec<usize> {
        let plan = self.shape.plan;
        let mut lengths = Vec::new();
        let block = |lengths: &mut Vec<usize>, from: usize, stage: usize| {
            let stage = &plan.stages[stage];
            let taps: usize = stage.kernel.iter().product();
            // Weights, bias, gamma, beta.
            lengths.extend([from * stage.features * taps, stage.features, stage.features, stage.features]);
        };
        let mut from = plan.in_channels;
        for (index, stage) in plan.stages.iter().enumerate() {
            block(&mut lengths, from, index);
            block(&mut lengths, stage.features, index);
            from = stage.features;
        }
        let last = plan.stages.len() - 1;
        for index in (0..last.max(1)).rev() {
            let features = plan.stages[index].features;
            if index < last {
                let below = &plan.stages[index + 1];
                lengths.extend([below.features * features * below.stride.iter().product::<usize>(), features]);
                block(&mut lengths, 2 * features, index);
                block(&mut lengths, features, index);
            }
            if index == 0 || plan.deep_supervision {
                lengths.extend([features * plan.classes, plan.classes]);
            }
        }
        lengths
    }

    /// Convolution `index` (0 or 1) of an encoder stage.
    pub fn encoder(&self, stage: usize, index: usize, samples: usize) -> Layer {
        let plan = self.shape.plan;
        let features = plan.stages[stage].features;
        let (from, size, stride) = match (index, stage) {
            (0, 0) => (plan.in_channels, self.shape.patch, plan.stages[0].stride),
            (0, _) => (plan.stages[stage - 1].features, self.size(stage - 1), plan.stages[stage].stride),
            _ => (features, self.size(stage), [1; 3]),
        };
        Layer {
            shape: ConvShape {
                batch: samples,
                in_channels: from,
                out_channels: features,
                size,
                kernel: plan.stages[stage].kernel,
                stride,
            },
            transposed: false,
            weights: 8 * stage + 4 * index,
        }
    }

    /// Parameters before those of a decoder level.
    fn level_start(&self, level: usize) -> usize {
        let plan = self.shape.plan;
        let per_level = if plan.deep_supervision { 12 } else { 10 };
        8 * plan.stages.len() + per_level * (plan.stages.len().saturating_sub(2) - level.min(plan.stages.len() - 1))
    }

    /// The way up to a level.
    pub fn up(&self, level: usize, samples: usize) -> Layer {
        let stages = &self.shape.plan.stages;
        Layer {
            shape: ConvShape {
                batch: samples,
                in_channels: stages[level].features,
                out_channels: stages[level + 1].features,
                size: self.size(level),
                kernel: stages[level + 1].stride,
                stride: stages[level + 1].stride,
            },
            transposed: true,
            weights: self.level_start(level),
        }
    }

    /// Convolution `index` (0 or 1) of a decoder level.
    pub fn decoder(&self, level: usize, index: usize, samples: usize) -> Layer {
        let stage = &self.shape.plan.stages[level];
        let from = if index == 0 { 2 * stage.features } else { stage.features };
        Layer {
            shape: ConvShape {
                batch: samples,
                in_channels: from,
                out_channels: stage.features,
                size: self.size(level),
                kernel: stage.kernel,
                stride: [1; 3],
            },
            transposed: false,
            weights: self.level_start(level) + 2 + 4 * index,
        }
    }

    /// A level's head, where it has one.
    pub fn head_layer(&self, level: usize, samples: usize) -> Layer {
        let plan = self.shape.plan;
        let weights = if plan.stages.len() == 1 { 8 } else { self.level_start(level) + 10 };
        Layer {
            shape: ConvShape {
                batch: samples,
                in_channels: plan.stages[level].features,
                out_channels: plan.classes,
                size: self.size(level),
                kernel: [1; 3],
                stride: [1; 3],
            },
            transposed: false,
            weights,
        }
    }

    /// Scratch of a layer's pass.
    pub fn room(&self, layer: Layer, direction: Direction) -> Room {
        match self.shape.activations {
            Activations::F32 => self.room_of::<f32>(layer, direction),
            Activations::Bf16 => self.room_of::<bf16>(layer, direction),
            Activations::F16 => self.room_of::<f16>(layer, direction),
        }
    }

    fn room_of<E: crate::ops::cpu::element::Element>(&self, layer: Layer, direction: Direction) -> Room {
        let (isa, threads) = (self.shape.isa, self.shape.threads.max(1));
        match direction {
            Direction::Weights => room::weight_gradient::<E>(isa, &layer.shape, threads),
            Direction::Forward if !layer.transposed => room::forward::<E>(isa, &layer.shape, threads),
            Direction::Input if layer.transposed => room::forward::<E>(isa, &layer.shape, threads),
            _ => room::input_gradient::<E>(isa, &layer.shape, threads),
        }
    }
}
