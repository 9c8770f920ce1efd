//! nnU-Net's topology rules: from patch and spacing to stages, kernels and strides.
//!
//! The rules are those of nnU-Net v2's `ExperimentPlanner` (Isensee et al., Nature Methods 18, 2021): the target
//! spacing, the first patch, where an axis is halved, and how the patch shrinks until its feature maps fit the card
//! that the network is designed for. They read the dataset and the *design* memory, never the memory at hand.
//!
//! Triples are z, y, x except where a function says otherwise; each rule treats the axes alike, so only ties depend
//! on their order, and [`planned`] puts the axis of the largest spacing first, as nnU-Net does.

use super::plan::Kind;

/// An axis is halved while both halves keep at least this many voxels.
const MIN_EDGE: f64 = 4.0;
/// An axis is coarse where its spacing is this many times the others'.
const ANISOTROPY: f64 = 3.0;
/// Elements of all convolution outputs that nnU-Net takes to fill 8 GB at two samples.
fn reference_elements(kind: Kind) -> f64 {
    match kind {
        Kind::Plain => 560e6,
        Kind::ResEnc => 680e6,
    }
}

/// The memory which [`reference_elements`] belongs to, in bytes (nnU-Net's "8 GB" card).
const REFERENCE_BYTES: f64 = 8.0 * 1024.0 * 1024.0 * 1024.0;
/// Voxels along each axis of the cube from whose volume the search for a patch starts.
const FIRST_EDGE: f64 = 256.0;

/// What a network is planned for.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Plain or residual encoder: they differ in what a patch may take.
    pub kind: Kind,
    /// Channels of the first stage; they double per stage up to `features_max`.
    pub features: usize,
    /// No stage has more channels than this.
    pub features_max: usize,
    /// No more stages than this.
    pub stages: Option<usize>,
    /// Bytes of the card that the network is designed for.
    pub design: u64,
    /// Classes, background included.
    pub classes: usize,
}

/// Stages, kernels and strides, and the patch they divide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Voxels, divisible by [`Topology::divisor`].
    pub patch: [usize; 3],
    /// One per stage, each entry 1 or 3.
    pub kernels: Vec<[usize; 3]>,
    /// One per stage, each entry 1 or 2, all 1 in the first.
    pub strides: Vec<[usize; 3]>,
}

/// Why no network can be planned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Features or design leave no room for any patch.
    #[error(
        "no patch, not even one of a single voxel, fits the design; write a larger network.design or smaller network.features"
    )]
    DesignTooSmall,
    /// A dataset without cases has no median size and spacing.
    #[error("the dataset has no case to plan from; check its dataset.json")]
    NoCases,
}

impl Topology {
    /// Product of the strides: what the patch must be divisible by.
    pub fn divisor(&self) -> [usize; 3] {
        divisor(&self.strides)
    }
}

/// Product of `strides` along each axis.
pub fn divisor(strides: &[[usize; 3]]) -> [usize; 3] {
    std::array::from_fn(|axis| strides.iter().fold(1usize, |product, stride| product.saturating_mul(stride[axis])))
}

/// Channels of `stage`: `features` doubled per stage, at most `features_max`.
pub fn features_of(stage: usize, features: usize, features_max: usize) -> usize {
    let doubled = u32::try_from(stage).ok().and_then(|stage| 1usize.checked_shl(stage)).unwrap_or(usize::MAX);
    features.saturating_mul(doubled).min(features_max)
}

/// The spacing that all cases are resampled to, in mm: the median per axis; where one axis is more than three times
/// coarser than the others and has less than a third of their voxels, its 10th percentile instead (not below the
/// others). One spacing (mm) and one size (voxels) per case, in any order of axes, which is also the result's.
///
/// # Errors
/// [`TopologyError::NoCases`].
pub fn target_spacing(spacings: &[[f64; 3]], sizes: &[[usize; 3]]) -> Result<[f64; 3], TopologyError> {
    if spacings.is_empty() || sizes.is_empty() {
        return Err(TopologyError::NoCases);
    }
    let along = |axis: usize| spacings.iter().map(|spacing| spacing[axis]).collect::<Vec<_>>();
    let mut target: [f64; 3] = std::array::from_fn(|axis| percentile(along(axis), 50.0));
    let size: [f64; 3] =
        std::array::from_fn(|axis| percentile(sizes.iter().map(|size| size[axis] as f64).collect(), 50.0));
    let worst = (0..3).fold(0, |worst, axis| if target[axis] > target[worst] { axis } else { worst });
    let others = [(worst + 1) % 3, (worst + 2) % 3];
    let coarsest_other = target[others[0]].max(target[others[1]]);
    let smallest_other = size[others[0]].min(size[others[1]]);
    if target[worst] > ANISOTROPY * coarsest_other && size[worst] * ANISOTROPY < smallest_other {
        let tenth = percentile(along(worst), 10.0);
        target[worst] = if tenth < coarsest_other { coarsest_other + 1e-5 } else { tenth };
    }
    Ok(target)
}

