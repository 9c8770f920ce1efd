//! Statistics of a channel, summed in a fixed order.

/// Mean; the sum runs over 8 interleaved parts, added in order (a fixed order that the compiler can vectorise).
pub fn mean(voxels: &[f32]) -> f64 {
    sum(voxels, |value| value) / voxels.len() as f64
}

/// Mean and standard deviation (of a sample: divided by n - 1; 0 for one voxel).
pub fn mean_and_deviation(voxels: &[f32]) -> (f64, f64) {
    let mean = mean(voxels);
    let squares = sum(voxels, |value| (value - mean) * (value - mean));
    (mean, (squares / (voxels.len() as f64 - 1.0).max(1.0)).sqrt())
}

/// Smallest and largest value.
pub fn extremes(voxels: &[f32]) -> (f32, f32) {
    let mut low = [f32::INFINITY; 8];
    let mut high = [f32::NEG_INFINITY; 8];
    let chunks = voxels.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..8 {
            low[lane] = if chunk[lane] < low[lane] { chunk[lane] } else { low[lane] };
            high[lane] = if chunk[lane] > high[lane] { chunk[lane] } else { high[lane] };
        }
    }
    let low = low.iter().chain(rest).copied().fold(f32::INFINITY, f32::min);
    (low, high.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max))
}

fn sum(voxels: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let chunks = voxels.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|&value| term(f64::from(value))).sum();
    for chunk in chunks {
        for lane in 0..8 {
            lanes[lane] += term(f64::from(chunk[lane]));
        }
    }
    lanes.iter().sum::<f64>() + rest
}
