//! The network's layers, and how they are made from a plan.
use burn::tensor::Device;

use super::init::he_normal;
use super::parameter::{Buffer, Parameter};
use super::plan::{NetworkPlan, Norm, Stage};
use super::unet::{EPSILON, SLOPE, UNet};
use crate::ops::NormSpec;
use crate::ops::cpu::norm::Groups;

pub(super) struct ConvLayer {
    pub weights: usize,
    pub bias: usize,
    pub stride: [usize; 3],
}

pub(super) struct NormLayer {
    pub gamma: usize,
    pub beta: usize,
    pub spec: NormSpec,
    /// Index of the running mean among the buffers; the variance follows it.
    pub running: Option<usize>,
}

pub(super) struct Block {
    pub conv: ConvLayer,
    pub norm: NormLayer,
}

pub(super) struct Level {
    /// None where there is one stage, and with it no way up: the head stands on the encoder.
    pub up: Option<Up>,
    pub head: Option<ConvLayer>,
}

pub(super) struct Up {
    /// A transposed convolution; its kernel is its stride.
    pub conv: ConvLayer,
    pub blocks: [Block; 2],
}

/// Builds layers and their parameters.
struct Builder<'a> {
    seed: u64,
    device: &'a Device,
    parameters: Vec<Parameter>,
    buffers: Vec<Buffer>,
}

impl Builder<'_> {
    fn parameter(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>) -> usize {
        self.parameters.push(Parameter::new(name, shape, values, self.device));
        self.parameters.len() - 1
    }

    fn constant(&mut self, name: String, count: usize, value: f32) -> usize {
        self.parameter(name, vec![count], vec![value; count])
    }

    fn weights(&mut self, name: String, shape: [usize; 5], fan_in: usize) -> usize {
        let values = he_normal(self.seed, &name, shape.iter().product(), fan_in);
        self.parameter(name, shape.to_vec(), values)
    }

    fn conv(&mut self, name: &str, from: usize, to: usize, kernel: [usize; 3], stride: [usize; 3]) -> ConvLayer {
        let [z, y, x] = kernel;
        ConvLayer {
            weights: self.weights(format!("{name}.weight"), [to, from, z, y, x], from * z * y * x),
            bias: self.constant(format!("{name}.bias"), to, 0.0),
            stride,
        }
    }

    fn norm(&mut self, name: &str, channels: usize, norm: Norm) -> NormLayer {
        let groups = match norm {
            Norm::Batch => Groups::Batch,
            Norm::Group { groups } => Groups::Group(groups),
            Norm::Instance => Groups::Instance,
        };
        let running = matches!(norm, Norm::Batch).then(|| {
            self.buffers.push(Buffer { name: format!("{name}.running_mean"), values: vec![0.0; channels] });
            self.buffers.push(Buffer { name: format!("{name}.running_var"), values: vec![1.0; channels] });
            self.buffers.len() - 2
        });
        NormLayer {
            gamma: self.constant(format!("{name}.gamma"), channels, 1.0),
            beta: self.constant(format!("{name}.beta"), channels, 0.0),
            spec: NormSpec { groups, epsilon: EPSILON, slope: SLOPE },
            running,
        }
    }

    /// Two blocks; `stride` is the first one's.
    fn blocks(&mut self, name: &str, from: usize, stage: &Stage, stride: [usize; 3]) -> [Block; 2] {
        [(from, stride), (stage.features, [1; 3])].map({
            let mut index = 0;
            move |(from, stride)| {
                let conv = self.conv(&format!("{name}.conv{index}"), from, stage.features, stage.kernel, stride);
                let norm = self.norm(&format!("{name}.norm{index}"), stage.features, stage.norm);
                index += 1;
                Block { conv, norm }
            }
        })
    }
}

impl UNet {
    /// Builds the network with parameters drawn from `seed`.
    pub fn new(plan: &NetworkPlan, seed: u64, device: &Device) -> Self {
        let mut builder = Builder { seed, device, parameters: Vec::new(), buffers: Vec::new() };
        let mut encoder = Vec::new();
        let mut from = plan.in_channels;
        for (index, stage) in plan.stages.iter().enumerate() {
            encoder.push(builder.blocks(&format!("encoder.{index}"), from, stage, stage.stride));
            from = stage.features;
        }
        let mut decoder = Vec::new();
        for index in (0..plan.stages.len().saturating_sub(1)).rev() {
            let (stage, below) = (&plan.stages[index], &plan.stages[index + 1]);
            let [z, y, x] = below.stride;
            let name = format!("decoder.{index}");
            let shape = [below.features, stage.features, z, y, x];
            let up = ConvLayer {
                weights: builder.weights(format!("{name}.up.weight"), shape, stage.features * z * y * x),
                bias: builder.constant(format!("{name}.up.bias"), stage.features, 0.0),
                stride: below.stride,
            };
            let blocks = builder.blocks(&name, 2 * stage.features, stage, [1; 3]);
            let head = (index == 0 || plan.deep_supervision)
                .then(|| builder.conv(&format!("head.{index}"), stage.features, plan.classes, [1; 3], [1; 3]));
            decoder.push(Level { up: Some(Up { conv: up, blocks }), head });
        }
        if plan.stages.len() == 1 {
            let head = builder.conv("head.0", plan.stages[0].features, plan.classes, [1; 3], [1; 3]);
            decoder.push(Level { up: None, head: Some(head) });
        }
        // Made in the order of the forward pass, found by resolution.
        decoder.reverse();
        Self { plan: plan.clone(), parameters: builder.parameters, buffers: builder.buffers, encoder, decoder }
    }
}
