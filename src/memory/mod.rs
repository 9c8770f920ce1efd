//! What the process holds, and what there is to hold.
pub mod least;
pub mod machine;
pub mod meter;
pub mod step;
