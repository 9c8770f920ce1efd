//! Lean and fast volume operations for the CPU, on plain slices.
pub mod element;
pub mod isa;
pub mod loss;
pub mod math;
pub mod norm;
pub mod upsample;
