//! The bytes of a training step, by rehearsal.
//!
//! The step is gone through as it will run, with every large block it takes and gives back, in order, but without memory
//! and arithmetic: tensors from the plan, the operations' scratch from the same cuts as the work itself
//! ([`crate::ops::cpu::conv::room`]), and each block's place from the pool that the step itself uses
//! ([`crate::ops::cpu::pool`]), so that the room lost between blocks is counted too. Steps are rehearsed until one leaves
//! the pool as it found it: blocks find their places. What must agree with the code is the order of takes and gives:
//! `tests/memory_plan.rs` holds it to measured steps.
mod forward;
mod layers;
mod numbers;
mod pass;
mod residual;
mod walk;
pub mod work;

use crate::config::{Activations, Recompute};
use crate::network::plan::NetworkPlan;
use crate::ops::cpu::isa::Isa;
use crate::ops::cpu::pool::{Arena, REGION};
use crate::ops::tree::Stretch;

pub use forward::rehearse_forward;
use walk::Walk;
pub use walk::{Part, Place};

/// What a step's memory depends on.
#[derive(Clone, Debug)]
pub struct StepShape<'a> {
    /// The network.
    pub plan: &'a NetworkPlan,
    /// Voxels, z, y, x.
    pub patch: [usize; 3],
    /// Voxels that are read for a patch before it is turned and scaled, z, y, x; zeros where samples are there already.
    pub source: [usize; 3],
    /// The step's samples that this process computes.
    pub stretch: Stretch,
    /// Samples in memory at once.
    pub micro: usize,
    /// Type of what passes between layers.
    pub activations: Activations,
    /// What is computed again in the backward pass.
    pub recompute: Recompute,
    /// Numbers that are remembered of every weight from step to step.
    pub remembered: usize,
    /// Threads that compute; each has blocks of its own.
    pub threads: usize,
    /// Instruction set of the inner loops, which decides the size of their blocks.
    pub isa: Isa,
}

/// What a step holds when it holds the most, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepBytes {
    /// Weights, which are there before the step.
    pub weights: u64,
    /// What the pool has of the system: all parts, and what lies free between them.
    pub pool: u64,
    /// Of that, by part.
    pub parts: [(Part, u64); Part::COUNT],
    /// Where in the step the most is held.
    pub place: Place,
    /// How blocks should lie ([`crate::ops::cpu::pool::set_arena`]), so that as little as possible lies free between them.
    pub arena: Arena,
}

impl StepBytes {
    /// Weights and pool, in bytes.
    pub fn total(&self) -> u64 {
        self.weights + self.pool
    }

    /// Free between blocks.
    pub fn between(&self) -> u64 {
        self.pool.saturating_sub(self.parts.iter().map(|(_, bytes)| bytes).sum())
    }
}

/// Borders that are tried, in bytes.
const BORDERS: [usize; 5] = [1 << 20, 4 << 20, 16 << 20, 32 << 20, 64 << 20];
/// Arenas that are tried for each.
const TRIES: u64 = 16;

/// Most steps that are rehearsed.
const STEPS: usize = 8;

/// Rehearses steps with blocks laid out so that the least lies free between them; where even without that more than `most`
/// bytes are held, the layout is not looked for. `None` where sizes are beyond what can be counted.
pub fn rehearse(shape: &StepShape<'_>, most: u64) -> Option<StepBytes> {
    can_be_counted(shape)?;
    let fitted = steps(Walk::new(shape, Arena::NONE));
    let held: u64 = fitted.parts.iter().map(|(_, bytes)| bytes).sum();
    if fitted.weights + held > most {
        return Some(fitted);
    }
    Some(BORDERS.into_iter().fold(fitted, |best, border| smaller(shape, border, held, best)))
}

/// With an arena no larger than the best so far: the smallest that holds a step whose blocks come to `held` bytes.
fn smaller(shape: &StepShape<'_>, border: usize, held: u64, best: StepBytes) -> StepBytes {
    let region = REGION as u64;
    let first = held.next_multiple_of(region);
    let step = (best.pool.saturating_sub(held) / TRIES).next_multiple_of(region).max(region);
    let mut sizes = (0..TRIES).map(|number| first + number * step).take_while(|bytes| *bytes < best.pool);
    let found = sizes.find_map(|bytes| {
        let found = steps(Walk::new(shape, Arena { bytes: usize::try_from(bytes).ok()?, border }));
        (found.pool == bytes).then_some(found)
    });
    found.unwrap_or(best)
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

fn can_be_counted(shape: &StepShape<'_>) -> Option<()> {
    // Nothing below overflows when all of a step's values together can be counted.
    let channels = shape.plan.stages.iter().map(|stage| stage.features).max()?.max(shape.plan.in_channels);
    let [patch, source] = [shape.patch, shape.source]
        .map(|size| size.iter().try_fold(1usize, |voxels, edge| voxels.checked_mul((*edge).max(1))));
    let values = patch?.max(source?).checked_mul(channels)?.checked_mul(shape.micro.max(1))?;
    let values = values.checked_mul(shape.plan.classes.max(1))?;
    (values < 1 << 50).then_some(())
}
