//! The gradients of the operations: what each keeps, and its backward pass.
//!
//! Only activations are nodes of the graph. Per convolution one tensor is kept: its output before the norm. The node
//! behind the norm stands for the activated values, but holds that same tensor, and whoever reads it normalises and
//! activates while reading. A node's gradient is that of the activated values, summed over all who read them; the norm's
//! backward pass turns it into the gradient of the raw values where it lies.
//!
//! The first convolution's output and what comes up to a decoder level are not kept but computed again ([`Stem`],
//! [`Join`]). What a backward pass no longer needs it drops before it allocates: with `a` the bytes of a level's
//! activation, a convolution's backward pass holds its input (until the norm's has run), its output's gradient and its
//! input's, 3a; a decoder level's first holds what came up in the place of the input's gradient, then the gradients of
//! both halves, 4a with the encoder's output.
use std::ops::Range;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn::tensor::Shape;

use super::backend::VolumeOps;
use super::default;
use super::spec::{
    AddSpec, ConvSpec, JoinSinks, JoinSpec, LossSpec, NormSpec, ParameterSinks, PoolSpec, StemSinks, StemSpec,
};

#[derive(Debug)]
struct Conv;
#[derive(Debug)]
struct Stem;
#[derive(Debug)]
struct Join;
#[derive(Debug)]
struct NormAct;
#[derive(Debug)]
struct Fork;
#[derive(Debug)]
struct AddAct;
#[derive(Debug)]
struct Average;
#[derive(Debug)]
struct Loss;
#[derive(Debug)]
struct Seed;

/// Adds the gradients of a batch to both sums of an operation's parameters, by the shares that the sums take.
fn add_parameters<B: VolumeOps>(
    sinks: &ParameterSinks,
    weights: Shape,
    bias: Shape,
    gradient: &FloatTensor<B>,
    mut add: impl FnMut(FloatTensor<B>, FloatTensor<B>, Range<usize>) -> (FloatTensor<B>, FloatTensor<B>),
) {
    for samples in sinks.weights.shares(gradient.shape()[0]) {
        let zeros = |shape: &Shape| B::volume_zeros(gradient.clone(), shape.clone());
        sinks.weights.add::<B>(
            || zeros(&weights),
            |weight_sum| {
                let mut kept = None;
                sinks.bias.add::<B>(
                    || zeros(&bias),
                    |bias_sum| {
                        let (weight_sum, bias_sum) = add(weight_sum, bias_sum, samples);
                        kept = Some(weight_sum);
                        bias_sum
                    },
                );
                kept.unwrap_or_else(|| unreachable!("the closure above has run"))
            },
        );
    }
}

fn spatial(shape: &Shape) -> [usize; 3] {
    [shape[2], shape[3], shape[4]]
}

fn add_conv_parameters<B: VolumeOps>(
    sinks: &ParameterSinks,
    input: FloatTensor<B>,
    map: FloatTensor<B>,
    weights: &FloatTensor<B>,
    gradient: &FloatTensor<B>,
    spec: ConvSpec,
) {
    let bias = Shape::new([weights.shape()[0]]);
    add_parameters::<B>(sinks, weights.shape(), bias, gradient, |weight_sum, bias_sum, samples| {
        let (input, map) = (input.clone(), map.clone());
        B::volume_conv_parameter_gradient(input, map, gradient.clone(), weight_sum, bias_sum, spec, samples)
    });
}

/// From the gradient of the activated values that of the raw ones.
fn norm_backward<B: VolumeOps>(
    sinks: &ParameterSinks,
    input: FloatTensor<B>,
    [statistics, gamma, beta]: [FloatTensor<B>; 3],
    gradient: FloatTensor<B>,
    spec: NormSpec,
) -> FloatTensor<B> {
    let shape = gamma.shape();
    let (gradient, of_gamma, of_beta) = B::volume_norm_act_gradient(input, statistics, gamma, beta, gradient, spec);
    add_parameters::<B>(sinks, shape.clone(), shape, &of_gamma, |gamma_sum, beta_sum, samples| {
        let rows = |rows: &FloatTensor<B>| default::rows_sum::<B>(rows.clone(), &samples);
        (B::volume_add(gamma_sum, rows(&of_gamma)), B::volume_add(beta_sum, rows(&of_beta)))
    });
    gradient
}

