//! The processor's own implementations: plain functions on slices.
pub mod conv;
pub mod element;
pub mod isa;
pub mod reduce;
pub mod shared;
