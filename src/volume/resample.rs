//! Resampling between spacings, by nnU-Net's rules.
use ndarray::{Array3, ArrayView3};

/// Voxels along each axis (z, y, x) after going from `from` to `to` mm: round(n * from / to), at least 1.
pub fn new_size(_size: [usize; 3], _from: [f64; 3], _to: [f64; 3]) -> [usize; 3] {
    unimplemented!()
}

/// Third-order spline, like `scipy.ndimage.zoom(order=3, mode='nearest', grid_mode=True)` clipped to the input's range;
/// in-plane only (nearest across) where `separate_axis` names the coarse axis.
pub fn image(_data: ArrayView3<'_, f32>, _size: [usize; 3], _separate_axis: Option<usize>) -> Array3<f32> {
    unimplemented!()
}

/// Each label's mask resampled linearly, the largest wins (> 0.5 in nnU-Net's way).
pub fn labels(_data: ArrayView3<'_, u16>, _size: [usize; 3], _separate_axis: Option<usize>) -> Array3<u16> {
    unimplemented!()
}

/// The coarse axis (z, y, x index) where spacing differs by more than 3x: the source's decides, else the target's.
pub fn separate_axis(_from: [f64; 3], _to: [f64; 3]) -> Option<usize> {
    unimplemented!()
}
