//! The weights' components, in the order the tiles read them.
use rayon::prelude::*;

use super::super::shape::ConvShape;
use super::super::tile::ROWS;
use super::COMPONENTS;
use super::components::weight_components;
use crate::ops::cpu::pool;

/// Taps along x.
pub(super) const TAPS: usize = 3;
/// Weights of a pair of channels.
const KERNEL: usize = 27;

/// `[8 results][component][source][tap along x][8]`; zeros where there is no such result.
pub struct ComponentWeights {
    values: Vec<f32>,
    pub sources: usize,
    pub results: usize,
}

impl ComponentWeights {
    /// `weights` is `[out, in, 3, 3, 3]`; for the backward direction source and result change places and the kernel is
    /// turned round.
    pub fn new(shape: &ConvShape, backward: bool, weights: &[f32]) -> Self {
        let (sources, results) =
            if backward { (shape.out_channels, shape.in_channels) } else { (shape.in_channels, shape.out_channels) };
        let tile = sources * TAPS * ROWS;
        let mut values = pool::unwritten::<f32>(Self::count(sources, results));
        values.par_chunks_exact_mut(COMPONENTS * tile).enumerate().for_each(|(group, values)| {
            for source in 0..sources {
                let kernel = |row: usize| {
                    let result = group * ROWS + row;
                    let pair = if backward { source * results + result } else { result * sources + source };
                    (result < results).then(|| &weights[pair * KERNEL..][..KERNEL])
                };
                let kernels: [Option<&[f32]>; ROWS] = std::array::from_fn(kernel);
                for tap in 0..TAPS {
                    let at = |z: usize, y: usize| {
                        let index = (z * 3 + y) * 3 + tap;
                        let index = if backward { KERNEL - 1 - index } else { index };
                        kernels.map(|kernel| kernel.map_or(0.0, |kernel| kernel[index]))
                    };
                    let found = weight_components([0, 1, 2].map(|z| [0, 1, 2].map(|y| at(z, y))));
                    for (component, eight) in found.as_flattened().iter().enumerate() {
                        values[component * tile + (source * TAPS + tap) * ROWS..][..ROWS].copy_from_slice(eight);
                    }
                }
            }
        });
        Self { values, sources, results }
    }

    /// Components of all weights.
    pub fn count(sources: usize, results: usize) -> usize {
        results.div_ceil(ROWS) * COMPONENTS * sources * TAPS * ROWS
    }

    /// The weights of 8 results and one component.
    pub fn tile(&self, group: usize, component: usize) -> &[f32] {
        let length = self.sources * TAPS * ROWS;
        &self.values[(group * COMPONENTS + component) * length..][..length]
    }
}