impl<B: VolumeOps> Backward<B, 1> for Conv {
    type State = ([FloatTensor<B>; 3], ConvSpec, ParameterSinks);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let ([input, map, weights], spec, sinks) = ops.state;
        let size = spatial(&input.shape());
        add_conv_parameters::<B>(&sinks, input, map, &weights, &gradient, spec);
        if let Some(parent) = parent.filter(|_| spec.input_gradient) {
            grads.register::<B>(parent.id, B::volume_conv_input_gradient(gradient, weights, spec, size));
        }
    }
}

impl<B: VolumeOps> Backward<B, 1> for Stem {
    /// Image, statistics, gamma, beta, first weights and bias, map, weights.
    type State = ([FloatTensor<B>; 8], StemSpec, StemSinks);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let ([image, statistics, gamma, beta, first_weights, first_bias, map, weights], spec, sinks) = ops.state;
        let none = ParameterSinks::default();
        let raw = B::volume_conv(image.clone(), map.clone(), first_weights.clone(), first_bias, spec.first, none);
        add_conv_parameters::<B>(&sinks.second, raw.clone(), map.clone(), &weights, &gradient, spec.second);
        let gradient = B::volume_conv_input_gradient(gradient, weights, spec.second, spatial(&raw.shape()));
        let gradient = norm_backward::<B>(&sinks.norm, raw, [statistics, gamma, beta], gradient, spec.norm);
        add_conv_parameters::<B>(&sinks.first, image, map, &first_weights, &gradient, spec.first);
    }
}

impl<B: VolumeOps> Backward<B, 2> for Join {
    /// Below and its map, weights and bias of the way up, skip and its map, weights.
    type State = ([FloatTensor<B>; 7], JoinSpec, JoinSinks);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [below_parent, skip_parent] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let ([below, below_map, up_weights, up_bias, skip, skip_map, weights], spec, sinks) = ops.state;
        let bias = Shape::new([weights.shape()[0]]);
        let up = B::volume_upsample(below.clone(), below_map.clone(), up_weights.clone(), up_bias, spec.up);
        add_parameters::<B>(&sinks.conv, weights.shape(), bias, &gradient, |weight_sum, bias_sum, samples| {
            let (up, skip, map, gradient) = (up.clone(), skip.clone(), skip_map.clone(), gradient.clone());
            B::volume_joined_parameter_gradient(up, skip, map, gradient, weight_sum, bias_sum, spec.conv, samples)
        });
        drop((up, skip));
        // One after the other: each is as large as all that came up.
        let (up_channels, channels) = (up_weights.shape()[1], weights.shape()[1]);
        let up = B::volume_joined_input_gradient(gradient.clone(), weights.clone(), spec.conv, 0..up_channels);
        let bias = Shape::new([up_channels]);
        add_parameters::<B>(&sinks.up, up_weights.shape(), bias, &up, |weight_sum, bias_sum, samples| {
            let (below, map) = (below.clone(), below_map.clone());
            B::volume_upsample_parameter_gradient(below, map, up.clone(), weight_sum, bias_sum, spec.up, samples)
        });
        drop(below);
        if let Some(parent) = below_parent {
            grads.register::<B>(parent.id, B::volume_upsample_input_gradient(up, up_weights, spec.up));
        }
        if let Some(parent) = skip_parent {
            let skip = B::volume_joined_input_gradient(gradient, weights, spec.conv, up_channels..channels);
            grads.register::<B>(parent.id, skip);
        }
    }
}

impl<B: VolumeOps> Backward<B, 1> for NormAct {
    type State = (FloatTensor<B>, [FloatTensor<B>; 3], NormSpec, ParameterSinks);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (input, numbers, spec, sinks) = ops.state;
        let result = norm_backward::<B>(&sinks, input, numbers, gradient, spec);
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, result);
        }
    }
}

impl<B: VolumeOps> Backward<B, 1> for Fork {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, gradient);
        }
    }
}

impl<B: VolumeOps> Backward<B, 2> for AddAct {
    type State = (FloatTensor<B>, AddSpec);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let parents = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (sum, spec) = ops.state;
        let gradient = B::volume_add_act_gradient(sum, gradient, spec);
        for parent in parents.into_iter().flatten() {
            grads.register::<B>(parent.id, gradient.clone());
        }
    }
}

impl<B: VolumeOps> Backward<B, 1> for Average {
    type State = PoolSpec;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::volume_average_gradient(gradient, ops.state));
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

impl<B: VolumeOps> Backward<B, 1> for Seed {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        drop(grads.consume::<B>(&ops.node));
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, ops.state);
        }
    }
}

