//! One class as a mask, cut out with one empty voxel around it.
use ndarray::{ArrayView3, s};

use super::extent::Extent;

/// A grid of `u8`, z, y, x with x fastest. Masks hold 0 or 1, grids of surface elements a neighbourhood code.
#[derive(Clone, Debug)]
pub struct Mask {
    pub size: [usize; 3],
    pub data: Vec<u8>,
}

impl Mask {
    pub fn zeros(size: [usize; 3]) -> Self {
        Self { size, data: vec![0; size.iter().product()] }
    }

    pub fn index(&self, z: usize, y: usize, x: usize) -> usize {
        (z * self.size[1] + y) * self.size[2] + x
    }
}

/// The masks of `class` in the prediction and in the label, cut to the box of `extent` and one voxel of margin:
/// what lies outside the volume counts as not in the class, as in MONAI.
pub fn pair(
    prediction: ArrayView3<'_, u16>,
    label: ArrayView3<'_, u16>,
    class: u16,
    ignore: Option<u16>,
    extent: &Extent,
) -> (Mask, Mask) {
    let size: [usize; 3] = std::array::from_fn(|axis| extent.high[axis] - extent.low[axis] + 3);
    let inside = s![extent.low[0]..=extent.high[0], extent.low[1]..=extent.high[1], extent.low[2]..=extent.high[2]];
    let (mut a, mut b) = (Mask::zeros(size), Mask::zeros(size));
    let (prediction, label) = (prediction.slice(inside), label.slice(inside));
    for ((z, y, x), &label) in label.indexed_iter() {
        if Some(label) == ignore {
            continue;
        }
        let at = a.index(z + 1, y + 1, x + 1);
        a.data[at] = u8::from(prediction[[z, y, x]] == class);
        b.data[at] = u8::from(label == class);
    }
    (a, b)
}
