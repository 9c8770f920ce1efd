//! The U-Net, its plan, and how it starts.
mod init;
mod parameter;
pub mod plan;
pub mod topology;
mod unet;

pub use parameter::{Buffer, Parameter, host, weights_sha256};
pub use unet::{BatchStatistics, Mode, UNet, head_weights};
