//! The Gaussian-weighted sliding window, from the lowest planes up: what no later tile touches is finished and handed on.
use ndarray::{Array2, Array3, Array4, Axis, Zip, s};

use super::{PredictError, Predictor, tile};
use crate::dataset::prepare::StoredImage;
use crate::ops::cpu::pool;
use crate::patch::grid;
use crate::volume::PIECE_BYTES;
use crate::volume::planes::Planes;

/// Shape of the sums, which hold as many planes as a tile: `[class, z, y, x]`.
pub fn sums_shape(classes: usize, patch: [usize; 3], [z, y, x]: [usize; 3]) -> [usize; 4] {
    [classes, z.min(patch[0]), y, x]
}

/// Slides over an image; `sums` are zeros of [`sums_shape`]. `take` is handed mean scores `[class, 1, y, x]` of some whole
/// rows, with their plane and first row, in ascending order. A volume smaller than the patch is padded with zeros (the
/// mean, after normalisation) on both sides.
///
/// # Errors
/// Those of the image, the sums and `take`.
pub fn slide(
    predictor: &Predictor<'_>,
    image: &StoredImage,
    mut sums: Planes<f32>,
    mut take: impl FnMut([usize; 2], Array4<f32>) -> Result<(), PredictError>,
) -> Result<(), PredictError> {
    // Tile after tile asks for the same buffers.
    let _keep = pool::Keep::new();
    let window = Window::new(predictor, image.size);
    let failed = || predictor.memory.failed();
    let rows = window.starts[0].len();
    let (mut tiles, all) = (0, window.starts.iter().map(Vec::len).product());
    let mut finished = 0;
    for (index, &z) in window.starts[0].iter().enumerate() {
        for &y in &window.starts[1] {
            for &x in &window.starts[2] {
                let part = window.part([z, y, x]);
                if part.count.contains(&0) {
                    continue;
                }
                let [depth, height, width] = window.patch;
                let mut tile = Array4::<f32>::zeros((image.channels(), depth, height, width));
                for (channel, mut tile) in tile.outer_iter_mut().enumerate() {
                    image.read(channel, part.from, tile.slice_mut(part.on_tile())).map_err(failed())?;
                }
                let scores = tile::scores(predictor, &tile);
                drop(tile);
                window.add(&mut sums, &part, &scores).map_err(failed())?;
                tiles += 1;
                if predictor.tiles.is_some_and(|told| told(tiles, all).is_break()) {
                    return Err(PredictError::Stopped);
                }
            }
        }
        let until = if index + 1 == rows {
            image.size[0]
        } else {
            window.starts[0][index + 1].saturating_sub(window.before[0])
        };
        for z in finished..until {
            window.finish(&mut sums, z, &mut take, predictor)?;
        }
        finished = until.max(finished);
    }
    Ok(())
}

/// Where tiles stand on a volume.
struct Window {
    patch: [usize; 3],
    /// Voxels of the volume, z, y, x.
    size: [usize; 3],
    /// Voxels of padding before it.
    before: [usize; 3],
    /// First voxels of tiles on the padded volume, along z, y, x.
    starts: [Vec<usize>; 3],
    weight: Array3<f32>,
}

/// The part of a tile that lies on the volume.
struct Part {
    /// Its first voxel on the volume and on the tile, z, y, x.
    from: [usize; 3],
    offset: [usize; 3],
    count: [usize; 3],
}

impl Part {
    fn on_tile(&self) -> ndarray::SliceInfo<[ndarray::SliceInfoElem; 3], ndarray::Ix3, ndarray::Ix3> {
        let ([z, y, x], [depth, height, width]) = (self.offset, self.count);
        s![z..z + depth, y..y + height, x..x + width]
    }
}

