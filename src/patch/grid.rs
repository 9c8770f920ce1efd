//! The sliding-window grid: where tiles stand and how they are weighted.
use ndarray::Array3;

/// Checks an overlap that a person gave.
///
/// # Errors
/// A sentence saying what is allowed, where `overlap` is not in [0, 1).
pub fn check_overlap(overlap: f64) -> Result<(), String> {
    if (0.0..1.0).contains(&overlap) {
        return Ok(());
    }
    Err(format!("overlap is {overlap}, it must be at least 0 and below 1; 0.5 is usual"))
}

/// First voxels of the tiles along one axis, ascending, the first at 0 and the last ending with the volume.
///
/// nnU-Net's `compute_steps_for_sliding_window`: as many tiles as steps of `patch * (1 - overlap)` voxels need, spread
/// evenly and rounded (halves to even). A step is at least one voxel; an overlap outside [0, 1) is taken as the nearest
/// that makes sense (NaN as 0), [`check_overlap`] says so to people.
pub fn steps(size: usize, patch: usize, overlap: f64) -> Vec<usize> {
    let count = step_count(size, patch, overlap);
    if count == 1 {
        return vec![0];
    }
    let step = (size - patch) as f64 / (count - 1) as f64;
    (0..count).map(|index| (step * index as f64).round_ties_even() as usize).collect()
}

fn step_count(size: usize, patch: usize, overlap: f64) -> usize {
    if size <= patch {
        return 1;
    }
    let target = (patch as f64 * (1.0 - overlap.max(0.0))).max(1.0);
    (((size - patch) as f64 / target).ceil() as usize).saturating_add(1)
}

/// How many [`tiles`] there would be; `None` where the number overflows.
pub fn tile_count(size: [usize; 3], patch: [usize; 3], overlap: f64) -> Option<usize> {
    (0..3).try_fold(1_usize, |count, axis| count.checked_mul(step_count(size[axis], patch[axis], overlap)))
}

/// First voxels (z, y, x) of tiles of `patch` voxels that cover `size` voxels at least, neighbours sharing `overlap` of
/// a tile at least; in ascending order, x fastest. Along an axis shorter than the patch there is one tile at 0 (the
/// volume is padded to the patch by the caller).
pub fn tiles(size: [usize; 3], patch: [usize; 3], overlap: f64) -> Vec<[usize; 3]> {
    let [along_z, along_y, along_x] = [0, 1, 2].map(|axis| steps(size[axis], patch[axis], overlap));
    let mut tiles = Vec::with_capacity(along_z.len() * along_y.len() * along_x.len());
    for &z in &along_z {
        for &y in &along_y {
            tiles.extend(along_x.iter().map(|&x| [z, y, x]));
        }
    }
    tiles
}

/// nnU-Net's importance map `[z, y, x]`: a Gaussian of sigma = patch / 8 round voxel patch / 2 (rounded down), cut off
/// at 4 sigma, largest 10, zeros raised to the smallest nonzero.
pub fn gaussian(patch: [usize; 3]) -> Array3<f32> {
    let lines = patch.map(|size| {
        let (sigma, centre) = (size as f64 / 8.0, (size / 2) as f64);
        let radius = (4.0 * sigma + 0.5).floor();
        let weight = |index: usize| {
            let distance = index as f64 - centre;
            if distance.abs() > radius { 0.0 } else { libm::exp(-0.5 * (distance / sigma) * (distance / sigma)) }
        };
        (0..size).map(weight).collect::<Vec<f64>>()
    });
    let mut map = Array3::from_shape_fn(patch, |(z, y, x)| (10.0 * lines[0][z] * lines[1][y] * lines[2][x]) as f32);
    let smallest = map.iter().copied().filter(|&value| value > 0.0).fold(f32::INFINITY, f32::min);
    map.mapv_inplace(|value| if value > 0.0 { value } else { smallest });
    map
}