impl<B: VolumeOps, C: CheckpointStrategy> VolumeOps for Autodiff<B, C> {
    fn volume_conv(
        input: FloatTensor<Self>,
        map: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: ConvSpec,
        sinks: ParameterSinks,
    ) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let [map, weights, bias] = [map, weights, bias].map(|tensor| tensor.into_primitive());
        let kept = [input.clone(), map.clone(), weights.clone()];
        let output = B::volume_conv(input, map, weights, bias, spec, sinks.clone());
        match Conv.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((kept, spec, sinks), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn volume_stem(
        image: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        first_weights: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        map: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: StemSpec,
        sinks: StemSinks,
    ) -> FloatTensor<Self> {
        let (image, node) = image.into_parts();
        let [raw, map, weights, bias] = [raw, map, weights, bias].map(|tensor| tensor.into_primitive());
        let [statistics, gamma, beta] = [statistics, gamma, beta].map(|tensor| tensor.into_primitive());
        let [first_weights, first_bias] = [first_weights, first_bias].map(|tensor| tensor.into_primitive());
        let kept = [image, statistics, gamma, beta, first_weights, first_bias, map.clone(), weights.clone()];
        let output = B::volume_conv(raw, map, weights, bias, spec.second, sinks.second.clone());
        match Stem.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((kept, spec, sinks), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn volume_join(
        below: FloatTensor<Self>,
        below_map: FloatTensor<Self>,
        up_weights: FloatTensor<Self>,
        up_bias: FloatTensor<Self>,
        skip: FloatTensor<Self>,
        skip_map: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        spec: JoinSpec,
        sinks: JoinSinks,
    ) -> FloatTensor<Self> {
        let (below, below_node) = below.into_parts();
        let (skip, skip_node) = skip.into_parts();
        let [below_map, up_weights, up_bias] = [below_map, up_weights, up_bias].map(|tensor| tensor.into_primitive());
        let [skip_map, weights, bias] = [skip_map, weights, bias].map(|tensor| tensor.into_primitive());
        let kept = [&below, &below_map, &up_weights, &up_bias, &skip, &skip_map, &weights].map(Clone::clone);
        let output =
            B::volume_join(below, below_map, up_weights, up_bias, skip, skip_map, weights, bias, spec, sinks.clone());
        match Join.prepare::<C>([below_node, skip_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((kept, spec, sinks), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    /// A plain number: the gradient through the statistics is part of `NormAct`'s.
    fn volume_norm_statistics(input: FloatTensor<Self>, spec: NormSpec) -> FloatTensor<Self> {
        <Self as burn::backend::AutodiffBackend>::from_inner(B::volume_norm_statistics(input.into_primitive(), spec))
    }

    /// Plain numbers too.
    fn volume_norm_map(
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        spec: NormSpec,
        batch: usize,
    ) -> FloatTensor<Self> {
        let [statistics, gamma, beta] = [statistics, gamma, beta].map(|tensor| tensor.into_primitive());
        let map = B::volume_norm_map(statistics, gamma, beta, spec, batch);
        <Self as burn::backend::AutodiffBackend>::from_inner(map)
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
        let numbers = [statistics, gamma, beta].map(|tensor| tensor.into_primitive());
        match NormAct.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((input.clone(), numbers, spec, sinks), input),
            OpsKind::UnTracked(prepared) => prepared.finish(input),
        }
    }

    fn volume_fork(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        match Fork.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((), input),
            OpsKind::UnTracked(prepared) => prepared.finish(input),
        }
    }

    fn volume_add_act(
        a: FloatTensor<Self>,
        a_map: FloatTensor<Self>,
        b: FloatTensor<Self>,
        b_map: FloatTensor<Self>,
        spec: AddSpec,
    ) -> FloatTensor<Self> {
        let ((a, a_node), (b, b_node)) = (a.into_parts(), b.into_parts());
        let [a_map, b_map] = [a_map, b_map].map(|tensor| tensor.into_primitive());
        let output = B::volume_add_act(a, a_map, b, b_map, spec);
        match AddAct.prepare::<C>([a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((output.clone(), spec), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn volume_average(input: FloatTensor<Self>, map: FloatTensor<Self>, spec: PoolSpec) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let output = B::volume_average(input, map.into_primitive(), spec);
        match Average.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(spec, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
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

    /// Plain numbers: gradients take them as given.
    fn volume_loss_sums(logits: FloatTensor<Self>, spec: LossSpec) -> FloatTensor<Self> {
        <Self as burn::backend::AutodiffBackend>::from_inner(B::volume_loss_sums(logits.into_primitive(), spec))
    }

    fn volume_seed(input: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let gradient = gradient.into_primitive();
        let output = B::volume_seed(input, gradient.clone());
        match Seed.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(gradient, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}
