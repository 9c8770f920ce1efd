//! Exact Euclidean distances from one set of voxels to another.
//!
//! The separable transform of Felzenszwalb and Huttenlocher (Distance Transforms of Sampled Functions, 2012) with a
//! spacing per axis. Distances are wanted only at a few voxels, so no volume of them is made: after a pass along x
//! that keeps two bytes a voxel, each x takes its own z-y plane through the other two axes and reads off what is asked.
use rayon::prelude::*;

use super::mask::Mask;

/// Further along x than this many voxels counts as nowhere in the row.
const FAR: u16 = u16::MAX;

/// Planes of one x that are worked on at a time, for each thread: what is asked for in them is in memory together.
const PLANES: usize = 2;

/// Hands `each`, for every voxel where `from` is set, its index and the distance in mm to the nearest voxel where `to` is
/// set (infinite where there is none). `spacing` in mm, z, y, x. The order is fixed: by x, then z, then y.
pub fn each_distance(
    from: &Mask,
    is_from: impl Fn(u8) -> bool + Sync,
    to: &Mask,
    is_to: impl Fn(u8) -> bool + Sync,
    spacing: [f64; 3],
    mut each: impl FnMut(usize, f64),
) {
    let [depth, height, width] = to.size;
    let along_x = steps_along_x(to, is_to);
    let plane_of = |x: usize| {
        let asked = || (0..depth).flat_map(|z| (0..height).map(move |y| (z, y)));
        let count = asked().filter(|&(z, y)| is_from(from.data[from.index(z, y, x)])).count();
        if count == 0 {
            return Vec::new();
        }
        let mut plane = vec![f64::INFINITY; depth * height];
        for (z, y) in asked() {
            let steps = along_x[to.index(z, y, x)];
            if steps != FAR {
                plane[z * height + y] = (f64::from(steps) * spacing[2]).powi(2);
            }
        }
        let mut envelope = Envelope::new(depth.max(height));
        for z in 0..depth {
            envelope.transform(&mut plane[z * height..(z + 1) * height], 1, height, spacing[1]);
        }
        for y in 0..height {
            envelope.transform(&mut plane[y..], height, depth, spacing[0]);
        }
        let mut found = Vec::with_capacity(count);
        let all = asked().map(|(z, y)| (from.index(z, y, x), plane[z * height + y]));
        found.extend(all.filter(|&(at, _)| is_from(from.data[at])).map(|(at, squared)| (at, squared.sqrt())));
        found
    };
    let at_once = PLANES * rayon::current_num_threads();
    for first in (0..width).step_by(at_once) {
        let planes: Vec<Vec<(usize, f64)>> =
            (first..(first + at_once).min(width)).into_par_iter().map(plane_of).collect();
        planes.into_iter().flatten().for_each(|(at, distance)| each(at, distance));
    }
}

/// The most bytes that [`each_distance`] holds beside its masks, of `size` voxels each, z, y, x.
pub fn peak_bytes([depth, height, width]: [usize; 3]) -> u64 {
    let plane = (depth as u64).saturating_mul(height as u64);
    let planes = (PLANES * rayon::current_num_threads()) as u64 * (size_of::<f64>() + size_of::<(usize, f64)>()) as u64;
    plane
        .saturating_mul(width as u64)
        .saturating_mul(size_of::<u16>() as u64)
        .saturating_add(plane.saturating_mul(planes))
}

/// Voxels to the nearest set voxel in the same row along x, [`FAR`] where the row has none.
fn steps_along_x(mask: &Mask, is_set: impl Fn(u8) -> bool + Sync) -> Vec<u16> {
    let width = mask.size[2];
    let mut steps = vec![FAR; mask.data.len()];
    steps.par_chunks_mut(width).zip(mask.data.par_chunks(width)).for_each(|(steps, row)| {
        let mut last = FAR;
        for (step, &value) in steps.iter_mut().zip(row) {
            last = if is_set(value) { 0 } else { last.saturating_add(1) };
            *step = last;
        }
        last = FAR;
        for (step, &value) in steps.iter_mut().zip(row).rev() {
            last = if is_set(value) { 0 } else { last.saturating_add(1) };
            *step = last.min(*step);
        }
    });
    steps
}

/// The lower envelope of parabolas along one line; kept from line to line for its memory.
struct Envelope {
    /// Height at the foot and position of each parabola, and where it begins to be the lowest.
    parabolas: Vec<(f64, f64, f64)>,
}

impl Envelope {
    fn new(length: usize) -> Self {
        Self { parabolas: Vec::with_capacity(length) }
    }

    /// Replaces squared distances `values[i * stride]`, i < `length`, by their minimum over j of
    /// `values[j * stride] + ((i - j) spacing)^2`.
    fn transform(&mut self, values: &mut [f64], stride: usize, length: usize, spacing: f64) {
        self.parabolas.clear();
        for i in 0..length {
            let height = values[i * stride];
            if height == f64::INFINITY {
                continue;
            }
            let position = i as f64 * spacing;
            let mut start = f64::NEG_INFINITY;
            while let Some(&(other, foot, begin)) = self.parabolas.last() {
                // where the new parabola meets the last one
                start = ((height - other) / (position - foot) + position + foot) / 2.0;
                if start > begin {
                    break;
                }
                self.parabolas.pop();
                start = f64::NEG_INFINITY;
            }
            self.parabolas.push((height, position, start));
        }
        if self.parabolas.is_empty() {
            return;
        }
        let mut current = 0;
        for i in 0..length {
            let position = i as f64 * spacing;
            while self.parabolas.get(current + 1).is_some_and(|next| next.2 < position) {
                current += 1;
            }
            let (height, foot, _) = self.parabolas[current];
            values[i * stride] = height + (position - foot).powi(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every pair, as the definition says.
    fn plain(from: &Mask, to: &Mask, spacing: [f64; 3]) -> Vec<(usize, f64)> {
        let position = |at: usize| {
            let [_, height, width] = from.size;
            let index = [at / (height * width), at / width % height, at % width];
            std::array::from_fn::<f64, 3, _>(|axis| index[axis] as f64 * spacing[axis])
        };
        let set = |mask: &Mask| (0..mask.data.len()).filter(|&at| mask.data[at] == 1).collect::<Vec<_>>();
        let distance = |a: usize, b: usize| {
            let (a, b) = (position(a), position(b));
            (0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum::<f64>().sqrt()
        };
        set(from)
            .into_iter()
            .map(|a| (a, set(to).into_iter().map(|b| distance(a, b)).fold(f64::INFINITY, f64::min)))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn distances_are_those_of_every_pair(
            size in [1_usize..7, 1_usize..8, 1_usize..9],
            spacing in [0.2_f64..4.0, 0.2_f64..4.0, 0.2_f64..4.0],
            density in 1_u64..40,
            seed in any::<u64>(),
        ) {
            use rand::Rng;
            let mut random = crate::random::stream(seed, "test", 0, 0);
            let mut draw = |share: u64| {
                let mut mask = Mask::zeros(size);
                mask.data.iter_mut().for_each(|value| *value = u8::from(random.next_u64() % 100 < share));
                mask
            };
            let (from, to) = (draw(30), draw(density));
            let mut found = Vec::new();
            let set = |value| value == 1;
            each_distance(&from, set, &to, set, spacing, |at, distance| found.push((at, distance)));
            found.sort_by_key(|&(at, _)| at);
            let expected = plain(&from, &to, spacing);
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert_eq!(found.0, expected.0);
                prop_assert!(found.1 == expected.1 || (found.1 - expected.1).abs() < 1e-12, "{:?} {:?}", found, expected);
            }
        }
    }
}
