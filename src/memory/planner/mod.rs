//! From a configuration and a budget to the levers of a run: what changes memory and not the result.
//!
//! What changes the result (patch, features, precision, norm) is never chosen here: where no choice of levers fits, the
//! answer is a refusal that says what is smallest and what would have to give; [`propose`] then looks for a network that
//! would fit, for a person to accept.
mod proposal;
mod refusal;

pub use proposal::{Changed, Planned, propose};
pub use refusal::Short;

use super::fit::{Fit, Levers, choices, fit};
use super::step::StepShape;
use super::{budget, meter};
use crate::config::{Auto, Experiment, NormName, Recompute, Resolved};
use crate::ops::cpu::isa::{Isa, isa};
use crate::ops::tree::Stretch;
use crate::patch::augment::source_size;
use crate::ranks::{Place, exchange};

/// What a plan is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the process may hold; `None` is without end.
    pub budget: Option<u64>,
    /// Bytes that it holds before its network is made.
    pub program: u64,
    /// Threads that compute; each has blocks of its own.
    pub threads: usize,
    /// Instruction set of the inner loops, which decides the size of their blocks.
    pub isa: Isa,
    /// Which of how many processes that share the samples of a step.
    pub rank: Place,
}

impl Room {
    /// What is written, as far as the system's limits allow it, or the automatic budget of this process as it is now.
    pub fn here(written: &Experiment) -> Self {
        let budget = budget::of(written.memory.budget);
        let program = meter::resident_bytes().unwrap_or(0);
        Self { budget, program, threads: rayon::current_num_threads(), isa: isa(), rank: Place::ALONE }
    }

    /// The same for one of several ranks, in a run as it was resolved: what they exchange is held beside the step.
    pub fn of_rank(mut self, rank: Place, resolved: &Resolved) -> Self {
        self.rank = rank;
        let parts = (0..rank.count).map(|index| self.stretch_of(Place { index, ..rank }, resolved).parts().len());
        self.program += exchange::room(rank.count, parts.max().unwrap_or(1));
        self
    }

    /// The same where `count` processes share the machine: of what the system has to give, one share.
    pub fn beside(mut self, count: usize, written: &Experiment) -> Self {
        if written.memory.budget == Auto::Auto {
            self.budget = self.budget.map(|budget| budget / count.max(1) as u64);
        }
        self
    }

    /// The step's samples that are this process's.
    pub fn stretch(&self, resolved: &Resolved) -> Stretch {
        self.stretch_of(self.rank, resolved)
    }

    fn stretch_of(&self, rank: Place, resolved: &Resolved) -> Stretch {
        let together = if resolved.norm.used == NormName::Batch { resolved.micro } else { 1 };
        rank.stretch(resolved.experiment.batch.effective, together)
    }

    /// The step of a run, with the levers it has.
    pub fn step<'a>(&self, resolved: &'a Resolved) -> StepShape<'a> {
        StepShape {
            plan: &resolved.plan,
            patch: resolved.patch,
            source: source_size(&resolved.experiment.augment, resolved.patch),
            stretch: self.stretch(resolved),
            micro: resolved.micro,
            activations: resolved.activations,
            recompute: resolved.recompute(),
            remembered: resolved.experiment.train.remembered(),
            threads: self.threads,
            isa: self.isa,
        }
    }
}

/// Chooses micro-batch and recomputation where `written` leaves them to voxfit, the fastest that fit, and sets them in
/// `resolved`.
///
/// # Errors
/// Nothing fits.
pub fn set_levers(resolved: &mut Resolved, written: &Experiment, room: &Room) -> Result<Fit, Box<Short>> {
    let samples = room.stretch(resolved).samples.len();
    // A batch norm holds only where the micro-batch is written.
    let micro = if resolved.norm.used == NormName::Batch { Auto::Value(resolved.micro) } else { written.batch.micro };
    let choices = choices(samples, micro, written.memory.recompute);
    let shape = room.step(resolved);
    let found = fit(&shape, &choices, room.budget, room.program).map_err(|smallest| {
        let least = Levers { micro: 1, recompute: Recompute::Blocks };
        Box::new(Short {
            written: written.memory.budget,
            budget: room.budget.unwrap_or(u64::MAX),
            // What is too large by far was not laid out; what is said of it is what a budget of that size would hold.
            smallest: smallest.map(|found| Fit::of(&shape, found.levers, room.program, None).unwrap_or(*found)),
            least: Fit::of(&shape, least, room.program, None),
        })
    })?;
    set(resolved, found.levers);
    Ok(found)
}

/// Sets levers in a run.
pub fn set(resolved: &mut Resolved, levers: Levers) {
    resolved.micro = levers.micro;
    resolved.experiment.batch.micro = Auto::Value(levers.micro);
    resolved.experiment.memory.recompute = Auto::Value(levers.recompute);
}

/// "2 samples at a time, nothing computed again".
pub fn describe(levers: Levers) -> String {
    let samples = if levers.micro == 1 { "1 sample".to_owned() } else { format!("{} samples", levers.micro) };
    let again = if levers.recompute.blocks() { "blocks" } else { "nothing" };
    format!("{samples} at a time, {again} computed again")
}
