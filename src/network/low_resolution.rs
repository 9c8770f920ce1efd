//! The network for a coarser grid that nnU-Net plans beside the one at full resolution, where a patch of that shows too little
//! of a case (`3d_lowres` of its `ExperimentPlanner`). Triples are z, y, x, or any other order that all of them have.
use super::topology::{Rules, Topology, TopologyError, planned};

/// A coarser grid is planned where the patch covers less than this share of the median case.
pub const SHARE: f64 = 0.25;
/// The spacing grows in such steps.
const STEP: f64 = 1.03;
/// Axes whose spacing is less than the largest over this grow first.
const NEAR: f64 = 2.0;
/// A coarser grid is dropped where the median case has not even this many times fewer voxels on it.
const WORTHWHILE: f64 = 2.0;

/// A network at a coarser spacing.
#[derive(Clone, Debug, PartialEq)]
pub struct LowResolution {
    /// mm.
    pub spacing: [f64; 3],
    /// Voxels of the median case at this spacing.
    pub median: [f64; 3],
    /// Stages and patch at this spacing.
    pub topology: Topology,
}

/// The share of a median case's voxels that a patch has; above 1 where it is larger.
pub fn coverage(patch: [usize; 3], median: [f64; 3]) -> f64 {
    volume(patch.map(|voxels| voxels as f64)) / volume(median)
}

/// Beside a network with this `patch` at `spacing` mm, where the median case has `median` voxels. `None` where the patch covers
/// enough of it, and where the coarser grid that it would cover enough of is nearly the same.
///
/// # Errors
/// [`TopologyError::DesignTooSmall`] where no patch fits the design at a coarser spacing.
pub fn low_resolution(
    spacing: [f64; 3],
    median: [f64; 3],
    patch: [usize; 3],
    rules: &Rules,
) -> Result<Option<LowResolution>, TopologyError> {
    let mut coarse = spacing;
    let mut found = None;
    let mut share = coverage(patch, median);
    while share < SHARE {
        let largest = coarse.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let finer = coarse.map(|mm| largest / mm > NEAR);
        for axis in 0..3 {
            if finer[axis] || !finer.contains(&true) {
                coarse[axis] *= STEP;
            }
        }
        let exact: [f64; 3] = std::array::from_fn(|axis| spacing[axis] / coarse[axis] * median[axis]);
        let rounded = exact.map(f64::round_ties_even);
        let topology = planned(coarse, rounded, rules)?;
        share = coverage(topology.patch, exact);
        found = Some((volume(exact), LowResolution { spacing: coarse, median: rounded, topology }));
    }
    Ok(found.filter(|(voxels, _)| volume(median) / voxels >= WORTHWHILE).map(|(_, low)| low))
}

fn volume(size: [f64; 3]) -> f64 {
    size.into_iter().product()
}
