//! The network as numbers: everything needed to build it. Triples are z, y, x here, as arrays have them.
use serde::{Deserialize, Serialize};

/// The normalisation of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Statistics over the micro-batch and all voxels, per channel.
    Batch,
    /// Statistics over a sample's voxels and `groups` equal shares of its channels.
    Group { groups: usize },
    /// Statistics over a sample's voxels, per channel.
    Instance,
}

/// One resolution of the encoder (and its mirror in the decoder).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Channels.
    pub features: usize,
    /// Kernel of its convolutions, z, y, x (each 1 or 3).
    pub kernel: [usize; 3],
    /// Stride into this stage, z, y, x (each 1 or 2; all 1 in the first).
    pub stride: [usize; 3],
    pub norm: Norm,
}

/// nnU-Net's plain 3D U-Net: two convolutions a stage, strided convolutions down, transposed convolutions up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlan {
    pub in_channels: usize,
    /// Background included.
    pub classes: usize,
    pub stages: Vec<Stage>,
    pub deep_supervision: bool,
}

impl NetworkPlan {
    /// Product of the strides down to the last stage, z, y, x: the patch must be divisible by it.
    pub fn divisor(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.stages.iter().map(|stage| stage.stride[axis]).product())
    }
}
