//! Which patch sample `n` of the run is.
//!
//! Cases are drawn with replacement. The share of samples centred on foreground is not drawn but counted over the
//! whole run, so it holds at every batch size, 1 included (nnU-Net's rule, the last third of a batch, gives none at 1).
use crate::dataset::store::StoredCase;
use crate::random::stream;

use super::uniform::below;

/// Draws patches; holds no state that advances.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// The run's: with step and sample it decides every draw.
    pub seed: u64,
    /// Samples per optimizer step.
    pub effective_batch: usize,
    /// Share of samples centred on a foreground voxel, 0 to 1.
    pub foreground: f64,
    /// Voxels read per patch (the augmentation's source box), z, y, x.
    pub source: [usize; 3],
    /// Voxels of the patch itself, z, y, x.
    pub patch: [usize; 3],
}

/// A drawn patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Index into the cases given.
    pub case: usize,
    /// First voxel of the source box, z, y, x.
    pub start: [isize; 3],
    /// Whether it was to be centred on a foreground voxel. In a case without foreground the position is random
    /// instead, and the sample still counts.
    pub forced: bool,
}

/// What the sampler must know of a case.
pub trait SampleSource {
    /// Voxels z, y, x.
    fn size(&self) -> [usize; 3];
    /// Classes (1..) that have a voxel in this case, ascending.
    fn classes_present(&self) -> &[u16];
    /// How many locations of `class` are kept for sampling.
    fn location_count(&self, class: u16) -> usize;
    /// Location `index` of `class`, voxel z, y, x.
    fn location(&self, class: u16, index: usize) -> [usize; 3];
}

impl SampleSource for StoredCase {
    fn size(&self) -> [usize; 3] {
        StoredCase::size(self)
    }

    fn classes_present(&self) -> &[u16] {
        StoredCase::classes_present(self)
    }

    fn location_count(&self, class: u16) -> usize {
        StoredCase::location_count(self, class)
    }

    fn location(&self, class: u16, index: usize) -> [usize; 3] {
        StoredCase::location(self, class, index)
    }
}

impl Sampler {
    /// The patch of sample `sample` (0..effective_batch) of step `step`: of the stream `(seed, "patch", step, sample)`
    /// alone, so samples can be drawn in any order and by any thread.
    ///
    /// # Panics
    /// Where `cases` is empty.
    pub fn draw<S: SampleSource>(&self, cases: &[&S], step: u64, sample: u64) -> Draw {
        assert!(!cases.is_empty(), "patches are drawn from one case at least");
        let mut rng = stream(self.seed, "patch", step, sample);
        let number = step.saturating_mul(self.effective_batch as u64).saturating_add(sample);
        let forced = is_forced(number, self.foreground);
        let case = below(&mut rng, cases.len());
        let bounds = self.bounds(cases[case].size());
        let centre = if forced { foreground_voxel(cases[case], &mut rng) } else { None };
        let start = std::array::from_fn(|axis| {
            let (lowest, highest) = bounds[axis];
            match centre {
                Some(voxel) => (voxel[axis] as isize - (self.source[axis] / 2) as isize).clamp(lowest, highest),
                None => lowest + below(&mut rng, (highest - lowest + 1) as usize) as isize,
            }
        });
        Draw { case, start, forced }
    }

    /// Lowest and highest first voxel of the source box along each axis of a case of `size` voxels.
    ///
    /// nnU-Net's `get_bbox`: the case is thought padded by `source - patch` voxels (half on each side), so that the
    /// patch in the middle of the box just reaches the borders, or by as many as it falls short of the box. nnU-Net's
    /// code holds foreground patches to the lower bound only; here, as its comment says, to both.
    fn bounds(&self, size: [usize; 3]) -> [(isize, isize); 3] {
        std::array::from_fn(|axis| {
            let [size, source, patch] = [size[axis], self.source[axis], self.patch[axis]].map(|n| n as isize);
            let padding = (source - patch).max(source - size).max(0);
            let before = (padding + 1) / 2;
            (-before, size + before - source)
        })
    }
}

/// A random stored location of a random present class.
fn foreground_voxel<S: SampleSource>(case: &S, rng: &mut impl rand::Rng) -> Option<[usize; 3]> {
    let present = case.classes_present();
    let kept = present.iter().filter(|&&class| case.location_count(class) > 0).count();
    let pick = below(rng, kept);
    let class = *present.iter().filter(|&&class| case.location_count(class) > 0).nth(pick)?;
    Some(case.location(class, below(rng, case.location_count(class))))
}

/// Whether sample `number` of the run is centred on foreground: where the rounded count of such samples steps up.
///
/// After `n` samples there were exactly `round(n * share)`, so the count is never off by more than a half; rounding
/// rather than cutting off keeps it within one also where `share` (0.3, say) lies a hair below the decimal that was
/// written. A NaN counts as 0.
pub fn is_forced(number: u64, share: f64) -> bool {
    forced_among(u128::from(number) + 1, share) > forced_among(u128::from(number), share)
}

/// `round(n * share)`, halves up, in integers: a share in [0, 1] is a 53-bit integer times a power of two, and its
/// product with `n` (at most 2^64) has 117 bits.
fn forced_among(n: u128, share: f64) -> u128 {
    if share >= 1.0 {
        return n;
    }
    if share.is_nan() || share <= 0.0 {
        return 0;
    }
    let bits = share.to_bits();
    let (exponent, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
    // below 2^-1022 the leading bit is not implied; the shift is that of exponent 1
    let integer = if exponent == 0 { fraction } else { fraction | (1 << 52) };
    let shift = 1075 - exponent.max(1);
    if shift > 118 {
        return 0; // less than 2^-65 per sample
    }
    (n * u128::from(integer) + (1 << (shift - 1))) >> shift
}
