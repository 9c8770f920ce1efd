//! nnU-Net's plain 3D U-Net over the operations of [`crate::ops`].
//!
//! Encoder stage i: two times (convolution, norm, LeakyReLU), the first with the stage's stride. Decoder level i (from the
//! deepest up): transposed convolution to stage i's size, concatenation behind it of stage i's output, two times
//! (convolution, norm, LeakyReLU), and a 1x1x1 convolution to the classes, the head.
use burn::tensor::{Device, Tensor};

use super::init::he_normal;
use super::parameter::{Buffer, Parameter, weights_sha256};
use super::plan::{NetworkPlan, Norm, Stage};
use crate::ops::cpu::norm::Groups;
use crate::ops::{self, Activation, Affine, NormSpec, ParameterSinks};

/// LeakyReLU's slope below zero.
pub const SLOPE: f32 = 0.01;
/// Added to the variance of every norm.
const EPSILON: f32 = 1e-5;
/// Share of the new value in a batch norm's running statistics.
const MOMENTUM: f64 = 0.1;

/// What a pass is for.
pub enum Mode<'a> {
    /// Every head that counts, finest first; batch statistics are noted down where there are batch norms.
    Train(&'a mut BatchStatistics),
    /// The finest head alone; batch norms use what they remember.
    Predict,
}

/// Batch statistics of the micro-batches of one step: per norm layer the sums of mean and unbiased variance.
#[derive(Clone, Debug, Default)]
pub struct BatchStatistics {
    sums: Vec<Vec<f64>>,
    micro_batches: usize,
}

struct ConvLayer {
    weights: usize,
    bias: usize,
    stride: [usize; 3],
}

struct NormLayer {
    gamma: usize,
    beta: usize,
    spec: NormSpec,
    /// Index of the running mean among the buffers; the variance follows it.
    running: Option<usize>,
}

struct Block {
    conv: ConvLayer,
    norm: NormLayer,
}

struct Level {
    /// None where there is one stage, and with it no way up: the head stands on the encoder.
    up: Option<Up>,
    head: Option<ConvLayer>,
}

struct Up {
    /// A transposed convolution; its kernel is its stride.
    conv: ConvLayer,
    blocks: [Block; 2],
}

