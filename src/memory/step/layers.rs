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

    /// Convolution `index` (0 or 1) of a stage of the plain encoder.
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
            weights: self.numbers.stages[stage][0].convolutions[index],
        }
    }

    /// The convolution in front of the residual encoder.
    pub fn stem(&self, samples: usize) -> Layer {
        let plan = self.shape.plan;
        let from = plan.in_channels;
        self.layer(samples, [from, plan.stages[0].features], self.size(0), plan.stages[0].kernel, self.numbers.stem)
    }

    /// Channels and size that come into a residual block, z, y, x.
    pub fn block_input(&self, stage: usize, block: usize) -> (usize, [usize; 3]) {
        let stages = &self.shape.plan.stages;
        match (stage, block) {
            (1.., 0) => (stages[stage - 1].features, self.size(stage - 1)),
            _ => (stages[stage].features, self.size(stage)),
        }
    }

    /// Convolution `index` (0 or 1) of a residual block.
    pub fn residual(&self, stage: usize, block: usize, index: usize, samples: usize) -> Layer {
        let plan = &self.shape.plan.stages[stage];
        let (from, size) = if index == 0 { self.block_input(stage, block) } else { (plan.features, self.size(stage)) };
        let weights = self.numbers.stages[stage][block].convolutions[index];
        let mut layer = self.layer(samples, [from, plan.features], size, plan.kernel, weights);
        if index == 0 && block == 0 {
            layer.shape.stride = plan.stride;
        }
        layer
    }

    /// The convolution beside a residual block, where there is one.
    pub fn beside(&self, stage: usize, block: usize, samples: usize) -> Option<Layer> {
        let weights = self.numbers.stages[stage][block].beside?;
        let (from, _) = self.block_input(stage, block);
        let to = self.shape.plan.stages[stage].features;
        Some(self.layer(samples, [from, to], self.size(stage), [1; 3], weights))
    }

    fn layer(
        &self,
        batch: usize,
        [in_channels, out_channels]: [usize; 2],
        size: [usize; 3],
        kernel: [usize; 3],
        weights: usize,
    ) -> Layer {
        let shape = ConvShape { batch, in_channels, out_channels, size, kernel, stride: [1; 3] };
        Layer { shape, transposed: false, weights }
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
            weights: self.numbers.levels[level].up,
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
            weights: self.numbers.levels[level].convolutions[index],
        }
    }

    /// A level's head, where it has one.
    pub fn head_layer(&self, level: usize, samples: usize) -> Layer {
        let plan = self.shape.plan;
        let weights = self.numbers.levels[level].head;
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
