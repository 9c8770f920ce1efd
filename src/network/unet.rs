//! nnU-Net's 3D U-Net over the operations of [`crate::ops`].
//!
//! Encoder stage i: two times (convolution, norm, LeakyReLU), the first with the stage's stride; of the residual encoder
//! see [`super::residual`], which also has but one convolution in a decoder level. Decoder level i (from the
//! deepest up): transposed convolution to stage i's size, concatenation behind it of stage i's output, two times
//! (convolution, norm, LeakyReLU), and a 1x1x1 convolution to the classes, the head.
use std::borrow::Cow;
use std::convert::Infallible;

use burn::tensor::{Device, Tensor};

use super::build::{Block, ConvLayer, EncoderStage, Level, NormLayer};
use super::checksum::{Hashed, stretches, weights_digest};
use super::parameter::{Buffer, Parameter, weights_sha256};
use super::plan::NetworkPlan;
use super::statistics::BatchStatistics;
use crate::ops::{self, Activation, Affine, HostView, ParameterSinks};

/// LeakyReLU's slope below zero.
pub const SLOPE: f32 = 0.01;
/// Added to the variance of every norm.
pub(super) const EPSILON: f32 = 1e-5;

/// What a pass is for.
pub enum Mode<'a> {
    /// Every head that counts, finest first; batch statistics are noted down where there are batch norms.
    Train(&'a mut BatchStatistics),
    /// A part of a training pass once more, for its gradients: as the first time, with nothing noted down.
    Again,
    /// The finest head alone; batch norms use what they remember.
    Predict,
}

/// The network and its parameters.
pub struct UNet {
    pub(super) plan: NetworkPlan,
    /// In the order of the forward pass.
    pub parameters: Vec<Parameter>,
    /// Running statistics of batch norms, mean and variance in turn.
    pub buffers: Vec<Buffer>,
    /// In front of the residual encoder.
    pub(super) stem: Option<Block>,
    pub(super) encoder: Vec<EncoderStage>,
    /// Finest first.
    pub(super) decoder: Vec<Level>,
}

impl UNet {
    /// The numbers it was built from.
    pub fn plan(&self) -> &NetworkPlan {
        &self.plan
    }

