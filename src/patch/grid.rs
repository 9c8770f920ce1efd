//! The sliding-window grid: where tiles stand and how they are weighted.

/// First voxels of tiles of `patch` voxels that cover `size` voxels at least, neighbours sharing `overlap` of a tile;
/// along an axis shorter than the patch there is one tile at 0 (the volume is padded to the patch by the caller).
pub fn tiles(_size: [usize; 3], _patch: [usize; 3], _overlap: f64) -> Vec<[usize; 3]> {
    unimplemented!()
}

/// nnU-Net's importance map `[z, y, x]`: a Gaussian of sigma = patch / 8, largest 10, zeros raised to the smallest nonzero.
pub fn gaussian(_patch: [usize; 3]) -> ndarray::Array3<f32> {
    unimplemented!()
}