/// Median voxels per axis after resampling every case to `target` mm (each size rounded half to even); order of axes
/// as in [`target_spacing`]. May be halves.
///
/// # Errors
/// [`TopologyError::NoCases`].
pub fn median_size(spacings: &[[f64; 3]], sizes: &[[usize; 3]], target: [f64; 3]) -> Result<[f64; 3], TopologyError> {
    if spacings.is_empty() || sizes.is_empty() {
        return Err(TopologyError::NoCases);
    }
    Ok(std::array::from_fn(|axis| {
        let resampled = spacings
            .iter()
            .zip(sizes)
            .map(|(spacing, size)| (spacing[axis] / target[axis] * size[axis] as f64).round_ties_even());
        percentile(resampled.collect(), 50.0)
    }))
}

/// Where to halve, for a patch of `size` voxels at `spacing` mm, at most `stages` stages: nnU-Net's
/// `get_pool_and_conv_props`. The patch is raised to the next size that the strides divide.
pub fn topology(spacing: [f64; 3], size: [f64; 3], stages: Option<usize>) -> Topology {
    let mut strides = vec![[1; 3]];
    let (mut mm, mut voxels) = (spacing, size);
    while strides.len() < stages.unwrap_or(usize::MAX) {
        let Some(halved) = axes_to_halve(mm, voxels) else { break };
        for axis in 0..3 {
            if halved[axis] {
                mm[axis] *= 2.0;
                voxels[axis] = (voxels[axis] / 2.0).ceil();
            }
        }
        strides.push(halved.map(|halved| if halved { 2 } else { 1 }));
    }
    let kernels = kernels(spacing, &strides);
    let divisor = divisor(&strides);
    let patch = std::array::from_fn(|axis| {
        let whole = (size[axis].ceil() as usize).max(1);
        whole.div_ceil(divisor[axis]).saturating_mul(divisor[axis])
    });
    Topology { patch, kernels, strides }
}

/// Axes that are long enough and within twice the finest spacing; a lone axis must be longer by half.
fn axes_to_halve(mm: [f64; 3], voxels: [f64; 3]) -> Option<[bool; 3]> {
    let long = voxels.map(|voxels| voxels >= 2.0 * MIN_EDGE);
    let finest = (0..3).filter(|&axis| long[axis]).map(|axis| mm[axis]).fold(f64::INFINITY, f64::min);
    let halved: [bool; 3] = std::array::from_fn(|axis| long[axis] && mm[axis] / finest < 2.0);
    let chosen: Vec<usize> = (0..3).filter(|&axis| halved[axis]).collect();
    match chosen[..] {
        [] => None,
        [lone] if voxels[lone] < 3.0 * MIN_EDGE => None,
        _ => Some(halved),
    }
}

/// Kernels for these strides: 1 along an axis until its spacing is within twice the finest, then 3; the last stage
/// has 3 everywhere. `spacing` in mm.
pub fn kernels(spacing: [f64; 3], strides: &[[usize; 3]]) -> Vec<[usize; 3]> {
    let mut mm = spacing;
    let mut kernel = [1; 3];
    let mut kernels = Vec::with_capacity(strides.len());
    for stride in strides.iter().skip(1) {
        let finest = mm.into_iter().fold(f64::INFINITY, f64::min);
        for axis in 0..3 {
            if mm[axis] / finest < 2.0 {
                kernel[axis] = 3;
            }
            mm[axis] *= stride[axis] as f64;
        }
        kernels.push(kernel);
    }
    kernels.push([3; 3]);
    kernels
}

/// Elements that all convolutions put out for one patch: two per stage in the encoder, two, a transposed one and (at
/// full resolution) the head in the decoder; of the residual encoder one in front, two per block and the one beside a
/// stage's first block, which nnU-Net counts where it only averages too, and one per level. No bytes, no weights, no
/// optimizer: nnU-Net's measure of memory.
pub fn feature_map_elements(topology: &Topology, rules: &Rules) -> f64 {
    let mut size = topology.patch.map(|voxels| voxels as f64);
    let last = topology.strides.len() - 1;
    let mut total = 0.0;
    for (stage, stride) in topology.strides.iter().enumerate() {
        size = std::array::from_fn(|axis| (size[axis] / stride[axis] as f64).floor());
        let voxels: f64 = size.iter().product();
        let features = features_of(stage, rules.features, rules.features_max) as f64;
        total += features * voxels * encoder_convolutions(topology, rules, stage);
        if stage < last {
            total += (1 + rules.kind.decoder_convolutions()) as f64 * features * voxels;
            if stage == 0 {
                total += rules.classes as f64 * voxels;
            }
        }
    }
    total
}

/// Convolutions of an encoder stage; at full resolution with that in front.
fn encoder_convolutions(topology: &Topology, rules: &Rules, stage: usize) -> f64 {
    if rules.kind == Kind::Plain {
        return 2.0;
    }
    let features = |stage| features_of(stage, rules.features, rules.features_max);
    let beside = stage > 0 && (features(stage) != features(stage - 1) || topology.strides[stage] != [1; 3]);
    (2 * rules.kind.blocks(stage) + usize::from(beside) + usize::from(stage == 0)) as f64
}

