//! The processor's own operations: Burn's tensors in and out of the slices that [`super::cpu`] works on.
use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Shape, bf16, f16};

use super::backend::VolumeOps;
use super::cpu::conv::{self, Part};
use super::cpu::element::Element;
use super::cpu::isa::isa;
use super::cpu::loss::{self, LossShape, SampleGradient, SampleSums, Weights, mean_foreground_dice};
use super::cpu::norm::{self, Affine, NormShape, RowMap};
use super::cpu::residual::{self, PoolShape};
use super::cpu::update;
use super::cpu::upsample;
use super::slices::{
    conv_shape, dense, norm_shape, out_shape, part, part_mut, row_maps, samples_of, spatial, statistics_of, tensor,
    unwritten, upsample_shape, values_of, zeros,
};
use super::spec::{AdamwSpec, AddSpec, ConvSpec, LossSpec, NormSpec, ParameterSinks, PoolSpec, SgdSpec, UpsampleSpec};

/// Runs `$body` with `$element` standing for the type in which `$tensor` is stored.
macro_rules! by_type {
    ($tensor:expr, $element:ident => $body:expr) => {
        match $tensor.dtype() {
            DType::BF16 => {
                type $element = bf16;
                $body
            }
            DType::F16 => {
                type $element = f16;
                $body
            }
            _ => {
                type $element = f32;
                $body
            }
        }
    };
}