impl Window {
    fn new(predictor: &Predictor<'_>, size: [usize; 3]) -> Self {
        let settings = &predictor.settings;
        let patch = settings.patch;
        let padded: [usize; 3] = std::array::from_fn(|axis| size[axis].max(patch[axis]));
        Self {
            patch,
            size,
            before: std::array::from_fn(|axis| (padded[axis] - size[axis]) / 2),
            starts: [0, 1, 2].map(|axis| grid::steps(padded[axis], patch[axis], settings.overlap)),
            weight: grid::gaussian(patch),
        }
    }

    fn part(&self, start: [usize; 3]) -> Part {
        let from: [usize; 3] = std::array::from_fn(|axis| start[axis].saturating_sub(self.before[axis]));
        let offset: [usize; 3] = std::array::from_fn(|axis| self.before[axis].saturating_sub(start[axis]));
        let count = std::array::from_fn(|axis| {
            (self.patch[axis] - offset[axis]).min(self.size[axis].saturating_sub(from[axis]))
        });
        Part { from, offset, count }
    }

    /// Adds a tile's scores, weighted.
    fn add(&self, sums: &mut Planes<f32>, part: &Part, scores: &Array4<f32>) -> std::io::Result<()> {
        let depth = sums.size()[0];
        let weight = self.weight.slice(part.on_tile());
        let ([z, y, x], [_, height, width]) = (part.from, part.count);
        for (class, scores) in scores.outer_iter().enumerate() {
            let scores = scores.slice_move(part.on_tile());
            for (step, (scores, weight)) in scores.outer_iter().zip(weight.outer_iter()).enumerate() {
                sums.update_rows(class, (z + step) % depth, y..y + height, |mut rows| {
                    Zip::from(rows.slice_mut(s![.., x..x + width]))
                        .and(&scores)
                        .and(&weight)
                        .for_each(|sum, logit, weight| *sum += logit * weight);
                })?;
            }
        }
        Ok(())
    }

    /// Sums of the weights on a plane, in the order in which tiles were added.
    fn weights(&self, z: usize) -> Array2<f32> {
        let mut weights = Array2::<f32>::zeros((self.size[1], self.size[2]));
        for &tile_z in &self.starts[0] {
            for &tile_y in &self.starts[1] {
                for &tile_x in &self.starts[2] {
                    let part = self.part([tile_z, tile_y, tile_x]);
                    if !(part.from[0]..part.from[0] + part.count[0]).contains(&z) {
                        break;
                    }
                    let on_tile = self.weight.slice(part.on_tile());
                    let ([_, y, x], [_, height, width]) = (part.from, part.count);
                    let mut target = weights.slice_mut(s![y..y + height, x..x + width]);
                    target += &on_tile.index_axis(Axis(0), z - part.from[0]);
                }
            }
        }
        weights
    }

    /// Hands on plane `z`, and makes room for the next that comes to lie there.
    fn finish(
        &self,
        sums: &mut Planes<f32>,
        z: usize,
        take: &mut impl FnMut([usize; 2], Array4<f32>) -> Result<(), PredictError>,
        predictor: &Predictor<'_>,
    ) -> Result<(), PredictError> {
        let [classes, depth, height, width] = sums.shape();
        let weights = self.weights(z);
        let at_once = (PIECE_BYTES / (4 * classes * width).max(1)).clamp(1, height.max(1));
        for first in (0..height).step_by(at_once) {
            let count = at_once.min(height - first);
            let mut scores = Array4::<f32>::zeros((classes, 1, count, width));
            for (class, mut scores) in scores.outer_iter_mut().enumerate() {
                sums.update_rows(class, z % depth, first..first + count, |mut rows| {
                    Zip::from(scores.index_axis_mut(Axis(0), 0))
                        .and(&mut rows)
                        .and(weights.slice(s![first..first + count, ..]))
                        .for_each(|score, sum, weight| *score = std::mem::take(sum) / weight);
                })
                .map_err(predictor.memory.failed())?;
            }
            take([z, first], scores)?;
        }
        Ok(())
    }
}
