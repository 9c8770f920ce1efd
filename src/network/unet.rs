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
use crate::ops::{self, ConvSpec, NormSpec, ParameterSinks, UpsampleSpec};

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
    spec: ConvSpec,
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
    upsample_weights: usize,
    upsample_bias: usize,
    upsample: UpsampleSpec,
    blocks: Vec<Block>,
    head: Option<ConvLayer>,
}

/// The network and its parameters.
pub struct UNet {
    plan: NetworkPlan,
    /// In the order of the forward pass.
    pub parameters: Vec<Parameter>,
    /// Running statistics of batch norms, mean and variance in turn.
    pub buffers: Vec<Buffer>,
    encoder: Vec<Vec<Block>>,
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
        let first = self.parameters.is_empty();
        ConvLayer {
            weights: self.weights(format!("{name}.weight"), [to, from, z, y, x], from * z * y * x),
            bias: self.constant(format!("{name}.bias"), to, 0.0),
            spec: ConvSpec { stride, input_gradient: !first },
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
    fn blocks(&mut self, name: &str, from: usize, stage: &Stage, stride: [usize; 3]) -> Vec<Block> {
        (0..2)
            .map(|index| {
                let (from, stride) = if index == 0 { (from, stride) } else { (stage.features, [1; 3]) };
                Block {
                    conv: self.conv(&format!("{name}.conv{index}"), from, stage.features, stage.kernel, stride),
                    norm: self.norm(&format!("{name}.norm{index}"), stage.features, stage.norm),
                }
            })
            .collect()
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
            let upsample_weights = builder.weights(format!("{name}.up.weight"), shape, stage.features * z * y * x);
            let upsample_bias = builder.constant(format!("{name}.up.bias"), stage.features, 0.0);
            let blocks = builder.blocks(&name, 2 * stage.features, stage, [1; 3]);
            let head = (index == 0 || plan.deep_supervision)
                .then(|| builder.conv(&format!("head.{index}"), stage.features, plan.classes, [1; 3], [1; 3]));
            let upsample = UpsampleSpec { stride: below.stride };
            decoder.push(Level { upsample_weights, upsample_bias, upsample, blocks, head });
        }
        if plan.stages.len() == 1 {
            // One stage: no decoder; the head stands on the encoder.
            let head = builder.conv("head.0", plan.stages[0].features, plan.classes, [1; 3], [1; 3]);
            let level = Level {
                upsample_weights: 0,
                upsample_bias: 0,
                upsample: UpsampleSpec { stride: [1; 3] },
                blocks: Vec::new(),
                head: Some(head),
            };
            decoder.push(level);
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
        let mut x = input;
        for blocks in &self.encoder {
            x = self.blocks(blocks, x, &mut mode, &mut layer);
            skips.push(x.clone());
        }
        skips.pop();
        let training = matches!(mode, Mode::Train(_));
        let used = if training { head_weights(self.plan.stages.len(), self.plan.deep_supervision).len() } else { 1 };
        let levels = self.decoder.len();
        let mut heads = Vec::new();
        for (index, level) in self.decoder.iter().enumerate() {
            if let Some(skip) = skips.pop() {
                let weights = &self.parameters[level.upsample_weights];
                let bias = &self.parameters[level.upsample_bias];
                let sinks = ParameterSinks { weights: weights.sink.clone(), bias: bias.sink.clone() };
                let up = ops::upsample(x, weights.weights(), bias.value.clone(), level.upsample, sinks);
                x = Tensor::cat(vec![up, skip], 1);
                x = self.blocks(&level.blocks, x, &mut mode, &mut layer);
            }
            if let Some(head) = level.head.as_ref().filter(|_| levels - index <= used) {
                heads.push(self.conv(head, x.clone()));
            }
        }
        if let Mode::Train(statistics) = &mut mode {
            statistics.micro_batches += 1;
        }
        heads.reverse();
        heads
    }

    fn conv(&self, layer: &ConvLayer, input: Tensor<5>) -> Tensor<5> {
        let (weights, bias) = (&self.parameters[layer.weights], &self.parameters[layer.bias]);
        let sinks = ParameterSinks { weights: weights.sink.clone(), bias: bias.sink.clone() };
        ops::conv(input, weights.weights(), bias.value.clone(), layer.spec, sinks)
    }

    fn blocks(&self, blocks: &[Block], input: Tensor<5>, mode: &mut Mode<'_>, layer: &mut usize) -> Tensor<5> {
        let mut x = input;
        for block in blocks {
            x = self.norm(&block.norm, self.conv(&block.conv, x), mode, layer);
        }
        x
    }

    fn norm(&self, layer: &NormLayer, input: Tensor<5>, mode: &mut Mode<'_>, index: &mut usize) -> Tensor<5> {
        let (gamma, beta) = (&self.parameters[layer.gamma], &self.parameters[layer.beta]);
        let statistics = match (layer.running, mode) {
            (Some(running), Mode::Predict) => self.remembered(running, &input.device()),
            (Some(_), Mode::Train(noted)) => {
                let [batch, _, z, y, x] = input.dims();
                let statistics = ops::norm_statistics(input.clone(), layer.spec).inner();
                noted.add(*index, &statistics, batch * z * y * x);
                *index += 1;
                statistics
            }
            (None, _) => ops::norm_statistics(input.clone(), layer.spec),
        };
        let sinks = ParameterSinks { weights: gamma.sink.clone(), bias: beta.sink.clone() };
        ops::norm_act(input, statistics, gamma.value.clone(), beta.value.clone(), layer.spec, sinks)
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
