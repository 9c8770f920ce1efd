//! Weighted sums along one axis of a volume, on which blur and low resolution stand.

/// Voxels of a line and their weights, in the order in which they are summed.
pub type Line = Vec<(usize, f32)>;

/// Replaces axis `axis` of `source` (of `shape` z, y, x) by `length` voxels, each the sum over `taps(index)`; writes
/// the volume of the new shape to the first voxels of `target`.
pub fn along_axis(
    source: &[f32],
    shape: [usize; 3],
    axis: usize,
    length: usize,
    taps: impl Fn(usize) -> Line,
    target: &mut [f32],
) {
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let lines: Vec<Line> = (0..length).map(taps).collect();
    if shape[axis] * inner == 0 || length == 0 {
        return;
    }
    let blocks = source.chunks_exact(shape[axis] * inner).zip(target.chunks_exact_mut(length * inner)).take(outer);
    for (from, to) in blocks {
        for (sums, line) in to.chunks_exact_mut(inner).zip(&lines) {
            if inner == 1 {
                sums[0] = line.iter().map(|&(index, weight)| weight * from[index]).sum();
                continue;
            }
            sums.fill(0.0);
            for &(index, weight) in line {
                let values = &from[index * inner..(index + 1) * inner];
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
            }
        }
    }
}
