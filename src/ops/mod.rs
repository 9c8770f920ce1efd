//! See the head of each file.
pub mod cpu;
