//! voxfit trains 3D segmentation networks on MRI and CT volumes within the memory a hospital workstation has.
//!
//! A voxel walks through the modules once, in this order, and never back:
//!
//! ```text
//! volume -> dataset -> patch -> network (over ops) -> train -> predict -> evaluate
//!   NIfTI     cases     samples     U-Net      one effective batch   label maps   figures
//! ```
//!
//! In memory every volume is `[z, y, x]` (x fastest), every image `[channel, z, y, x]`, every batch
//! `[batch, channel, z, y, x]`, in RAS orientation. What a person types or reads (sizes, spacings, patches)
//! is x, y, z; [`zyx`] and [`xyz`] turn one into the other.
#![deny(missing_docs)]

pub mod config;
pub mod dataset;
pub mod device;
pub mod evaluate;
pub mod exchange;
pub mod files;
pub mod memory;
pub mod network;
pub mod ops;
pub mod patch;
pub mod predict;
pub mod random;
pub mod ranks;
pub mod report;
pub mod reproduce;
pub mod shown;
mod stack;
pub mod train;
pub mod volume;

/// Said wherever results are shown.
pub const RESEARCH_USE: &str = "For research use only; not a medical device.";

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Turns a triple written x, y, z into the order of arrays, z, y, x.
pub fn zyx<T: Copy>([x, y, z]: [T; 3]) -> [T; 3] {
    [z, y, x]
}

/// Turns a triple in the order of arrays, z, y, x, into the written order x, y, z.
pub fn xyz<T: Copy>([z, y, x]: [T; 3]) -> [T; 3] {
    [x, y, z]
}
