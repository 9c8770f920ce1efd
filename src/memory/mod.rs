//! What the process holds.
pub mod meter;
