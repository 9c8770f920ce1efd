//! The 3x3x3 convolution of stride 1 with 2.25 times fewer multiplications: Winograd's F(2,3) along z and y.
//!
//! Two neighbouring results of a three-tap filter are made with four products instead of six (Lavin and Gray 2015, "Fast
//! Algorithms for Convolutional Neural Networks"): `y = A' ((G w) * (B' d))` with
//!
//! ```text
//! B' = 1  0 -1  0    G =  1    0    0     A' = 1  1  1  0
//!      0  1  1  0        1/2  1/2  1/2         0  1 -1 -1
//!      0 -1  1  0        1/2 -1/2  1/2
//!      0  1  0 -1         0    0    1
//! ```
//!
//! Along z and y together that is 16 products for the 4 results of two planes and two rows. So the 27 taps become 16
//! *components*, each a sum over channels and the 3 taps along x, on a grid of half the planes and half the rows; along x,
//! where neighbours share a vector, nothing changes. A component is what [`super::gather`] calls a phase, and the tiles
//! are the same. The input's gradient is such a convolution with the kernel turned round. The weights' gradient is the
//! transpose, `G' ((A g) * (B' d))`: components of the gradient times those of the input, summed over positions.
//!
//! Only sums and halves are added to the arithmetic, so the error is about twice that of the direct sum; but not in bf16,
//! whose operands would have to be rounded again. There the direct kernels multiply in pairs.
mod components;
mod forward;
mod gradient;
mod grid;
mod weights;

pub use forward::{room, run};
pub use gradient::{add, room as gradient_room};
pub use weights::ComponentWeights;

use super::operands::Operands;
use super::shape::ConvShape;

/// Products along z, times those along y.
const COMPONENTS: usize = 16;
/// Channels from which what is saved outweighs the sums around it.
const CHANNELS: usize = 8;
/// Voxels of a sample from which it outweighs the larger weights.
const VOXELS: usize = 512;

/// Whether a convolution is made in this way; depends on the layer alone, never on the batch.
pub fn serves(shape: &ConvShape, operands: Operands) -> bool {
    operands == Operands::Single
        && shape.kernel == [3; 3]
        && shape.stride == [1; 3]
        && shape.in_channels.min(shape.out_channels) >= CHANNELS
        && shape.in_voxels() >= VOXELS
}
