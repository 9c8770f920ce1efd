//! 3D convolution on the processor: kernels 1 and 3 wide with stride 1 and 2, and 2 wide with stride 2; forward and both
//! gradients.
//!
//! Values are stored in f32, bf16 or f16; f32 and f16 are multiplied in f32, bf16 in pairs (`operands.rs`); all sums are in
//! f32. Every sum has one order, fixed by the shapes of one sample: threads, instruction set and micro-batch change no bit.
mod block;
mod gather;
mod operands;
pub mod room;
mod shape;
mod source;
pub mod speed;
mod tile;
mod transpose;
mod weight;
mod weights;
mod winograd;

pub use shape::ConvShape;
pub use source::{Part, PartMut};

use operands::Operands;
use shape::Direction;
use weights::PackedWeights;
use winograd::ComponentWeights;

use super::element::Element;
use super::isa::Isa;

/// `input` `[batch, in, z, y, x]` in parts, `weights` `[out, in, z, y, x]`, `bias` `[out]` or none; writes all of `output`
/// `[batch, out, z, y, x]`.
pub fn forward<E: Element>(
    isa: Isa,
    shape: &ConvShape,
    input: &[Part<'_, E>],
    weights: &[f32],
    bias: Option<&[f32]>,
    output: &mut [E],
) {
    let direction = Direction::forward(shape);
    if winograd::serves(shape, Operands::of::<E>(isa)) {
        let packed = ComponentWeights::new(shape, false, weights);
        let mut output = [PartMut { values: output, channels: shape.out_channels }];
        return winograd::run(isa, shape.batch, &direction, &packed, bias, input, &mut output);
    }
    let packed = PackedWeights::new(shape, &direction, false, Operands::of::<E>(isa), weights);
    let mut output = [PartMut { values: output, channels: shape.out_channels }];
    gather::run(isa, shape.batch, &direction, &packed, bias, input, &mut output);
}

/// The input's gradient from the output's; writes all of `result` `[batch, in, z, y, x]`, which may be in parts. Where a
/// part is normalised while it is read, this is the gradient of what was read. With kernel and stride 2 it is also a
/// transposed convolution, of which `bias` `[in]` is added.
pub fn input_gradient<E: Element>(
    isa: Isa,
    shape: &ConvShape,
    gradient: &[Part<'_, E>],
    weights: &[f32],
    bias: Option<&[f32]>,
    result: &mut [PartMut<'_, E>],
) {
    let direction = Direction::backward(shape);
    if winograd::serves(shape, Operands::of::<E>(isa)) {
        let packed = ComponentWeights::new(shape, true, weights);
        return winograd::run(isa, shape.batch, &direction, &packed, bias, gradient, result);
    }
    let packed = PackedWeights::new(shape, &direction, true, Operands::of::<E>(isa), weights);
    gather::run(isa, shape.batch, &direction, &packed, bias, gradient, result);
}

/// Adds the gradient of the weights (`[out, in, z, y, x]`), sample by sample.
pub fn add_weight_gradient<E: Element>(
    isa: Isa,
    shape: &ConvShape,
    input: &[Part<'_, E>],
    gradient: &[Part<'_, E>],
    weights: &mut [f32],
) {
    if winograd::serves(shape, Operands::of::<E>(isa)) {
        return winograd::add(isa, shape, input, gradient, weights);
    }
    weight::add(isa, shape, input, gradient, weights);
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
    let parts = [Part { values: gradient, channels: shape.out_channels, maps: None }];
    add_weight_gradient(isa, shape, input, &parts, weights);
    super::reduce::add_channel_sums(shape.batch, shape.out_channels, gradient, bias);
}

#[cfg(test)]
mod tests;
