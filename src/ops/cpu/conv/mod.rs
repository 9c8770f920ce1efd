//! 3D convolution on the processor: 1 and 3 wide kernels, stride 1 and 2, forward and both gradients.
//!
//! Values are stored in f32, bf16 or f16; f32 and f16 are multiplied in f32, bf16 in pairs ([`operands`]); all sums are in
//! f32. Every sum has one order, fixed by the shapes of one sample: threads, instruction set and micro-batch change no bit.
mod block;
mod gather;
mod operands;
mod shape;
mod source;
mod tile;
mod transpose;
mod weight;
mod weights;

pub use shape::ConvShape;
pub use source::{Part, PartMut};

use operands::Operands;
use shape::Direction;
use weights::PackedWeights;

use super::element::Element;
use super::isa::Isa;

/// `input` `[batch, in, z, y, x]` in parts, `weights` `[out, in, z, y, x]`, `bias` `[out]`; writes all of `output`
/// `[batch, out, z, y, x]`.
pub fn forward<E: Element>(
    isa: Isa,
    shape: &ConvShape,
    input: &[Part<'_, E>],
    weights: &[f32],
    bias: &[f32],
    output: &mut [E],
) {
    let direction = Direction::forward(shape);
    let packed = PackedWeights::new(shape, &direction, false, Operands::of::<E>(isa), weights);
    let mut output = [PartMut { values: output, channels: shape.out_channels }];
    gather::run(isa, shape.batch, &direction, &packed, Some(bias), input, &mut output);
}

/// The input's gradient from the output's; writes all of `result` `[batch, in, z, y, x]`, which may be in parts. Where a
/// part is normalised while it is read, this is the gradient of what was read.
pub fn input_gradient<E: Element>(
    isa: Isa,
    shape: &ConvShape,
    gradient: &[E],
    weights: &[f32],
    result: &mut [PartMut<'_, E>],
) {
    let direction = Direction::backward(shape);
    let packed = PackedWeights::new(shape, &direction, true, Operands::of::<E>(isa), weights);
    let gradient = [Part { values: gradient, channels: shape.out_channels, maps: None }];
    gather::run(isa, shape.batch, &direction, &packed, None, &gradient, result);
}

/// Adds the gradients of weights (`[out, in, z, y, x]`) and bias (`[out]`), sample by sample.
pub fn add_parameter_gradients<E: Element>(
    isa: Isa,
    shape: &ConvShape,
    input: &[Part<'_, E>],
    gradient: &[E],
    weights: &mut [f32],
    bias: &mut [f32],
) {
    weight::add(isa, shape, input, gradient, weights);
    super::reduce::add_channel_sums(shape.batch, shape.out_channels, gradient, bias);
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod speed;
