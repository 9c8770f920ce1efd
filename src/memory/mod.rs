//! What the process holds, and what there is to hold.
pub mod budget;
pub mod fit;
pub mod machine;
pub mod meter;
pub mod planner;
pub mod speed;
pub mod step;
