//! The bytes of a training step, by rehearsal.
//!
//! The step is gone through as it will run, with every large block it takes and gives back, in order, but without memory
//! and arithmetic: tensors from the plan, the operations' scratch from the same cuts as the work itself
//! ([`crate::ops::cpu::conv::room`]), and each block's place from the pool that the step itself uses
//! ([`crate::ops::cpu::pool`]), so that the room lost between blocks is counted too. Steps are rehearsed until one leaves
//! the pool as it found it: blocks find their places. What must agree with the code is the order of takes and gives:
//! `tests/memory_plan.rs` holds it to measured steps.
mod layers;
mod pass;
mod walk;
pub mod work;

use crate::config::{Activations, OptimizerName, Recompute};
use crate::network::plan::NetworkPlan;
use crate::ops::cpu::isa::Isa;

use walk::Walk;
pub use walk::{Part, Place};

/// What a step's memory depends on.
#[derive(Clone, Debug)]
pub struct StepShape<'a> {
    pub plan: &'a NetworkPlan,
    /// Voxels, z, y, x.
    pub patch: [usize; 3],
    /// Voxels that are read for a patch before it is turned and scaled, z, y, x; zeros where samples are there already.
    pub source: [usize; 3],
    pub effective: usize,
    /// Samples in memory at once.
    pub micro: usize,
    pub activations: Activations,
    pub recompute: Recompute,
    pub optimizer: OptimizerName,
    pub threads: usize,
    pub isa: Isa,
}

/// What a step holds when it holds the most, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepBytes {
    /// Weights, which are there before the step.
    pub weights: u64,
    /// What the pool has of the system by then: all parts, and what lies free between them.
    pub pool: u64,
    /// Of that, by part.
    pub parts: [(Part, u64); Part::COUNT],
    /// Where in the step the pool grew last.
    pub place: Place,
    /// From which size on blocks should lie in an area of their own ([`crate::ops::cpu::pool::set_border`]), so that as
    /// little as possible lies free between them.
    pub border: usize,
}

impl StepBytes {
    pub fn total(&self) -> u64 {
        self.weights + self.pool
    }

    /// Free between blocks.
    pub fn between(&self) -> u64 {
        self.pool.saturating_sub(self.parts.iter().map(|(_, bytes)| bytes).sum())
    }
}

/// Borders that are tried, in bytes.
const BORDERS: [usize; 10] =
    [usize::MAX, 1 << 20, 2 << 20, 4 << 20, 8 << 20, 16 << 20, 32 << 20, 64 << 20, 128 << 20, 256 << 20];

/// Most steps that are rehearsed.
const STEPS: usize = 8;

/// Rehearses steps with the border between blocks that leaves the least free. `None` where sizes are beyond what can be counted.
pub fn rehearse(shape: &StepShape<'_>) -> Option<StepBytes> {
    // Nothing below overflows when all of a step's values together can be counted.
    let channels = shape.plan.stages.iter().map(|stage| stage.features).max()?.max(shape.plan.in_channels);
    let [patch, source] = [shape.patch, shape.source]
        .map(|size| size.iter().try_fold(1usize, |voxels, edge| voxels.checked_mul((*edge).max(1))));
    let values = patch?.max(source?).checked_mul(channels)?.checked_mul(shape.micro.max(1))?;
    let values = values.checked_mul(shape.plan.classes.max(1))?;
    if values >= 1 << 50 {
        return None;
    }
    let of_border = |border: usize| steps(Walk::new(shape, border));
    // The first of equals: no border, then the smallest.
    BORDERS.map(of_border).into_iter().min_by_key(|found| found.pool)
}

/// Steps until they repeat themselves.
fn steps(mut walk: Walk<'_>) -> StepBytes {
    walk.begin();
    let mut free = Vec::new();
    for _ in 0..STEPS {
        walk.step();
        let now = walk.free();
        if now == free {
            break;
        }
        free = now;
    }
    walk.found()
}
