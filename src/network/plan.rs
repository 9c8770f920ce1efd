//! The network as numbers: everything needed to build it. Triples are z, y, x here, as arrays have them.
use serde::{Deserialize, Serialize};

/// The normalisation of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Statistics over the micro-batch and all voxels, per channel.
    Batch,
    /// Statistics over a sample's voxels and `groups` equal shares of its channels.
    Group {
        /// Divides the channels.
        groups: usize,
    },
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
    /// Behind each of its convolutions.
    pub norm: Norm,
}

/// Of nnU-Net's two networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Two convolutions a stage on the way down, two on the way up.
    #[default]
    Plain,
    /// The residual encoder: a convolution in front, [`Kind::blocks`] residual blocks a stage, one convolution a level on
    /// the way up.
    ResEnc,
}

impl Kind {
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::Plain
    }

    /// Residual blocks of an encoder stage (nnU-Net's presets M, L and XL alike); none of the plain network.
    pub fn blocks(self, stage: usize) -> usize {
        const BLOCKS: [usize; 4] = [1, 3, 4, 6];
        match self {
            Self::Plain => 0,
            Self::ResEnc => BLOCKS[stage.min(BLOCKS.len() - 1)],
        }
    }

    /// Convolutions of a decoder level beside the transposed one.
    pub fn decoder_convolutions(self) -> usize {
        match self {
            Self::Plain => 2,
            Self::ResEnc => 1,
        }
    }
}

/// nnU-Net's 3D U-Net: strided convolutions down, transposed convolutions up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// Plain or residual encoder.
    #[serde(default, skip_serializing_if = "Kind::is_plain")]
    pub kind: Kind,
    /// Channels of the image.
    pub in_channels: usize,
    /// Background included.
    pub classes: usize,
    /// From the finest to the coarsest.
    pub stages: Vec<Stage>,
    /// Whether decoder levels below the finest have heads of their own, for the loss alone.
    pub deep_supervision: bool,
}

impl NetworkPlan {
    /// Product of the strides down to the last stage, z, y, x: the patch must be divisible by it.
    pub fn divisor(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.stages.iter().map(|stage| stage.stride[axis]).product())
    }
}
