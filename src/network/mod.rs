//! The U-Net, its plan, and how it starts.
mod build;
mod checksum;
mod init;
pub mod low_resolution;
mod parameter;
pub mod plan;
mod residual;
mod statistics;
pub mod topology;
mod unet;

pub use parameter::{Buffer, Parameter, WeightsDigest, host, is_head, little_endian, weights_sha256};
pub use statistics::BatchStatistics;
pub use unet::{Mode, UNet, head_weights};
