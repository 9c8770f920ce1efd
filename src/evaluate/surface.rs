//! Distances between surfaces: HD95 on edge voxels, NSD on surface elements between voxels.
use super::distance::each_distance;
use super::mask::Mask;

/// The larger of the two directed 95th percentiles of the distances in mm between edge voxels (mask voxels with a
/// face neighbour outside the mask). `spacing` in mm, z, y, x. Neither mask may be empty.
///
/// MONAI's `compute_hausdorff_distance(percentile=95)`; percentiles are linear between order statistics, as numpy's.
pub fn hd95(a: &Mask, b: &Mask, spacing: [f64; 3]) -> f64 {
    let (a, b) = (edges(a), edges(b));
    directed_percentile(&a, &b, spacing).max(directed_percentile(&b, &a, spacing))
}

fn directed_percentile(from: &Mask, to: &Mask, spacing: [f64; 3]) -> f64 {
    let is_edge = |value| value == 1;
    let count = from.data.iter().filter(|value| is_edge(**value)).count();
    let mut values = Vec::with_capacity(count);
    each_distance(from, is_edge, to, is_edge, spacing, |_, distance| values.push(distance));
    percentile(values, 0.95)
}

/// The `share` quantile, linear between order statistics; NaN of nothing.
pub fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let rank = share * last as f64;
    let below = rank.floor() as usize;
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    low + (high - low) * (rank - below as f64)
}

/// The voxels that erosion by a face-connected cross takes away. The mask has an empty margin.
fn edges(mask: &Mask) -> Mask {
    let [depth, height, width] = mask.size;
    let neighbours = [1, width, height * width];
    let mut edges = Mask::zeros(mask.size);
    for z in 1..depth - 1 {
        for y in 1..height - 1 {
            for x in 1..width - 1 {
                let at = mask.index(z, y, x);
                let inside = neighbours.iter().all(|step| mask.data[at - step] & mask.data[at + step] == 1);
                edges.data[at] = u8::from(mask.data[at] == 1 && !inside);
            }
        }
    }
    edges
}

/// Share of the area of both surfaces that lies within `tolerance` mm of the other one (normalised surface distance,
/// Nikolov et al., arXiv:1809.04430). `spacing` in mm, z, y, x. Neither mask may be empty.
///
/// MONAI's `compute_surface_dice(use_subvoxels=True)`: the surface elements stand between voxels, one in every
/// 2x2x2 neighbourhood that is neither empty nor full, with the area of the triangles that marching cubes puts there.
pub fn nsd(a: &Mask, b: &Mask, spacing: [f64; 3], tolerance: f64) -> f64 {
    let areas = element_areas(spacing);
    let (a, b) = (codes(a), codes(b));
    let (a_within, a_all) = area_within(&a, &b, &areas, spacing, tolerance);
    let (b_within, b_all) = area_within(&b, &a, &areas, spacing, tolerance);
    (a_within + b_within) / (a_all + b_all)
}

/// Area in mm^2 of the surface `from` that lies within `tolerance` of the surface `to`, and all of it.
fn area_within(from: &Mask, to: &Mask, areas: &[f64; 256], spacing: [f64; 3], tolerance: f64) -> (f64, f64) {
    let is_element = |code| code != 0 && code != u8::MAX;
    let (mut within, mut all) = (0.0, 0.0);
    each_distance(from, is_element, to, is_element, spacing, |at, distance| {
        let area = areas[usize::from(from.data[at])];
        all += area;
        // in f32, as MONAI compares: a distance of just the tolerance must not fall to the rounding of its root
        if distance as f32 <= tolerance as f32 {
            within += area;
        }
    });
    (within, all)
}

/// The neighbourhood code of every 2x2x2 block: one bit a voxel, 128 for the first (z, y, x all low) down to 1 for the
/// last. One element fewer than voxels along each axis.
fn codes(mask: &Mask) -> Mask {
    let [depth, height, width] = mask.size;
    let mut codes = Mask::zeros([depth - 1, height - 1, width - 1]);
    for z in 0..depth - 1 {
        for y in 0..height - 1 {
            for x in 0..width - 1 {
                let row = |z, y| {
                    let at = mask.index(z, y, x);
                    mask.data[at] << 1 | mask.data[at + 1]
                };
                let at = codes.index(z, y, x);
                codes.data[at] = row(z, y) << 6 | row(z, y + 1) << 4 | row(z + 1, y) << 2 | row(z + 1, y + 1);
            }
        }
    }
    codes
}

