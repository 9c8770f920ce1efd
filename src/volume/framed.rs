//! A box of voxels with one value all round it.
use std::io;

use bytemuck::Pod;
use ndarray::{Array3, s};

use super::planes::Planes;
use super::write::Boxes;

/// One channel of a volume as the box from `start` on of a larger volume of `size` voxels (z, y, x), which is `outside`
/// everywhere else.
#[derive(Debug)]
pub struct Framed<'a, T> {
    /// The volume.
    pub planes: &'a Planes<T>,
    /// Which of its channels.
    pub channel: usize,
    /// Where the channel's first voxel comes to lie, z, y, x.
    pub start: [usize; 3],
    /// Voxels of the whole, z, y, x.
    pub size: [usize; 3],
    /// The value of all voxels around.
    pub outside: T,
}

impl<T: Pod> Framed<'_, T> {
    /// All of it.
    ///
    /// # Errors
    /// Those of a scratch file.
    pub fn to_array(&self) -> io::Result<Array3<T>> {
        self.read([0; 3], self.size)
    }
}

impl<T: Pod> Boxes<T> for Framed<'_, T> {
    fn size(&self) -> [usize; 3] {
        self.size
    }

    fn read(&self, start: [usize; 3], size: [usize; 3]) -> io::Result<Array3<T>> {
        let inner = self.planes.size();
        if (self.start, self.size) == ([0; 3], inner) {
            return self.planes.read_box(self.channel, start, size);
        }
        let mut found = Array3::from_elem(size, self.outside);
        // Both boxes in the large volume's voxels: what they have in common.
        let low: [usize; 3] = std::array::from_fn(|axis| start[axis].max(self.start[axis]));
        let high: [usize; 3] =
            std::array::from_fn(|axis| (start[axis] + size[axis]).min(self.start[axis] + inner[axis]));
        if (0..3).all(|axis| low[axis] < high[axis]) {
            let count: [usize; 3] = std::array::from_fn(|axis| high[axis] - low[axis]);
            let from = std::array::from_fn(|axis| low[axis] - self.start[axis]);
            let [z, y, x]: [usize; 3] = std::array::from_fn(|axis| low[axis] - start[axis]);
            let part = self.planes.read_box(self.channel, from, count)?;
            found.slice_mut(s![z..z + count[0], y..y + count[1], x..x + count[2]]).assign(&part);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::planes::Storage;

    #[test]
    fn every_box_is_that_of_the_whole() {
        let mut planes = Storage::unbounded().zeros::<u16>("test", [1, 2, 3, 2], 0).unwrap();
        let values = Array3::from_shape_fn((2, 3, 2), |(z, y, x)| (1 + z * 6 + y * 2 + x) as u16);
        planes.write_box(0, [0; 3], values.view()).unwrap();
        let framed = Framed { planes: &planes, channel: 0, start: [1, 2, 0], size: [4, 5, 3], outside: 99 };
        let mut whole = Array3::from_elem((4, 5, 3), 99);
        whole.slice_mut(s![1..3, 2..5, 0..2]).assign(&values);
        assert_eq!(framed.to_array().unwrap(), whole);
        for z in 0..4 {
            for (y, height) in [(0, 2), (1, 3), (4, 1)] {
                let part = framed.read([z, y, 1], [1, height, 2]).unwrap();
                assert_eq!(part, whole.slice(s![z..=z, y..y + height, 1..3]));
            }
        }
    }
}