/// Patch and topology for a dataset of `spacing` mm and `median` voxels: the patch starts as 1 / spacing scaled to
/// the volume of 256^3, clipped to the median size, and loses voxels along the axis where it is largest against the
/// median until [`feature_map_elements`] of two samples fit the design.
///
/// # Errors
/// [`TopologyError::DesignTooSmall`] where the patch would vanish.
pub fn planned(spacing: [f64; 3], median: [f64; 3], rules: &Rules) -> Result<Topology, TopologyError> {
    let coarsest = (0..3).fold(0, |worst, axis| if spacing[axis] > spacing[worst] { axis } else { worst });
    let mut order = vec![coarsest];
    order.extend((0..3).filter(|&axis| axis != coarsest));
    let forward = |triple: [f64; 3]| std::array::from_fn::<f64, 3, _>(|axis| triple[order[axis]]);
    let mut topology = planned_in_order(forward(spacing), forward(median), rules)?;
    let backward = |triple: [usize; 3]| {
        let mut restored = [0; 3];
        for axis in 0..3 {
            restored[order[axis]] = triple[axis];
        }
        restored
    };
    topology.patch = backward(topology.patch);
    topology.kernels.iter_mut().for_each(|kernel| *kernel = backward(*kernel));
    topology.strides.iter_mut().for_each(|stride| *stride = backward(*stride));
    Ok(topology)
}

fn planned_in_order(spacing: [f64; 3], median: [f64; 3], rules: &Rules) -> Result<Topology, TopologyError> {
    let inverse = spacing.map(|mm| 1.0 / mm);
    let scale = libm::cbrt(FIRST_EDGE.powi(3) / inverse.iter().product::<f64>());
    let first = std::array::from_fn(|axis| (inverse[axis] * scale).round_ties_even().min(median[axis]).max(1.0));
    let reference = reference_elements(rules.kind) * (rules.design as f64 / REFERENCE_BYTES);
    let mut plan = topology(spacing, first, rules.stages);
    while feature_map_elements(&plan, rules) > reference {
        // The last of equals, as a stable ascending sort leaves it.
        let ratio = |axis: usize| plan.patch[axis] as f64 / median[axis];
        let axis = (1..3).fold(0, |best, axis| if ratio(axis) >= ratio(best) { axis } else { best });
        // Taking the divisor away may lower the divisor itself; the step is by the lower one, so that no patch between
        // is skipped (256 is followed by 224, not 192).
        let mut smaller = plan.patch.map(|voxels| voxels as f64);
        smaller[axis] -= plan.divisor()[axis] as f64;
        let step = topology(spacing, smaller, rules.stages).divisor()[axis];
        if plan.patch[axis] <= step {
            return Err(TopologyError::DesignTooSmall);
        }
        let mut patch = plan.patch.map(|voxels| voxels as f64);
        patch[axis] -= step as f64;
        plan = topology(spacing, patch, rules.stages);
    }
    Ok(plan)
}

/// The patch nearest to `patch` that its own topology divides (itself where it does).
pub fn nearest_patch(spacing: [f64; 3], patch: [usize; 3], stages: Option<usize>) -> [usize; 3] {
    let own = topology(spacing, patch.map(|voxels| voxels as f64), stages);
    let rounded = nearest_multiple(patch, own.divisor());
    if topology(spacing, rounded.map(|voxels| voxels as f64), stages).patch == rounded { rounded } else { own.patch }
}

/// The multiple of `divisor` (at least once it) nearest to `patch`, the smaller of two as near.
pub fn nearest_multiple(patch: [usize; 3], divisor: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| {
        let below = patch[axis] / divisor[axis] * divisor[axis];
        let above = below.saturating_add(divisor[axis]);
        if below > 0 && patch[axis] - below <= above - patch[axis] { below } else { above }
    })
}

/// NumPy's linear percentile of values in any order; NaN where there are none.
fn percentile(mut values: Vec<f64>, percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let position = percent / 100.0 * last as f64;
    let below = position.floor() as usize;
    let share = position - below as f64;
    let (a, b) = (values[below], values[(below + 1).min(last)]);
    if share < 0.5 { a + (b - a) * share } else { b - (b - a) * (1.0 - share) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_numpys() {
        // numpy.percentile([1, 2, 4, 8], [10, 50, 90]) = [1.3, 3., 6.8]
        for (percent, expected) in [(10.0, 1.3), (50.0, 3.0), (90.0, 6.8)] {
            assert!((percentile(vec![8.0, 1.0, 4.0, 2.0], percent) - expected).abs() < 1e-12);
        }
        assert!(percentile(Vec::new(), 50.0).is_nan());
    }

    #[test]
    fn features_double_up_to_the_most() {
        assert_eq!([0, 1, 2, 3, 4, 90].map(|stage| features_of(stage, 32, 320)), [32, 64, 128, 256, 320, 320]);
    }

    #[test]
    fn nearest_multiple_is_never_zero() {
        assert_eq!(nearest_multiple([33, 36, 3], [8, 8, 8]), [32, 32, 8]);
        assert_eq!(nearest_multiple([37, 40, 1], [8, 8, 1]), [40, 40, 1]);
    }
}
