//! Lean and fast volume operations for the processor, on plain slices; `unsafe` lives here and nowhere else.
pub mod conv;
pub mod element;
pub mod isa;
pub mod loss;
pub mod math;
pub mod norm;
pub mod peak;
pub mod pool;
pub mod reduce;
pub mod residual;
pub mod shared;
mod slots;
pub mod update;
pub mod upsample;
pub mod worker;
