//! The network's layers, and how they are made from a plan.
use burn::tensor::Device;

use super::init::he_normal;
use super::parameter::{Buffer, Parameter};
use super::plan::{Kind, NetworkPlan, Norm, Stage};
use super::unet::{EPSILON, SLOPE, UNet};
use crate::ops::NormSpec;
use crate::ops::cpu::norm::Groups;

pub(super) struct ConvLayer {
    pub weights: usize,
    /// None where nothing is added: in front of a norm of its own, as nnU-Net has it beside residual blocks.
    pub bias: Option<usize>,
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

/// Two convolutions, around which what they read is added to what they give.
pub(super) struct ResidualBlock {
    /// The block's stride is its first convolution's; its last norm has no activation.
    pub convolutions: [Block; 2],
    pub beside: Beside,
}

/// What is done to the input of a residual block, so that it can be added to the output.
pub(super) struct Beside {
    /// Averages over cells of the stride, where there is one.
    pub average: Option<[usize; 3]>,
    /// A 1x1x1 convolution with a norm and without activation, where the number of channels changes.
    pub projection: Option<Block>,
}

/// An encoder stage.
pub(super) enum EncoderStage {
    Plain([Block; 2]),
    Residual(Vec<ResidualBlock>),
}

pub(super) struct Level {
    /// None where there is one stage, and with it no way up: the head stands on the encoder.
    pub up: Option<Up>,
    pub head: Option<ConvLayer>,
}

pub(super) struct Up {
    /// A transposed convolution; its kernel is its stride.
    pub conv: ConvLayer,
    pub first: Block,
    /// Of the plain network alone.
    pub second: Option<Block>,
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
            bias: Some(self.constant(format!("{name}.bias"), to, 0.0)),
            stride,
        }
    }

    fn norm(&mut self, name: &str, channels: usize, norm: Norm) -> NormLayer {
        self.norm_and_slope(name, channels, norm, SLOPE, 1.0)
    }

    fn norm_and_slope(&mut self, name: &str, channels: usize, norm: Norm, slope: f32, gamma: f32) -> NormLayer {
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
            gamma: self.constant(format!("{name}.gamma"), channels, gamma),
            beta: self.constant(format!("{name}.beta"), channels, 0.0),
            spec: NormSpec { groups, epsilon: EPSILON, slope },
            running,
        }
    }

    /// Convolution and norm `index` of `name`.
    fn block(&mut self, name: &str, index: usize, from: usize, stage: &Stage, stride: [usize; 3]) -> Block {
        let conv = self.conv(&format!("{name}.conv{index}"), from, stage.features, stage.kernel, stride);
        let norm = self.norm(&format!("{name}.norm{index}"), stage.features, stage.norm);
        Block { conv, norm }
    }

    fn stage(&mut self, plan: &NetworkPlan, index: usize, from: usize) -> EncoderStage {
        let (name, stage) = (format!("encoder.{index}"), &plan.stages[index]);
        match plan.kind {
            Kind::Plain => EncoderStage::Plain([
                self.block(&name, 0, from, stage, stage.stride),
                self.block(&name, 1, stage.features, stage, [1; 3]),
            ]),
            Kind::ResEnc => EncoderStage::Residual(
                (0..plan.kind.blocks(index))
                    .map(|block| {
                        let (from, stride) = if block == 0 { (from, stage.stride) } else { (stage.features, [1; 3]) };
                        self.residual_block(&format!("{name}.block{block}"), from, stage, stride)
                    })
                    .collect(),
            ),
        }
    }

    /// The last norm begins at zero, so that a block begins as the identity (nnU-Net's `init_last_bn_before_add_to_0`).
    fn residual_block(&mut self, name: &str, from: usize, stage: &Stage, stride: [usize; 3]) -> ResidualBlock {
        let first = self.block(name, 0, from, stage, stride);
        let conv = self.conv(&format!("{name}.conv1"), stage.features, stage.features, stage.kernel, [1; 3]);
        let norm = self.norm_and_slope(&format!("{name}.norm1"), stage.features, stage.norm, 1.0, 0.0);
        let projection = (from != stage.features).then(|| Block {
            conv: ConvLayer {
                weights: self.weights(format!("{name}.skip.weight"), [stage.features, from, 1, 1, 1], from),
                bias: None,
                stride: [1; 3],
            },
            norm: self.norm_and_slope(&format!("{name}.skip_norm"), stage.features, stage.norm, 1.0, 1.0),
        });
        let average = (stride != [1; 3]).then_some(stride);
        ResidualBlock { convolutions: [first, Block { conv, norm }], beside: Beside { average, projection } }
    }
}

impl UNet {
    /// Builds the network with parameters drawn from `seed`.
    pub fn new(plan: &NetworkPlan, seed: u64, device: &Device) -> Self {
        let mut builder = Builder { seed, device, parameters: Vec::new(), buffers: Vec::new() };
        let mut encoder = Vec::new();
        let mut from = plan.in_channels;
        let stem = (plan.kind == Kind::ResEnc).then(|| {
            let block = builder.block("stem", 0, from, &plan.stages[0], [1; 3]);
            from = plan.stages[0].features;
            block
        });
        for (index, stage) in plan.stages.iter().enumerate() {
            encoder.push(builder.stage(plan, index, from));
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
                bias: Some(builder.constant(format!("{name}.up.bias"), stage.features, 0.0)),
                stride: below.stride,
            };
            let first = builder.block(&name, 0, 2 * stage.features, stage, [1; 3]);
            let second =
                (plan.kind.decoder_convolutions() > 1).then(|| builder.block(&name, 1, stage.features, stage, [1; 3]));
            let head = (index == 0 || plan.deep_supervision)
                .then(|| builder.conv(&format!("head.{index}"), stage.features, plan.classes, [1; 3], [1; 3]));
            decoder.push(Level { up: Some(Up { conv: up, first, second }), head });
        }
        if plan.stages.len() == 1 {
            let head = builder.conv("head.0", plan.stages[0].features, plan.classes, [1; 3], [1; 3]);
            decoder.push(Level { up: None, head: Some(head) });
        }
        // Made in the order of the forward pass, found by resolution.
        decoder.reverse();
        let (parameters, buffers) = (builder.parameters, builder.buffers);
        Self { plan: plan.clone(), parameters, buffers, stem, encoder, decoder }
    }
}
