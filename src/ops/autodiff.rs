//! The gradients of the operations: what each keeps, and its backward pass.
//!
//! Only activations are nodes of the graph. What a backward pass no longer needs it drops before it allocates.
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn::tensor::{FloatDType, Shape};

use super::backend::VolumeOps;
use super::spec::{ConvSpec, LossSpec, NormSpec, ParameterSinks, UpsampleSpec};

#[derive(Debug)]
struct Conv;
#[derive(Debug)]
struct Upsample;
#[derive(Debug)]
struct NormAct;
#[derive(Debug)]
struct Loss;

/// A sum of gradients that has not begun.
fn zeros<B: VolumeOps>(shape: Shape, like: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros(shape, &like.device(), FloatDType::F32)
}

/// Adds to both sums of an operation's parameters.
fn add_parameters<B: VolumeOps>(
    sinks: &ParameterSinks,
    weights: Shape,
    bias: Shape,
    like: &FloatTensor<B>,
    add: impl FnOnce(FloatTensor<B>, FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>),
) {
    sinks.weights.update::<B>(
        || zeros::<B>(weights, like),
        |weight_sum| {
            let mut kept = None;
            sinks.bias.update::<B>(
                || zeros::<B>(bias, like),
                |bias_sum| {
                    let (weight_sum, bias_sum) = add(weight_sum, bias_sum);
                    kept = Some(weight_sum);
                    bias_sum
                },
            );
            kept.unwrap_or_else(|| unreachable!("the closure above has run"))
        },
    );
}

fn spatial(shape: &Shape) -> [usize; 3] {
    [shape[2], shape[3], shape[4]]
}

impl<B: VolumeOps> Backward<B, 1> for Conv {
    type State = (FloatTensor<B>, FloatTensor<B>, ConvSpec, ParameterSinks);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (input, weights, spec, sinks) = ops.state;
        let size = spatial(&input.shape());
        let bias = Shape::new([weights.shape()[0]]);
        add_parameters::<B>(&sinks, weights.shape(), bias, &weights, |weight_sum, bias_sum| {
            B::volume_conv_parameter_gradient(input, gradient.clone(), weight_sum, bias_sum, spec)
        });
        if let Some(parent) = parent.filter(|_| spec.input_gradient) {
            grads.register::<B>(parent.id, B::volume_conv_input_gradient(gradient, weights, spec, size));
        }
    }
}

impl<B: VolumeOps> Backward<B, 1> for Upsample {
    type State = (FloatTensor<B>, FloatTensor<B>, UpsampleSpec, ParameterSinks);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (input, weights, spec, sinks) = ops.state;
        let bias = Shape::new([weights.shape()[1]]);
        add_parameters::<B>(&sinks, weights.shape(), bias, &weights, |weight_sum, bias_sum| {
            B::volume_upsample_parameter_gradient(input, gradient.clone(), weight_sum, bias_sum, spec)
        });
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::volume_upsample_input_gradient(gradient, weights, spec));
        }
    }
}

impl<B: VolumeOps> Backward<B, 1> for NormAct {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, NormSpec, ParameterSinks);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (input, statistics, gamma, beta, spec, sinks) = ops.state;
        let shape = gamma.shape();
        let like = gamma.clone();
        let mut input_gradient = None;
        add_parameters::<B>(&sinks, shape.clone(), shape, &like, |gamma_sum, beta_sum| {
            let (result, gamma_sum, beta_sum) =
                B::volume_norm_act_gradient(input, statistics, gamma, beta, gradient, gamma_sum, beta_sum, spec);
            input_gradient = Some(result);
            (gamma_sum, beta_sum)
        });
        if let (Some(parent), Some(result)) = (parent, input_gradient) {
            grads.register::<B>(parent.id, result);
        }
    }
}

impl<B: VolumeOps> Backward<B, 1> for Loss {
    type State = (FloatTensor<B>, LossSpec);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let upstream = grads.consume::<B>(&ops.node);
        let (logits, spec) = ops.state;
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::volume_loss_gradient(logits, upstream, spec));
        }
    }
}

impl<B: VolumeOps, C: CheckpointStrategy> VolumeOps for Autodiff<B, C> {
    fn volume_conv(
        input: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: ConvSpec,
        sinks: ParameterSinks,
    ) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let (weights, bias) = (weights.into_primitive(), bias.into_primitive());
        match Conv.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::volume_conv(input.clone(), weights.clone(), bias, spec, sinks.clone());
                prepared.finish((input, weights, spec, sinks), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::volume_conv(input, weights, bias, spec, sinks)),
        }
    }

    fn volume_upsample(
        input: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: UpsampleSpec,
        sinks: ParameterSinks,
    ) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let (weights, bias) = (weights.into_primitive(), bias.into_primitive());
        match Upsample.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::volume_upsample(input.clone(), weights.clone(), bias, spec, sinks.clone());
                prepared.finish((input, weights, spec, sinks), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::volume_upsample(input, weights, bias, spec, sinks)),
        }
    }

    /// A plain number: the gradient through the statistics is part of [`NormAct`]'s.
    fn volume_norm_statistics(input: FloatTensor<Self>, spec: NormSpec) -> FloatTensor<Self> {
        <Self as burn::backend::AutodiffBackend>::from_inner(B::volume_norm_statistics(input.into_primitive(), spec))
    }

    fn volume_norm_act(
        input: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        spec: NormSpec,
        sinks: ParameterSinks,
    ) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let statistics = statistics.into_primitive();
        let (gamma, beta) = (gamma.into_primitive(), beta.into_primitive());
        match NormAct.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::volume_norm_act(
                    input.clone(),
                    statistics.clone(),
                    gamma.clone(),
                    beta.clone(),
                    spec,
                    sinks.clone(),
                );
                prepared.finish((input, statistics, gamma, beta, spec, sinks), output)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::volume_norm_act(input, statistics, gamma, beta, spec, sinks))
            }
        }
    }

    fn volume_loss(logits: FloatTensor<Self>, spec: LossSpec) -> FloatTensor<Self> {
        let (logits, node) = logits.into_parts();
        match Loss.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::volume_loss(logits.clone(), spec.clone());
                prepared.finish((logits, spec), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::volume_loss(logits, spec)),
        }
    }
}
