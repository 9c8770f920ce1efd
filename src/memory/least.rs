//! What a step cannot do without: a bound from below, to refuse what would end the process instead of an error.
use crate::network::plan::NetworkPlan;

/// Bytes that a step of any implementation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Least {
    /// Weights, their gradient and one state of the optimizer, f32.
    pub weights: u64,
    /// Of one sample: the image (f32) and what the convolutions of the first stage keep for the backward pass.
    pub sample: u64,
}

impl Least {
    /// `patch` is z, y, x; an activation takes `activation_bytes`. Saturating: sizes come from a file.
    pub fn of(plan: &NetworkPlan, patch: [usize; 3], activation_bytes: u64) -> Self {
        let mut parameters = 0u64;
        let mut from = plan.in_channels as u64;
        for (index, stage) in plan.stages.iter().enumerate() {
            let features = stage.features as u64;
            // Two convolutions down; where there is a stage below, two up, the first of which also has the skip.
            let up = if index + 1 < plan.stages.len() { 3 * features } else { 0 };
            let kernel = stage.kernel.iter().product::<usize>() as u64;
            let stage = (from + features + up).saturating_mul(features).saturating_mul(kernel);
            parameters = parameters.saturating_add(stage);
            from = features;
        }
        let voxels = patch.iter().fold(1u64, |voxels, edge| voxels.saturating_mul(*edge as u64));
        let features = plan.stages.first().map_or(0, |stage| stage.features as u64);
        let per_voxel = 4 * plan.in_channels as u64 + 2 * features * activation_bytes;
        Self { weights: parameters.saturating_mul(12), sample: voxels.saturating_mul(per_voxel) }
    }

    /// With `micro` samples at once.
    pub fn total(self, micro: usize) -> u64 {
        self.weights.saturating_add(self.sample.saturating_mul(micro as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::plan::{Norm, Stage};

    #[test]
    fn counts_a_network_of_two_stages() {
        let stage = |features, stride| Stage { features, kernel: [3; 3], stride, norm: Norm::Instance };
        let plan = NetworkPlan {
            in_channels: 1,
            classes: 2,
            stages: vec![stage(4, [1; 3]), stage(8, [2; 3])],
            deep_supervision: false,
        };
        // 27 (1*4 + 4*4 + 8*4 + 4*4) + 27 (4*8 + 8*8) weights; 8^3 voxels of 4 + 2*4*2 bytes.
        let least = Least::of(&plan, [8; 3], 2);
        assert_eq!(least, Least { weights: 12 * 27 * (68 + 96), sample: 512 * 20 });
        assert_eq!(least.total(3), 12 * 27 * 164 + 3 * 512 * 20);
        assert_eq!(Least::of(&plan, [usize::MAX; 3], 2).total(2), u64::MAX);
    }
}