/// Adds to the sums of a convolution's parameters.
fn add_conv_parameters<E: Element + burn::tensor::Element>(
    input: &[Part<'_, E>],
    size: [usize; 3],
    gradient: FlexTensor,
    weight_sum: FlexTensor,
    bias_sum: FlexTensor,
    spec: ConvSpec,
    samples: &Range<usize>,
) -> (FlexTensor, FlexTensor) {
    let (gradient, mut weight_sum, mut bias_sum) = (dense(gradient), dense(weight_sum), dense(bias_sum));
    let channels = input.iter().map(|part| part.channels).sum();
    let [z, y, x] = size;
    let shape = conv_shape([samples.len(), channels, z, y, x], &weight_sum.shape(), spec);
    let (weights, bias) = (weight_sum.storage_mut(), bias_sum.storage_mut());
    conv::add_parameter_gradients(isa(), &shape, input, values_of::<E>(&gradient, samples), weights, bias);
    (weight_sum, bias_sum)
}

impl VolumeOps for Flex {
    fn volume_zeros(_like: FlexTensor, shape: Shape) -> FlexTensor {
        zeros(shape)
    }

    fn volume_zeroed(tensor: FlexTensor) -> FlexTensor {
        let mut tensor = dense(tensor);
        update::zero(tensor.storage_mut());
        tensor
    }

    fn volume_add(sum: FlexTensor, part: FlexTensor) -> FlexTensor {
        let (mut sum, part) = (dense(sum), dense(part));
        update::add(sum.storage_mut(), part.storage());
        sum
    }

    fn volume_conv(
        input: FlexTensor,
        map: FlexTensor,
        weights: FlexTensor,
        bias: FlexTensor,
        spec: ConvSpec,
        _sinks: ParameterSinks,
    ) -> FlexTensor {
        let (input, weights, bias) = (dense(input), dense(weights), dense(bias));
        let maps = row_maps(&dense(map), spec.slope);
        let shape = conv_shape(input.shape().dims(), &weights.shape(), spec);
        by_type!(input, E => {
            let mut output = unwritten::<E>(out_shape(&shape));
            let input = [part::<E>(&input, maps.as_deref())];
            conv::forward(isa(), &shape, &input, weights.storage(), Some(bias.storage()), output.storage_mut());
            output
        })
    }

    fn volume_conv_input_gradient(
        gradient: FlexTensor,
        weights: FlexTensor,
        spec: ConvSpec,
        input_size: [usize; 3],
    ) -> FlexTensor {
        let (gradient, weights) = (dense(gradient), dense(weights));
        let [z, y, x] = input_size;
        let out = Shape::new([gradient.shape()[0], weights.shape()[1], z, y, x]);
        let shape = conv_shape(out.dims(), &weights.shape(), spec);
        by_type!(gradient, E => {
            let mut result = unwritten::<E>(out);
            let gradient = [part::<E>(&gradient, None)];
            conv::input_gradient(isa(), &shape, &gradient, weights.storage(), None, &mut [part_mut::<E>(&mut result)]);
            result
        })
    }

    fn volume_conv_parameter_gradient(
        input: FlexTensor,
        map: FlexTensor,
        gradient: FlexTensor,
        weight_sum: FlexTensor,
        bias_sum: FlexTensor,
        spec: ConvSpec,
        samples: Range<usize>,
    ) -> (FlexTensor, FlexTensor) {
        let (input, maps) = (dense(input), row_maps(&dense(map), spec.slope));
        by_type!(input, E => {
            let parts = [samples_of::<E>(&input, maps.as_deref(), &samples)];
            add_conv_parameters(&parts, spatial(&input), gradient, weight_sum, bias_sum, spec, &samples)
        })
    }

    fn volume_joined_conv(
        up: FlexTensor,
        skip: FlexTensor,
        map: FlexTensor,
        weights: FlexTensor,
        bias: FlexTensor,
        spec: ConvSpec,
    ) -> FlexTensor {
        let (up, skip, weights, bias) = (dense(up), dense(skip), dense(weights), dense(bias));
        let maps = row_maps(&dense(map), spec.slope);
        let [batch, channels, z, y, x] = up.shape().dims();
        let shape = conv_shape([batch, channels + skip.shape()[1], z, y, x], &weights.shape(), spec);
        by_type!(up, E => {
            let mut output = unwritten::<E>(out_shape(&shape));
            let input = [part::<E>(&up, None), part::<E>(&skip, maps.as_deref())];
            conv::forward(isa(), &shape, &input, weights.storage(), Some(bias.storage()), output.storage_mut());
            output
        })
    }

    fn volume_joined_parameter_gradient(
        up: FlexTensor,
        skip: FlexTensor,
        map: FlexTensor,
        gradient: FlexTensor,
        weight_sum: FlexTensor,
        bias_sum: FlexTensor,
        spec: ConvSpec,
        samples: Range<usize>,
    ) -> (FlexTensor, FlexTensor) {
        let (up, skip, maps) = (dense(up), dense(skip), row_maps(&dense(map), spec.slope));
        by_type!(up, E => {
            let input = [samples_of::<E>(&up, None, &samples), samples_of::<E>(&skip, maps.as_deref(), &samples)];
            add_conv_parameters(&input, spatial(&up), gradient, weight_sum, bias_sum, spec, &samples)
        })
    }

    fn volume_upsample(
        input: FlexTensor,
        map: FlexTensor,
        weights: FlexTensor,
        bias: FlexTensor,
        spec: UpsampleSpec,
    ) -> FlexTensor {
        let (input, weights, bias) = (dense(input), dense(weights), dense(bias));
        let maps = row_maps(&dense(map), spec.slope);
        let shape = upsample_shape(input.shape().dims(), &weights.shape(), spec);
        let [z, y, x] = shape.output_size();
        let out = Shape::new([shape.batch, shape.outputs, z, y, x]);
        by_type!(input, E => {
            let mut output = unwritten::<E>(out);
            let input = part::<E>(&input, maps.as_deref());
            upsample::forward(isa(), &input, weights.storage(), Some(bias.storage()), &shape, output.storage_mut());
            output
        })
    }

    fn volume_upsample_input_gradient(gradient: FlexTensor, weights: FlexTensor, spec: UpsampleSpec) -> FlexTensor {
        let (gradient, weights) = (dense(gradient), dense(weights));
        let [batch, _, z, y, x] = gradient.shape().dims();
        let size = [z / spec.stride[0], y / spec.stride[1], x / spec.stride[2]];
        let input = [batch, weights.shape()[0], size[0], size[1], size[2]];
        let shape = upsample_shape(input, &weights.shape(), spec);
        by_type!(gradient, E => {
            let mut result = unwritten::<E>(Shape::new(input));
            upsample::input_gradient::<E>(isa(), gradient.storage(), weights.storage(), &shape, result.storage_mut());
            result
        })
    }

    fn volume_upsample_parameter_gradient(
        input: FlexTensor,
        map: FlexTensor,
        gradient: FlexTensor,
        weight_sum: FlexTensor,
        bias_sum: FlexTensor,
        spec: UpsampleSpec,
        samples: Range<usize>,
    ) -> (FlexTensor, FlexTensor) {
        let (input, gradient) = (dense(input), dense(gradient));
        let (mut weight_sum, mut bias_sum) = (dense(weight_sum), dense(bias_sum));
        let maps = row_maps(&dense(map), spec.slope);
        let [_, channels, z, y, x] = input.shape().dims();
        let shape = upsample_shape([samples.len(), channels, z, y, x], &weight_sum.shape(), spec);
        by_type!(input, E => {
            let input = samples_of::<E>(&input, maps.as_deref(), &samples);
            let gradient = values_of::<E>(&gradient, &samples);
            upsample::add_weight_gradient(isa(), &input, gradient, &shape, weight_sum.storage_mut());
            upsample::add_bias_gradient(gradient, &shape, bias_sum.storage_mut());
        });
        (weight_sum, bias_sum)
    }

    fn volume_norm_statistics(input: FlexTensor, spec: NormSpec) -> FlexTensor {
        let input = dense(input);
        let shape = norm_shape(&input.shape(), spec);
        let found = by_type!(input, E => norm::statistics::<E>(input.storage(), &shape, spec.epsilon));
        let groups = found.mean.len();
        tensor([found.mean, found.rstd].concat(), Shape::new([2, groups]))
    }

    fn volume_norm_map(
        statistics: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        spec: NormSpec,
        batch: usize,
    ) -> FlexTensor {
        let (statistics, gamma, beta) = (statistics_of(&dense(statistics)), dense(gamma), dense(beta));
        let channels = gamma.shape()[0];
        let shape = NormShape { batch, channels, voxels: 1, groups: spec.groups };
        let affine = Affine { gamma: gamma.storage(), beta: beta.storage(), slope: spec.slope };
        let maps = norm::row_maps(&shape, &statistics, &affine);
        let rows = [|map: &RowMap| map.mean, |map: &RowMap| map.scale, |map: &RowMap| map.beta];
        let values: Vec<f32> = rows.iter().flat_map(|of| maps.iter().map(of)).collect();
        tensor(values, Shape::new([3, maps.len()]))
    }

    fn volume_norm_act_gradient(
        input: FlexTensor,
        statistics: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        gradient: FlexTensor,
        spec: NormSpec,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (input, statistics) = (dense(input), statistics_of(&dense(statistics)));
        let (gamma, beta) = (dense(gamma), dense(beta));
        let mut gradient = dense(gradient);
        let shape = norm_shape(&input.shape(), spec);
        let affine = Affine { gamma: gamma.storage(), beta: beta.storage(), slope: spec.slope };
        // Written over the gradient where nobody else holds it (`storage_mut` copies otherwise).
        let parameters = by_type!(input, E => norm::backward_in_place::<E>(
            input.storage(),
            &shape,
            &statistics,
            &affine,
            gradient.storage_mut(),
        ));
        let per_sample = |values| tensor(values, Shape::new([shape.batch, shape.channels]));
        (gradient, per_sample(parameters.gamma), per_sample(parameters.beta))
    }

    fn volume_add_act(a: FlexTensor, a_map: FlexTensor, b: FlexTensor, b_map: FlexTensor, spec: AddSpec) -> FlexTensor {
        let (a, b) = (dense(a), dense(b));
        let maps = [row_maps(&dense(a_map), spec.slopes[0]), row_maps(&dense(b_map), spec.slopes[1])];
        let voxels = spatial(&a).iter().product();
        by_type!(a, E => {
            let mut sum = unwritten::<E>(a.shape());
            let [a, b] = [part::<E>(&a, maps[0].as_deref()), part::<E>(&b, maps[1].as_deref())];
            residual::add_act(isa(), &a, &b, voxels, spec.slope, sum.storage_mut());
            sum
        })
    }

    fn volume_add_act_gradient(sum: FlexTensor, gradient: FlexTensor, spec: AddSpec) -> FlexTensor {
        let (sum, mut gradient) = (dense(sum), dense(gradient));
        by_type!(sum, E => residual::add_act_gradient::<E>(isa(), sum.storage(), spec.slope, gradient.storage_mut()));
        gradient
    }

    fn volume_average(input: FlexTensor, map: FlexTensor, spec: PoolSpec) -> FlexTensor {
        let (input, maps) = (dense(input), row_maps(&dense(map), spec.slope));
        let [batch, channels, z, y, x] = input.shape().dims();
        let shape = PoolShape { rows: batch * channels, size: [z, y, x], stride: spec.stride };
        let [z, y, x] = shape.out_size();
        by_type!(input, E => {
            let mut averages = unwritten::<E>(Shape::new([batch, channels, z, y, x]));
            residual::average(isa(), &part::<E>(&input, maps.as_deref()), &shape, averages.storage_mut());
            averages
        })
    }

    fn volume_average_gradient(gradient: FlexTensor, spec: PoolSpec) -> FlexTensor {
        let gradient = dense(gradient);
        let [batch, channels, z, y, x] = gradient.shape().dims();
        let size = [z * spec.stride[0], y * spec.stride[1], x * spec.stride[2]];
        let shape = PoolShape { rows: batch * channels, size, stride: spec.stride };
        by_type!(gradient, E => {
            let mut result = unwritten::<E>(Shape::new([batch, channels, size[0], size[1], size[2]]));
            residual::average_gradient::<E>(gradient.storage(), &shape, result.storage_mut());
            result
        })
    }

    fn volume_loss(logits: FlexTensor, spec: LossSpec) -> FlexTensor {
        let logits = dense(logits);
        let losses: Vec<f32> = match loss_sums(&logits, &spec) {
            Some(sums) => sums.iter().map(|sample| sample_loss(sample, &spec) as f32).collect(),
            None => vec![f32::NAN; logits.shape()[0]],
        };
        let batch = losses.len();
        tensor(losses, Shape::new([batch]))
    }

    fn volume_loss_sums(logits: FlexTensor, spec: LossSpec) -> FlexTensor {
        let logits = dense(logits);
        let batch = logits.shape()[0];
        let entries = logits.shape()[1] + usize::from(spec.regions.is_some());
        let values: Vec<f32> = match loss_sums(&logits, &spec) {
            Some(samples) => {
                let classes = samples.iter().flat_map(|sample| &sample.classes);
                classes
                    .flat_map(|sums| [sums.intersection, sums.probability, sums.label].map(|sum| sum as f32))
                    .collect()
            }
            None => vec![f32::NAN; batch * entries * 3],
        };
        tensor(values, Shape::new([batch, entries, 3]))
    }

    fn volume_loss_gradient(logits: FlexTensor, upstream: FlexTensor, spec: LossSpec) -> FlexTensor {
        let (logits, upstream) = (dense(logits), dense(upstream));
        let upstream: &[f32] = upstream.storage();
        let shape = loss_shape(&logits, &spec);
        // The sums once more: keeping them would tie the gradient to one forward pass, and they are quick.
        let sums = loss_sums(&logits, &spec);
        by_type!(logits, E => {
            let mut gradient = unwritten::<E>(logits.shape());
            if sums.is_none() {
                gradient.storage_mut::<E>().fill(E::from_f32(f32::NAN));
            }
            if let Some(sums) = sums {
                let samples_of_dice = spec.totals.as_ref().map_or(1, |totals| totals.samples);
                let dice = (spec.dice * samples_of_dice as f64) as f32;
                let weights = Weights { ce: spec.cross_entropy as f32, dice };
                let samples: Vec<SampleGradient> = sums
                    .iter()
                    .zip(upstream)
                    .map(|(sums, upstream)| {
                        let dice_over = spec.totals.as_ref().map_or(&sums.classes, |totals| &totals.classes);
                        SampleGradient::of_dice_over(dice_over, weights, upstream * spec.gradient_scale)
                    })
                    .collect();
                loss::backward::<E, u16>(logits.storage(), &spec.target, &shape, &samples, gradient.storage_mut());
            }
            gradient
        })
    }

    fn volume_square_sum(gradient: FlexTensor) -> FlexTensor {
        let sum = update::square_sum(isa(), dense(gradient).storage());
        tensor(vec![1.0f64, sum], Shape::new([2]))
    }

    fn volume_sgd(
        value: FlexTensor,
        gradient: FlexTensor,
        velocity: FlexTensor,
        spec: SgdSpec,
    ) -> (FlexTensor, FlexTensor) {
        let (mut value, gradient, mut velocity) = (dense(value), dense(gradient), dense(velocity));
        update::sgd(isa(), value.storage_mut(), gradient.storage(), velocity.storage_mut(), spec);
        (value, velocity)
    }

    fn volume_adamw(
        value: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        spec: AdamwSpec,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (mut value, gradient) = (dense(value), dense(gradient));
        let (mut first, mut second) = (dense(first), dense(second));
        let moments = (first.storage_mut(), second.storage_mut());
        update::adamw(isa(), value.storage_mut(), gradient.storage(), moments.0, moments.1, spec);
        (value, first, second)
    }

    fn volume_ema(average: FlexTensor, value: FlexTensor, decay: f64) -> FlexTensor {
        let (mut average, value) = (dense(average), dense(value));
        update::ema(isa(), average.storage_mut(), value.storage(), decay);
        average
    }
}

fn loss_shape<'a>(logits: &FlexTensor, spec: &'a LossSpec) -> LossShape<'a> {
    let shape = logits.shape();
    LossShape {
        batch: shape[0],
        classes: shape[1],
        regions: spec.regions.as_deref().map(Vec::as_slice),
        voxels: shape[2] * shape[3] * shape[4],
        ignore: spec.ignore,
    }
}

/// The sums of each sample; `None` where a label is no class, which preparing the cases has ruled out: the loss is then
/// NaN, and training stops with a sentence.
fn loss_sums(logits: &FlexTensor, spec: &LossSpec) -> Option<Vec<SampleSums>> {
    let shape = loss_shape(logits, spec);
    by_type!(logits, E => loss::forward::<E, u16>(logits.storage(), &spec.target, &shape)).ok()
}

fn sample_loss(sums: &SampleSums, spec: &LossSpec) -> f64 {
    let dice_over = spec.totals.as_ref().map_or(&sums.classes, |totals| &totals.classes);
    spec.cross_entropy * sums.cross_entropy - spec.dice * mean_foreground_dice(dice_over)
}
