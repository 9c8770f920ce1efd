//! The U-Net, its plan, and the norm and its swap rule.
pub mod plan;
pub mod topology;