/// The network and its parameters.
pub struct UNet {
    plan: NetworkPlan,
    /// In the order of the forward pass.
    pub parameters: Vec<Parameter>,
    /// Running statistics of batch norms, mean and variance in turn.
    pub buffers: Vec<Buffer>,
    encoder: Vec<[Block; 2]>,
    /// Deepest first.
    decoder: Vec<Level>,
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
        Self { plan: plan.clone(), parameters: builder.parameters, buffers: builder.buffers, encoder, decoder }
    }

    pub fn plan(&self) -> &NetworkPlan {
        &self.plan
    }

    /// Learnt numbers.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.value.dims()[0]).sum()
    }

    /// Logits `[batch, class, z, y, x]` of the heads, finest first, from `input` `[batch, channel, z, y, x]` in the
    /// activation type; z, y, x must be divisible by the plan's divisor.
    pub fn forward(&self, input: Tensor<5>, mut mode: Mode<'_>) -> Vec<Tensor<5>> {
        let mut layer = 0;
        let mut skips = Vec::new();
        let mut x: Option<Activation> = None;
        for [first, second] in &self.encoder {
            let raw = match x {
                None => self.stem(input.clone(), first, second, &mut mode, &mut layer),
                Some(above) => {
                    let raw = ops::conv(above, self.affine(&first.conv), first.conv.stride);
                    let x = self.norm(&first.norm, raw, &mut mode, &mut layer);
                    ops::conv(x, self.affine(&second.conv), second.conv.stride)
                }
            };
            let output = self.norm(&second.norm, raw, &mut mode, &mut layer);
            skips.push(output.clone());
            x = Some(output);
        }
        drop(input);
        let Some(mut x) = x else { return Vec::new() };
        skips.pop();
        let training = matches!(mode, Mode::Train(_));
        let used = if training { head_weights(self.plan.stages.len(), self.plan.deep_supervision).len() } else { 1 };
        let levels = self.decoder.len();
        let mut heads = Vec::new();
        for (index, level) in self.decoder.iter().enumerate() {
            if let (Some(up), Some(skip)) = (&level.up, skips.pop()) {
                let [first, second] = &up.blocks;
                let raw = ops::join(x, self.affine(&up.conv), up.conv.stride, skip, self.affine(&first.conv));
                x = self.norm(&first.norm, raw, &mut mode, &mut layer);
                let raw = ops::conv(x, self.affine(&second.conv), second.conv.stride);
                x = self.norm(&second.norm, raw, &mut mode, &mut layer);
            }
            if let Some(head) = level.head.as_ref().filter(|_| levels - index <= used) {
                heads.push(ops::conv(x.clone(), self.affine(head), head.stride));
            }
        }
        if let Mode::Train(statistics) = &mut mode {
            statistics.micro_batches += 1;
        }
        heads.reverse();
        heads
    }

    fn sinks(&self, weights: usize, bias: usize) -> ParameterSinks {
        let sink = |index: usize| self.parameters[index].sink.clone();
        ParameterSinks { weights: sink(weights), bias: sink(bias) }
    }

    fn affine(&self, layer: &ConvLayer) -> Affine<5> {
        let (weights, bias) = (&self.parameters[layer.weights], &self.parameters[layer.bias]);
        let sinks = self.sinks(layer.weights, layer.bias);
        Affine { weights: weights.weights(), bias: bias.value.clone(), sinks }
    }

    /// The first stage, whose first convolution is not kept.
    fn stem(
        &self,
        image: Tensor<5>,
        first: &Block,
        second: &Block,
        mode: &mut Mode<'_>,
        layer: &mut usize,
    ) -> Tensor<5> {
        let training = matches!(mode, Mode::Train(_));
        let detached = if training { image.clone().inner() } else { image.clone() };
        let raw = ops::conv(Activation::plain(detached), self.affine(&first.conv), first.conv.stride);
        let statistics = self.statistics(&first.norm, &raw, mode, layer);
        let norm = (self.norm_affine(&first.norm), first.norm.spec);
        ops::stem(image, raw, statistics, self.affine(&first.conv), norm, self.affine(&second.conv))
    }

    fn norm_affine(&self, layer: &NormLayer) -> Affine<1> {
        let (gamma, beta) = (&self.parameters[layer.gamma], &self.parameters[layer.beta]);
        let sinks = self.sinks(layer.gamma, layer.beta);
        Affine { weights: gamma.value.clone(), bias: beta.value.clone(), sinks }
    }

    fn norm(&self, layer: &NormLayer, raw: Tensor<5>, mode: &mut Mode<'_>, index: &mut usize) -> Activation {
        let statistics = self.statistics(layer, &raw, mode, index);
        ops::norm_act(raw, statistics, self.norm_affine(layer), layer.spec)
    }

    /// What a layer normalises by; a batch norm's are noted down for the running ones.
    fn statistics(&self, layer: &NormLayer, raw: &Tensor<5>, mode: &mut Mode<'_>, index: &mut usize) -> Tensor<2> {
        let found = |raw: &Tensor<5>| ops::norm_statistics(raw.clone(), layer.spec);
        match (layer.running, mode) {
            (Some(running), Mode::Predict) => self.remembered(running, &raw.device()),
            (Some(_), Mode::Train(noted)) => {
                let [batch, _, z, y, x] = raw.dims();
                let statistics = found(raw);
                noted.add(*index, &statistics, batch * z * y * x);
                *index += 1;
                statistics
            }
            (None, _) => found(raw),
        }
    }

    fn remembered(&self, running: usize, device: &Device) -> Tensor<2> {
        let (mean, variance) = (&self.buffers[running].values, &self.buffers[running + 1].values);
        let rstd = variance.iter().map(|v| (1.0 / (f64::from(*v) + f64::from(EPSILON)).sqrt()) as f32);
        let values: Vec<f32> = mean.iter().copied().chain(rstd).collect();
        let data = burn::tensor::TensorData::new(values, [2, mean.len()]);
        Tensor::from_data(data, &device.clone().inner())
    }

    /// Moves the running statistics of batch norms by the mean over the step's micro-batches: one update a step.
    pub fn remember(&mut self, statistics: &BatchStatistics) {
        for (layer, sums) in statistics.sums.iter().enumerate() {
            for (half, buffer) in self.buffers[2 * layer..2 * layer + 2].iter_mut().enumerate() {
                let sums = &sums[half * buffer.values.len()..];
                for (value, sum) in buffer.values.iter_mut().zip(sums) {
                    let new = sum / statistics.micro_batches.max(1) as f64;
                    *value = (f64::from(*value) * (1.0 - MOMENTUM) + MOMENTUM * new) as f32;
                }
            }
        }
    }

    /// Digest of all parameters and buffers; see [`weights_sha256`].
    pub fn weights_sha256(&self) -> String {
        let parameters = self.parameters.iter().map(|p| (p.name.as_str(), p.shape.clone(), p.values()));
        let buffers = self.buffers.iter().map(|b| (b.name.as_str(), vec![b.values.len()], b.values.clone()));
        weights_sha256(parameters.chain(buffers))
    }
}

impl BatchStatistics {
    /// Adds one layer's mean and unbiased variance; `count` values share each.
    fn add(&mut self, layer: usize, statistics: &Tensor<2>, count: usize) {
        let [_, channels] = statistics.dims();
        let values = super::parameter::host(&statistics.clone().reshape([2 * channels]));
        if self.sums.len() <= layer {
            self.sums.push(vec![0.0; 2 * channels]);
        }
        let unbiased = count as f64 / (count.max(2) - 1) as f64;
        for (at, sum) in self.sums[layer].iter_mut().enumerate() {
            let value = f64::from(values[at]);
            *sum += if at < channels { value } else { (1.0 / (value * value) - f64::from(EPSILON)) * unbiased };
        }
    }
}

/// Weights of the heads that count in the loss, finest first: 1, 1/2, 1/4, ... without the lowest, normalised.
pub fn head_weights(stages: usize, deep_supervision: bool) -> Vec<f64> {
    let heads = if deep_supervision { stages.saturating_sub(2).max(1) } else { 1 };
    let weights: Vec<f64> = (0..heads).map(|head| 0.5f64.powi(head as i32)).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}
