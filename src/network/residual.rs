//! The residual encoder of nnU-Net's recommended presets (Isensee et al., "nnU-Net Revisited", MICCAI 2024).
//!
//! In front stands one convolution with norm and LeakyReLU. A stage is a chain of blocks: convolution, norm, LeakyReLU,
//! convolution, norm; to that the block's input is added, and LeakyReLU taken of the sum. The first block has the stage's
//! stride: what goes beside it is averaged over the same cells, and brought to the stage's channels by a 1x1x1
//! convolution with a norm where their number changes (`BasicBlockD` of nnU-Net's architectures).
use burn::tensor::Tensor;

use super::build::{Beside, Block, ResidualBlock};
use super::unet::{Mode, SLOPE, UNet};
use crate::ops::{self, Activation};

impl UNet {
    pub(super) fn residual_first(
        &self,
        stem: Option<&Block>,
        blocks: &[ResidualBlock],
        image: Tensor<5>,
        mode: &mut Mode<'_>,
    ) -> Activation {
        let x = match stem {
            Some(stem) => self.norm(&stem.norm, ops::image_conv(image, self.affine(&stem.conv)), mode),
            None => Activation::plain(image),
        };
        self.residual_stage(blocks, x, mode)
    }

    pub(super) fn residual_stage(&self, blocks: &[ResidualBlock], x: Activation, mode: &mut Mode<'_>) -> Activation {
        blocks.iter().fold(x, |x, block| self.residual_block(block, x, mode))
    }

    fn residual_block(&self, block: &ResidualBlock, x: Activation, mode: &mut Mode<'_>) -> Activation {
        let [first, second] = &block.convolutions;
        let inner = self.block(first, x.clone(), mode);
        let through = self.block(second, inner, mode);
        let beside = self.beside(&block.beside, x, mode);
        ops::add_act(through, beside, SLOPE)
    }

    fn beside(&self, beside: &Beside, mut x: Activation, mode: &mut Mode<'_>) -> Activation {
        if let Some(stride) = beside.average {
            x = ops::average(x, stride);
        }
        match &beside.projection {
            Some(projection) => self.block(projection, x, mode),
            None => x,
        }
    }
}
