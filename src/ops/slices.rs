//! From Burn's tensors of the processor to the slices and shapes that [`super::cpu`] works on.
use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, Shape};

use super::cpu::conv::{ConvShape, Part, PartMut};
use super::cpu::element::Element;
use super::cpu::norm::{NormShape, RowMap, Statistics};
use super::cpu::pool;
use super::cpu::upsample::UpsampleShape;
use super::spec::{ConvSpec, NormSpec, UpsampleSpec};

/// The tensor with its elements in order from the start of its storage; the same handle where it is already so.
pub(super) fn dense(tensor: FlexTensor) -> FlexTensor {
    let bytes = tensor.layout().num_elements() * tensor.dtype().size();
    if tensor.is_contiguous() && tensor.layout().start_offset() == 0 && tensor.bytes().len() == bytes {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

pub(super) fn tensor<E: burn::tensor::Element>(values: Vec<E>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), E::dtype())
}

/// Zeros, in f32.
pub(super) fn zeros(shape: Shape) -> FlexTensor {
    tensor(vec![0.0f32; shape.num_elements()], shape)
}

/// A tensor whose every element its maker writes.
pub(super) fn unwritten<E: Element + burn::tensor::Element>(shape: Shape) -> FlexTensor {
    tensor(pool::unwritten::<E>(shape.num_elements()), shape)
}

pub(super) fn conv_shape(input: [usize; 5], weights: &Shape, spec: ConvSpec) -> ConvShape {
    ConvShape {
        batch: input[0],
        in_channels: input[1],
        out_channels: weights[0],
        size: [input[2], input[3], input[4]],
        kernel: [weights[2], weights[3], weights[4]],
        stride: spec.stride,
    }
}

pub(super) fn out_shape(shape: &ConvShape) -> Shape {
    let [z, y, x] = shape.out_size();
    Shape::new([shape.batch, shape.out_channels, z, y, x])
}

/// z, y, x.
pub(super) fn spatial(tensor: &FlexTensor) -> [usize; 3] {
    let shape = tensor.shape();
    [shape[2], shape[3], shape[4]]
}

pub(super) fn upsample_shape(input: [usize; 5], weights: &Shape, spec: UpsampleSpec) -> UpsampleShape {
    let [batch, inputs, z, y, x] = input;
    UpsampleShape { batch, inputs, outputs: weights[1], size: [z, y, x], stride: spec.stride }
}

pub(super) fn norm_shape(shape: &Shape, spec: NormSpec) -> NormShape {
    NormShape { batch: shape[0], channels: shape[1], voxels: shape[2] * shape[3] * shape[4], groups: spec.groups }
}

/// Statistics travel as `[2, groups]`: means, then `1 / sqrt(variance + epsilon)`.
pub(super) fn statistics_of(tensor: &FlexTensor) -> Statistics {
    let values: &[f32] = tensor.storage();
    let (mean, rstd) = values.split_at(values.len() / 2);
    Statistics { mean: mean.to_vec(), rstd: rstd.to_vec(), variance: Vec::new() }
}

/// What the channels of a tensor are mapped by while they are read.
pub(super) fn row_maps(map: &FlexTensor, slope: Option<f32>) -> Option<Vec<RowMap>> {
    let slope = slope?;
    let values: &[f32] = map.storage();
    let rows = values.len() / 3;
    let row = |row: usize| RowMap { mean: values[row], scale: values[rows + row], beta: values[2 * rows + row], slope };
    Some((0..rows).map(row).collect())
}

pub(super) fn part<'a, E: Element + burn::tensor::Element>(
    tensor: &'a FlexTensor,
    maps: Option<&'a [RowMap]>,
) -> Part<'a, E> {
    Part { values: tensor.storage(), channels: tensor.shape()[1], maps }
}

/// Some samples of a batch.
pub(super) fn samples_of<'a, E: Element + burn::tensor::Element>(
    tensor: &'a FlexTensor,
    maps: Option<&'a [RowMap]>,
    samples: &Range<usize>,
) -> Part<'a, E> {
    let channels = tensor.shape()[1];
    let maps = maps.map(|maps| &maps[samples.start * channels..samples.end * channels]);
    Part { values: values_of(tensor, samples), channels, maps }
}

pub(super) fn values_of<'a, E: Element + burn::tensor::Element>(
    tensor: &'a FlexTensor,
    samples: &Range<usize>,
) -> &'a [E] {
    let values: &[E] = tensor.storage();
    let sample = values.len() / tensor.shape()[0].max(1);
    &values[samples.start * sample..samples.end * sample]
}

pub(super) fn part_mut<E: Element + burn::tensor::Element>(tensor: &mut FlexTensor) -> PartMut<'_, E> {
    let channels = tensor.shape()[1];
    PartMut { values: tensor.storage_mut(), channels }
}
