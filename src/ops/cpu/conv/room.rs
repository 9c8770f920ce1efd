//! What a convolution holds beside its tensors while it runs: packed weights, and blocks for each thread. Counted from the
//! same cuts as the work itself, for the memory plan.
use super::operands::Operands;
use super::shape::{ConvShape, Direction};
use super::weights::PackedWeights;
use super::{gather, weight, winograd};
use crate::ops::cpu::element::Element;
use crate::ops::cpu::isa::Isa;

/// Sizes in bytes of blocks that are held together, in the order in which they are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Held beside the first block, and given back before the second is taken.
    pub brief: Option<usize>,
    /// Held together, each in bytes.
    pub blocks: Vec<usize>,
}

impl Room {
    /// `count` blocks of so many elements.
    pub(super) fn add<T>(&mut self, elements: usize, count: usize) {
        let bytes = elements.saturating_mul(size_of::<T>());
        self.blocks.extend(std::iter::repeat_n(bytes, count));
    }
}

/// Of [`super::forward`].
pub fn forward<E: Element>(isa: Isa, shape: &ConvShape, threads: usize) -> Room {
    let direction = Direction::forward(shape);
    of_direction(shape, &direction, false, Operands::of::<E>(isa), threads)
}

/// Of [`super::input_gradient`].
pub fn input_gradient<E: Element>(isa: Isa, shape: &ConvShape, threads: usize) -> Room {
    let direction = Direction::backward(shape);
    of_direction(shape, &direction, true, Operands::of::<E>(isa), threads)
}

fn of_direction(shape: &ConvShape, direction: &Direction, backward: bool, operands: Operands, threads: usize) -> Room {
    let (sources, results) =
        if backward { (shape.out_channels, shape.in_channels) } else { (shape.in_channels, shape.out_channels) };
    if winograd::serves(shape, operands) {
        return winograd::room(shape.batch, direction, sources, results, threads);
    }
    let planned = PackedWeights::planned(shape, direction, backward, operands);
    let mut room = gather::room(shape.batch, direction, &planned, threads);
    // Weights rounded to bf16, which are then put in order.
    room.brief = (operands != Operands::Single).then_some(size_of::<half::bf16>() * shape.weights());
    room
}

/// Of [`super::add_weight_gradient`].
pub fn weight_gradient<E: Element>(isa: Isa, shape: &ConvShape, threads: usize) -> Room {
    let operands = Operands::of::<E>(isa);
    if winograd::serves(shape, operands) {
        return winograd::gradient_room(isa, shape, threads);
    }
    weight::room(shape, operands, threads)
}
