//! What residual blocks need beside convolutions and norms: the sum of two paths with its activation, and the average over
//! the voxels that a stride joins.
//!
//! Paths may be read through their norm ([`Part::maps`]); what is read is rounded to the stored type first, as everywhere.
mod kernels;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use self::kernels::{AddAct, AddActGradient, PoolRow};
use super::conv::Part;
use super::element::Element;
use super::isa::{Isa, dispatch};

/// Values that one task of an elementwise pass treats.
const STRETCH: usize = 1 << 14;

/// Volumes that are averaged over cells of `stride`; `size` must be divisible by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Batch times channels.
    pub rows: usize,
    /// Voxels of the fine side, z, y, x.
    pub size: [usize; 3],
    /// z, y, x.
    pub stride: [usize; 3],
}

impl PoolShape {
    /// Voxels of the coarse side, z, y, x.
    pub fn out_size(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.size[axis] / self.stride[axis])
    }

    fn check(&self, fine: usize, coarse: usize) {
        let divisible = (0..3).all(|axis| self.stride[axis] > 0 && self.size[axis].is_multiple_of(self.stride[axis]));
        assert!(divisible, "pool: size and stride of {self:?}");
        assert_eq!(fine, self.rows * self.size.iter().product::<usize>(), "pool: values of {self:?}");
        assert_eq!(coarse, self.rows * self.out_size().iter().product::<usize>(), "pool: averages of {self:?}");
    }

    /// 1 / voxels of a cell: a power of two for strides of 1 and 2, so nothing is lost by it.
    fn share(&self) -> f32 {
        1.0 / self.stride.iter().product::<usize>() as f32
    }
}

/// `y = leaky(a + b)`, all `[batch, channel, z, y, x]` with `voxels` a channel; `y` is written whole.
pub fn add_act<E: Element>(isa: Isa, a: &Part<E>, b: &Part<E>, voxels: usize, slope: f32, y: &mut [E]) {
    assert!(a.values.len() == y.len() && b.values.len() == y.len() && voxels > 0, "sum of paths: lengths");
    y.par_chunks_mut(voxels).enumerate().for_each(|(row, y)| {
        let path = |part: &Part<E>| part.maps.map(|maps| maps[row]);
        let maps = [path(a), path(b)];
        let (a, b) = (&a.values[row * voxels..][..voxels], &b.values[row * voxels..][..voxels]);
        dispatch(isa, AddAct { a, b, maps, slope, y });
    });
}

/// Turns the gradient of `y` into that of both paths, where it lies: below zero `y` has LeakyReLU's slope, and its sign is
/// that of the sum.
pub fn add_act_gradient<E: Element>(isa: Isa, y: &[E], slope: f32, gradient: &mut [E]) {
    assert_eq!(y.len(), gradient.len(), "sum of paths: lengths");
    gradient
        .par_chunks_mut(STRETCH)
        .zip(y.par_chunks(STRETCH))
        .for_each(|(gradient, y)| dispatch(isa, AddActGradient { y, slope, gradient }));
}

/// Averages, `[row, z, y, x]`, written whole.
pub fn average<E: Element>(isa: Isa, input: &Part<E>, shape: &PoolShape, out: &mut [E]) {
    shape.check(input.values.len(), out.len());
    let (fine, [depth, height, width]) = (shape.size, shape.out_size());
    if width == 0 {
        return;
    }
    out.par_chunks_mut(width).enumerate().for_each_init(Vec::new, |sums, (index, out)| {
        let (row, z, y) = (index / (depth * height), index / height % depth, index % height);
        let start = row * fine.iter().product::<usize>();
        let lines = (0..shape.stride[0]).flat_map(|dz| (0..shape.stride[1]).map(move |dy| (dz, dy)));
        let lines =
            lines.map(|(dz, dy)| start + ((z * shape.stride[0] + dz) * fine[1] + y * shape.stride[1] + dy) * fine[2]);
        let map = input.maps.map(|maps| maps[row]);
        let (values, stride, share) = (input.values, shape.stride[2], shape.share());
        dispatch(isa, PoolRow { values, lines, fine: fine[2], stride, map, share, sums, out });
    });
}

/// The gradient of what was averaged, `[row, z, y, x]` of the fine side, written whole.
pub fn average_gradient<E: Element>(gradient: &[E], shape: &PoolShape, out: &mut [E]) {
    shape.check(out.len(), gradient.len());
    let (fine, [depth, height, width]) = (shape.size, shape.out_size());
    if width == 0 {
        return;
    }
    out.par_chunks_mut(fine[2]).enumerate().for_each_init(Vec::new, |line: &mut Vec<f32>, (index, out)| {
        let (row, z, y) = (index / (fine[0] * fine[1]), index / fine[1] % fine[0], index % fine[1]);
        let from = ((row * depth + z / shape.stride[0]) * height + y / shape.stride[1]) * width;
        line.clear();
        for value in &gradient[from..from + width] {
            line.extend(std::iter::repeat_n(value.to_f32() * shape.share(), shape.stride[2]));
        }
        E::narrow(line, out);
    });
}
