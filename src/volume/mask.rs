//! Which voxels belong to something, one bit each.
use ndarray::{Array3, ArrayView3};

/// A set of voxels `[z, y, x]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Voxels z, y, x.
    size: [usize; 3],
    /// Words of a row.
    words: usize,
    /// Row after row; bits beyond the row's end are 0.
    bits: Vec<u64>,
}

/// Bytes that a mask of `size` voxels holds at most, and as many again while its holes are filled.
pub fn bytes(size: [usize; 3]) -> u64 {
    let rows = (size[0] as u64).saturating_mul(size[1] as u64);
    rows.saturating_mul(8 * size[2].div_ceil(64) as u64)
}

impl Mask {
    /// No voxel of a volume of `size` voxels, z, y, x.
    pub fn new(size: [usize; 3]) -> Self {
        let words = size[2].div_ceil(64);
        Self { size, words, bits: vec![0; size[0] * size[1] * words] }
    }

    /// The voxels that are `true`.
    pub fn from_array(array: ArrayView3<'_, bool>) -> Self {
        let mut mask = Self::new(array.dim().into());
        for ((z, y, x), _) in array.indexed_iter().filter(|(_, inside)| **inside) {
            mask.insert(z, y, x);
        }
        mask
    }

    /// True where a voxel is in the set, `[z, y, x]`.
    pub fn to_array(&self) -> Array3<bool> {
        Array3::from_shape_fn(self.size, |(z, y, x)| self.contains(z, y, x))
    }

    /// Voxels z, y, x.
    pub fn size(&self) -> [usize; 3] {
        self.size
    }

    /// Puts a voxel into the set. Outside of the volume is a panic.
    pub fn insert(&mut self, z: usize, y: usize, x: usize) {
        let row = self.row(z, y);
        self.bits[row + x / 64] |= 1 << (x % 64);
    }

    /// Whether a voxel is in the set. Outside of the volume is a panic.
    pub fn contains(&self, z: usize, y: usize, x: usize) -> bool {
        self.bits[self.row(z, y) + x / 64] >> (x % 64) & 1 == 1
    }

    /// First word of a row.
    fn row(&self, z: usize, y: usize) -> usize {
        (z * self.size[1] + y) * self.words
    }

    /// Adds what the border cannot reach through voxels outside the set by steps across faces
    /// (`scipy.ndimage.binary_fill_holes`).
    ///
    /// What is outside grows from the border, in sweeps up and down through the rows until nothing changes: no list of
    /// places to visit, which could become larger than the volume.
    pub fn fill_holes(&mut self) {
        let [depth, height, width] = self.size;
        if width == 0 {
            return;
        }
        let last = if width.is_multiple_of(64) { u64::MAX } else { (1 << (width % 64)) - 1 };
        let mut outside = Self::new(self.size);
        let mut open = vec![0u64; self.words];
        let mut found = vec![0u64; self.words];
        let mut changed = true;
        while changed {
            changed = false;
            for upwards in [true, false] {
                for step in 0..depth * height {
                    let index = if upwards { step } else { depth * height - 1 - step };
                    let (z, y) = (index / height, index % height);
                    let row = self.row(z, y);
                    let face = z == 0 || y == 0 || z + 1 == depth || y + 1 == height;
                    // The rows that this sweep has been to.
                    let beside = if upwards {
                        [(z > 0).then(|| self.row(z - 1, y)), (y > 0).then(|| self.row(z, y - 1))]
                    } else {
                        [(z + 1 < depth).then(|| self.row(z + 1, y)), (y + 1 < height).then(|| self.row(z, y + 1))]
                    };
                    for word in 0..self.words {
                        let end = word + 1 == self.words;
                        open[word] = !self.bits[row + word] & if end { last } else { u64::MAX };
                        let mut seed = outside.bits[row + word];
                        for beside in beside.into_iter().flatten() {
                            seed |= outside.bits[beside + word];
                        }
                        seed |= if face { u64::MAX } else { 0 };
                        seed |= if word == 0 { 1 } else { 0 };
                        seed |= if end { 1 << ((width - 1) % 64) } else { 0 };
                        found[word] = seed & open[word];
                    }
                    spread(&mut found, &open);
                    let row = &mut outside.bits[row..row + self.words];
                    if *row != found[..] {
                        row.copy_from_slice(&found);
                        changed = true;
                    }
                }
            }
        }
        for (index, (bits, outside)) in self.bits.iter_mut().zip(&outside.bits).enumerate() {
            let end = (index + 1).is_multiple_of(self.words);
            *bits = !outside & if end { last } else { u64::MAX };
        }
    }
}

/// Spreads the bits of `found` over the runs of `open` that they lie in.
fn spread(found: &mut [u64], open: &[u64]) {
    let mut carry = 0;
    for (found, open) in found.iter_mut().zip(open) {
        let (mut bits, mut way) = (*found | (carry & open), *open);
        for shift in [1, 2, 4, 8, 16, 32] {
            bits |= way & (bits << shift);
            way &= way << shift;
        }
        *found = bits;
        carry = bits >> 63;
    }
    carry = 0;
    for (found, open) in found.iter_mut().zip(open).rev() {
        let (mut bits, mut way) = (*found | ((carry << 63) & open), *open);
        for shift in [1, 2, 4, 8, 16, 32] {
            bits |= way & (bits >> shift);
            way &= way >> shift;
        }
        *found = bits;
        carry = bits & 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the border reaches, voxel by voxel.
    fn plainly_filled(set: &Array3<bool>) -> Array3<bool> {
        let (depth, height, width) = set.dim();
        let mut outside = Array3::from_elem(set.dim(), false);
        let on_border =
            |[z, y, x]: [usize; 3]| z == 0 || y == 0 || x == 0 || z + 1 == depth || y + 1 == height || x + 1 == width;
        let mut pending: Vec<[usize; 3]> =
            set.indexed_iter().map(|((z, y, x), _)| [z, y, x]).filter(|voxel| on_border(*voxel)).collect();
        while let Some(voxel) = pending.pop() {
            if set[voxel] || std::mem::replace(&mut outside[voxel], true) {
                continue;
            }
            for axis in 0..3 {
                for step in [voxel[axis].checked_sub(1), Some(voxel[axis] + 1)].into_iter().flatten() {
                    let mut next = voxel;
                    next[axis] = step;
                    if outside.get(next).is_some() {
                        pending.push(next);
                    }
                }
            }
        }
        outside.mapv(|outside| !outside)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn holes_are_what_the_border_does_not_reach(
            (depth, height, width) in (1usize..6, 1usize..7, prop_oneof![1usize..9, 62usize..67, 126usize..131]),
            seed in any::<u64>(),
            share in 2u64..9,
        ) {
            let mut state = seed | 1;
            let set = Array3::from_shape_fn((depth, height, width), |_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % 10 < share
            });
            let mut mask = Mask::from_array(set.view());
            mask.fill_holes();
            prop_assert_eq!(mask.to_array(), plainly_filled(&set));
        }
    }
}
