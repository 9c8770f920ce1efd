//! How numbers are multiplied: one at a time in f32, or two bf16 at a time.
//!
//! AVX-512's `vdpbf16ps` adds to a sum in f32 the product of the odd numbers of two pairs, rounds, then adds that of the
//! even ones, and rounds again; products of bf16 are exact in f32. Two fused multiply-adds in that order give the same
//! bits on a processor without it (unless a sum lies below 2^-126 and is flushed to zero, as the instruction does). So
//! volumes stored in bf16 are paired on every machine: neighbouring channels where channels are summed over, neighbouring
//! positions where positions are. Weights are rounded to bf16 for it.
use crate::ops::cpu::element::Element;
use crate::ops::cpu::isa::Isa;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// f32 operands, one after another; f16 is widened to it.
    Single,
    /// Pairs of bf16, widened to f32: odd before even.
    Widened,
    /// Pairs of bf16 in 32 bits.
    Paired,
}

impl Operands {
    pub fn of<E: Element>(isa: Isa) -> Self {
        match (E::DOT, isa) {
            (false, _) => Self::Single,
            (true, Isa::Avx512Bf16) => Self::Paired,
            (true, _) => Self::Widened,
        }
    }

    /// Steps of a sum over `count` numbers.
    pub fn units(self, count: usize) -> usize {
        if self == Self::Single { count } else { count.div_ceil(2) }
    }

    /// Operands read in a step.
    pub fn per_unit(self) -> usize {
        if self == Self::Widened { 2 } else { 1 }
    }
}
