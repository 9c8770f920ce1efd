//! What the process holds.
pub mod least;
pub mod meter;