/// One neighbourhood of each kind, and the triangles of its surface: the absolute components of each triangle's
/// normal, as long as its area, in eighths of a voxel's face. All others are these turned, mirrored or inverted, and
/// their triangles with them. The numbers are those of the table in DeepMind's surface-distance (Apache-2.0) that
/// MONAI uses, which is symmetric in this sense; triangles of an element that add up to nothing else are not merged.
const KINDS: [(u8, &[[u8; 3]]); 13] = [
    (1, &[[1, 1, 1]]),
    (3, &[[2, 2, 0], [2, 2, 0]]),
    (6, &[[1, 1, 1], [1, 1, 1]]),
    (7, &[[1, 1, 1], [2, 2, 2], [4, 0, 0]]),
    (15, &[[4, 0, 0], [4, 0, 0]]),
    (22, &[[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
    (23, &[[1, 1, 1], [1, 1, 1], [2, 2, 2], [2, 2, 2]]),
    (24, &[[1, 1, 1], [1, 1, 1]]),
    (25, &[[0, 2, 2], [0, 2, 2], [1, 1, 1]]),
    (27, &[[0, 2, 2], [1, 1, 1], [2, 0, 2], [3, 3, 3]]),
    (30, &[[1, 1, 1], [1, 1, 1], [2, 2, 2], [4, 0, 0]]),
    (60, &[[2, 2, 0], [2, 2, 0], [2, 2, 0], [2, 2, 0]]),
    (105, &[[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]),
];

/// Area in mm^2 of the surface element of each neighbourhood code; `spacing` in mm, z, y, x.
fn element_areas(spacing: [f64; 3]) -> [f64; 256] {
    let faces = [spacing[1] * spacing[2], spacing[0] * spacing[2], spacing[0] * spacing[1]];
    let mut areas = [0.0; 256];
    for (code, triangles) in KINDS {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let area = triangles
                .iter()
                .map(|normal| {
                    let component = |axis: usize| f64::from(normal[order[axis]]) / 8.0 * faces[axis];
                    (component(0).powi(2) + component(1).powi(2) + component(2).powi(2)).sqrt()
                })
                .sum();
            for flip in 0..8 {
                let turned = turn(code, order, flip);
                areas[usize::from(turned)] = area;
                areas[usize::from(!turned)] = area;
            }
        }
    }
    areas
}

/// The code after its axes z, y, x are taken in `order` and mirrored where `flip` has a bit (4 z, 2 y, 1 x).
fn turn(code: u8, order: [usize; 3], flip: u8) -> u8 {
    let mut turned = 0;
    for corner in 0..8_u8 {
        if code >> (7 - corner) & 1 == 1 {
            let along = |axis: usize| corner >> (2 - axis) & 1;
            let moved = along(order[0]) << 2 | along(order[1]) << 1 | along(order[2]);
            turned |= 1 << (7 - (moved ^ flip));
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    // monai 1.6.1, its table of normals taken in f64 (its areas are f32):
    //   n = monai.metrics.utils._get_neighbour_code_to_normals_table().numpy().astype(float)
    //   a = np.linalg.norm(n * [s[1] * s[2], s[0] * s[2], s[0] * s[1]], axis=-1).sum(-1)      s: the spacing
    //   a.sum(), (a * np.arange(256) ** 2).sum(), a[27], a[54], a[200]
    #[test]
    fn element_areas_are_those_of_monai() {
        for (spacing, sum, weighted, some) in RECORDED {
            let areas = element_areas(spacing);
            assert!((areas.iter().sum::<f64>() / sum - 1.0).abs() < 1e-12);
            let square = |code: usize| (code * code) as f64;
            let found: f64 = areas.iter().enumerate().map(|(code, area)| square(code) * area).sum();
            assert!((found / weighted - 1.0).abs() < 1e-12, "{found}");
            for (code, area) in some {
                assert!((areas[code] / area - 1.0).abs() < 1e-12, "{code}");
            }
            assert_eq!((areas[0], areas[255]), (0.0, 0.0));
            assert_eq!(areas.iter().filter(|&&area| area == 0.0).count(), 2, "every kind is in the table");
        }
    }

    type Recorded = ([f64; 3], f64, f64, [(usize, f64); 3]);
    const RECORDED: [Recorded; 2] = [
        (
            [1.0, 1.0, 1.0],
            241.34313970553745,
            5101347.181405662,
            [(27, 1.573132184970986), (54, 1.3660254037844386), (200, 1.149519052838329)],
        ),
        (
            [0.7, 1.3, 2.5],
            515.3582780047532,
            11012265.07989053,
            [(27, 3.2377258189273634), (54, 2.775861646727609), (200, 2.3006462350457073)],
        ),
    ];

    #[test]
    fn a_percentile_lies_between_order_statistics() {
        // numpy.percentile([3, 1, 4, 1, 5, 9, 2, 6], 95) = 7.95
        assert!((percentile(vec![3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0], 0.95) - 7.95).abs() < 1e-12);
        assert_eq!(percentile(vec![2.5], 0.95), 2.5);
        assert!(percentile(Vec::new(), 0.95).is_nan());
    }
}
