//! Cutting a volume into runs of lines.
use super::UpsampleShape;

/// Some lines of voxels that follow each other: of one plane, or of several whole planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// The first plane.
    pub z: usize,
    /// How many planes.
    pub planes: usize,
    /// The first line within the plane.
    pub y: usize,
    /// How many lines of each plane.
    pub lines: usize,
}

impl Tile {
    /// Whether the plane `z` has a part in it.
    pub fn has(&self, z: usize) -> bool {
        (self.z..self.z + self.planes).contains(&z)
    }

    /// Voxels of the input in it.
    pub fn voxels(&self, shape: &UpsampleShape) -> usize {
        self.planes * self.lines * shape.size[2]
    }

    /// Where it starts in a channel of the input.
    pub fn start(&self, shape: &UpsampleShape) -> usize {
        (self.z * shape.size[1] + self.y) * shape.size[2]
    }
}

/// Tiles in the order of the volume, of about so many voxels that `depth` rows of `f32` fill half a second cache.
pub(super) fn tiles(shape: &UpsampleShape, depth: usize) -> Vec<Tile> {
    // Whole panels of 48 voxels, as the product takes them.
    tiles_of(shape, (131_072 / depth / 48).clamp(1, 32) * 48)
}

/// Tiles in the order of the volume, of at most `voxels` voxels or one line.
pub(super) fn tiles_of(shape: &UpsampleShape, voxels: usize) -> Vec<Tile> {
    let [depth, height, width] = shape.size;
    let lines = (voxels / width).max(1);
    let planes = (lines / height).max(1);
    let lines = lines.min(height);
    let mut tiles = Vec::new();
    for z in (0..depth).step_by(planes) {
        for y in (0..height).step_by(lines) {
            tiles.push(Tile { z, planes: planes.min(depth - z), y, lines: lines.min(height - y) });
        }
    }
    tiles
}