    /// Learnt numbers.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.value.dims()[0]).sum()
    }

    /// Stages of the encoder.
    pub fn stages(&self) -> usize {
        self.encoder.len()
    }

    /// Levels of the decoder, one less than stages (but one where there is one stage).
    pub fn levels(&self) -> usize {
        self.decoder.len()
    }

    /// Logits `[batch, class, z, y, x]` of the heads, finest first, from `input` `[batch, channel, z, y, x]` in the
    /// activation type; z, y, x must be divisible by the plan's divisor.
    pub fn forward(&self, input: Tensor<5>, mode: Mode<'_>) -> Vec<Tensor<5>> {
        let Ok(heads) = self.forward_while(input, mode, &|| Ok::<_, Infallible>(()));
        heads
    }

    /// [`Self::forward`] that asks before every stage and level whether to go on.
    ///
    /// # Errors
    /// The first of `go_on`; what was computed is dropped.
    pub fn forward_while<E>(
        &self,
        input: Tensor<5>,
        mut mode: Mode<'_>,
        go_on: &impl Fn() -> Result<(), E>,
    ) -> Result<Vec<Tensor<5>>, E> {
        let used = if matches!(mode, Mode::Predict) { 1 } else { self.heads_in_loss() };
        let mut skips = Vec::new();
        go_on()?;
        let mut x = self.first_stage(input, &mut mode);
        for stage in 1..self.encoder.len() {
            go_on()?;
            skips.push(x.clone());
            x = self.stage(stage, x, &mut mode);
        }
        let mut heads = Vec::new();
        for level in (0..self.levels()).rev() {
            go_on()?;
            x = self.level(level, x, skips.pop(), &mut mode);
            if level < used {
                heads.extend(self.head(level, &x));
            }
        }
        if let Mode::Train(statistics) = mode {
            statistics.count_micro_batch();
        }
        heads.reverse();
        Ok(heads)
    }

    /// Heads that count in the loss, from the finest on.
    pub fn heads_in_loss(&self) -> usize {
        head_weights(self.plan.stages.len(), self.plan.deep_supervision).len()
    }

    /// The first encoder stage of an image. The plain one's first convolution is not kept.
    pub fn first_stage(&self, image: Tensor<5>, mode: &mut Mode<'_>) -> Activation {
        let [first, second] = match (&self.stem, &self.encoder[0]) {
            (_, EncoderStage::Plain(blocks)) => blocks,
            (stem, EncoderStage::Residual(blocks)) => return self.residual_first(stem.as_ref(), blocks, image, mode),
        };
        let plain = if image.is_autodiff() { image.clone().inner() } else { image.clone() };
        let raw = ops::conv(Activation::plain(plain), self.affine(&first.conv), first.conv.stride);
        let statistics = self.statistics(&first.norm, &raw, mode);
        let norm = (self.norm_affine(&first.norm), first.norm.spec);
        let raw = ops::stem(image, raw, statistics, self.affine(&first.conv), norm, self.affine(&second.conv));
        self.norm(&second.norm, raw, mode)
    }

    /// Encoder stage `index`, not the first, from the output of the one above.
    pub fn stage(&self, index: usize, above: Activation, mode: &mut Mode<'_>) -> Activation {
        let [first, second] = match &self.encoder[index] {
            EncoderStage::Plain(blocks) => blocks,
            EncoderStage::Residual(blocks) => return self.residual_stage(blocks, ops::fork(above), mode),
        };
        let x = self.block(first, above, mode);
        self.block(second, x, mode)
    }

    /// Decoder level `index`, at the resolution of the encoder stage of that number, from the level below (or the
    /// deepest stage) and the output of that stage. A network of one stage has no way up, and this does nothing.
    pub fn level(&self, index: usize, below: Activation, skip: Option<Activation>, mode: &mut Mode<'_>) -> Activation {
        let (Some(up), Some(skip)) = (&self.decoder[index].up, skip) else { return below };
        let first = &up.first;
        let raw = ops::join(below, self.affine(&up.conv), up.conv.stride, skip, self.affine(&first.conv));
        let x = self.norm(&first.norm, raw, mode);
        match &up.second {
            Some(second) => self.block(second, x, mode),
            None => x,
        }
    }

    /// Logits of level `index`, where it has a head.
    pub fn head(&self, index: usize, x: &Activation) -> Option<Tensor<5>> {
        let head = self.decoder[index].head.as_ref()?;
        Some(ops::conv(x.clone(), self.affine(head), head.stride))
    }

    /// A convolution and its norm with activation.
    pub(super) fn block(&self, block: &Block, x: Activation, mode: &mut Mode<'_>) -> Activation {
        self.norm(&block.norm, ops::conv(x, self.affine(&block.conv), block.conv.stride), mode)
    }

    fn sinks(&self, weights: usize, bias: Option<usize>) -> ParameterSinks {
        let sink = |index: usize| self.parameters[index].sink.clone();
        ParameterSinks { weights: sink(weights), bias: bias.map(sink).unwrap_or_default() }
    }

    pub(super) fn affine(&self, layer: &ConvLayer) -> Affine<5> {
        let parameter = &self.parameters[layer.weights];
        let bias = match layer.bias {
            Some(bias) => self.parameters[bias].value.clone(),
            None => Tensor::zeros([parameter.shape[0]], &parameter.value.device()),
        };
        Affine { weights: parameter.weights(), bias, sinks: self.sinks(layer.weights, layer.bias) }
    }

    fn norm_affine(&self, layer: &NormLayer) -> Affine<1> {
        let (gamma, beta) = (&self.parameters[layer.gamma], &self.parameters[layer.beta]);
        let sinks = self.sinks(layer.gamma, Some(layer.beta));
        Affine { weights: gamma.value.clone(), bias: beta.value.clone(), sinks }
    }

    pub(super) fn norm(&self, layer: &NormLayer, raw: Tensor<5>, mode: &mut Mode<'_>) -> Activation {
        let statistics = self.statistics(layer, &raw, mode);
        ops::norm_act(raw, statistics, self.norm_affine(layer), layer.spec)
    }

    /// What a layer normalises by; a batch norm's are noted down for the running ones.
    fn statistics(&self, layer: &NormLayer, raw: &Tensor<5>, mode: &mut Mode<'_>) -> Tensor<2> {
        let found = || ops::norm_statistics(raw.clone(), layer.spec);
        match (layer.running, mode) {
            (Some(running), Mode::Predict) => self.remembered(running, &raw.device()),
            (Some(running), Mode::Train(noted)) => {
                let [batch, _, z, y, x] = raw.dims();
                let statistics = found();
                noted.add(running / 2, &statistics, batch * z * y * x);
                statistics
            }
            _ => found(),
        }
    }

    fn remembered(&self, running: usize, device: &Device) -> Tensor<2> {
        let (mean, variance) = (&self.buffers[running].values, &self.buffers[running + 1].values);
        let rstd = variance.iter().map(|v| (1.0 / (f64::from(*v) + f64::from(EPSILON)).sqrt()) as f32);
        let values: Vec<f32> = mean.iter().copied().chain(rstd).collect();
        let data = burn::tensor::TensorData::new(values, [2, mean.len()]);
        Tensor::from_data(data, &device.clone().inner())
    }

    /// Moves the running statistics of batch norms: one update a step.
    pub fn remember(&mut self, statistics: &BatchStatistics) {
        statistics.remember(&mut self.buffers);
    }

    /// The statistics of all micro-batches of a step, each of which came as [`BatchStatistics::flat`].
    pub fn gathered<'a>(&self, flat: impl IntoIterator<Item = &'a [f64]>) -> BatchStatistics {
        let mut all = BatchStatistics::default();
        flat.into_iter().for_each(|flat| all.absorb(flat, &self.buffers));
        all
    }

    /// Digest of all parameters and buffers; see [`weights_sha256`].
    pub fn weights_sha256(&self) -> String {
        let views: Vec<HostView> = self.parameters.iter().map(|parameter| HostView::of(&parameter.value)).collect();
        let parameters =
            self.parameters.iter().zip(&views).map(|(p, view)| (p.name.as_str(), &p.shape[..], view.values()));
        let lengths: Vec<[usize; 1]> = self.buffers.iter().map(|buffer| [buffer.values.len()]).collect();
        let buffers = self.buffers.iter().zip(&lengths);
        let buffers = buffers.map(|(buffer, length)| (buffer.name.as_str(), &length[..], Cow::from(&buffer.values)));
        weights_sha256(parameters.chain(buffers))
    }

    /// A quick digest of the same numbers, which tells steps apart; XXH64 in sixteen hexadecimal digits (`checksum.rs`).
    pub fn weights_digest(&self) -> String {
        let parameters = self.parameters.iter().map(|parameter| Hashed {
            name: &parameter.name,
            shape: &parameter.shape,
            stretches: stretches(&HostView::of(&parameter.value).values()),
        });
        let lengths: Vec<[usize; 1]> = self.buffers.iter().map(|buffer| [buffer.values.len()]).collect();
        let buffers = self.buffers.iter().zip(&lengths).map(|(buffer, length)| Hashed {
            name: &buffer.name,
            shape: length,
            stretches: stretches(&buffer.values),
        });
        weights_digest(parameters.chain(buffers).collect())
    }
}

/// Weights of the heads that count in the loss, finest first: 1, 1/2, 1/4, ... without the lowest, normalised.
pub fn head_weights(stages: usize, deep_supervision: bool) -> Vec<f64> {
    let heads = if deep_supervision { stages.saturating_sub(2).max(1) } else { 1 };
    let weights: Vec<f64> = (0..heads).map(|head| 0.5f64.powi(head as i32)).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}
