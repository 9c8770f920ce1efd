//! Levers that change memory and not the result: the fastest choice of them that a budget has room for.
use crate::config::{Auto, Recompute};

use super::step::{StepBytes, StepShape, rehearse};

/// What a process holds beside its pool and the network's weights, in bytes above what it held when it was measured:
/// stacks, tables, small blocks.
const AROUND: u64 = 4 << 20;
/// What no machine has, in bytes: a step that holds more need not be laid out.
const ENDLESS: u64 = 1 << 42;
/// Samples in memory at once that a run takes where it may: more are hardly faster on a processor.
const MICRO: usize = 2;

/// The levers of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levers {
    /// Samples in memory at once.
    pub micro: usize,
    /// What is computed again in the backward pass.
    pub recompute: Recompute,
}

/// A choice and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// What was chosen.
    pub levers: Levers,
    /// What a step holds with it, in bytes.
    pub step: StepBytes,
    /// What the process holds before its network is made.
    pub program: u64,
}

impl Fit {
    /// Of a step with these levers, in a process that may hold `budget` bytes ([`rehearse`] says what for); `None` where
    /// sizes are beyond what can be counted.
    pub fn of(shape: &StepShape<'_>, levers: Levers, program: u64, budget: Option<u64>) -> Option<Self> {
        let shape = StepShape { micro: levers.micro, recompute: levers.recompute, ..shape.clone() };
        let most = budget.unwrap_or(ENDLESS).saturating_sub(program + AROUND);
        Some(Self { levers, step: rehearse(&shape, most)?, program })
    }

    /// What the process holds beside the network and the pool.
    pub fn around(&self) -> u64 {
        self.program + AROUND
    }

    /// The most that the process will hold during steps.
    pub fn peak(&self) -> u64 {
        self.around() + self.step.total()
    }
}

/// Choices, fastest first. What is written is kept to; of a batch norm, whose result the micro-batch is part of, that
/// is always written.
pub fn choices(samples: usize, micro: Auto<usize>, recompute: Auto<Recompute>) -> Vec<Levers> {
    let micros = match micro {
        Auto::Value(micro) => vec![micro.min(samples).max(1)],
        Auto::Auto if samples >= MICRO => vec![MICRO, 1],
        Auto::Auto => vec![1],
    };
    let recomputes = match recompute {
        Auto::Value(recompute) => vec![recompute],
        Auto::Auto => vec![Recompute::None, Recompute::Blocks],
    };
    // One sample less at once costs less time than computing again.
    recomputes
        .into_iter()
        .flat_map(|recompute| micros.iter().map(move |micro| Levers { micro: *micro, recompute }))
        .collect()
}

/// Choices that hold less, in the order in which they are tried when a step may not hold what it does: fewer samples at
/// once, then more computed again. Of a batch norm the samples are part of the result and stay.
pub fn smaller(from: Levers, batch_norm: bool) -> Vec<Levers> {
    let halves = |from: usize| std::iter::successors(Some(from), |micro| (*micro > 1).then(|| micro / 2));
    let micros: Vec<usize> = if batch_norm { vec![from.micro] } else { halves(from.micro).collect() };
    let mut choices: Vec<Levers> = Vec::new();
    for recompute in [from.recompute, Recompute::Blocks] {
        choices.extend(micros.iter().map(|micro| Levers { micro: *micro, recompute }));
    }
    choices.retain(|levers| *levers != from);
    choices.dedup();
    choices
}

/// The first of the choices that fits into `budget` (bytes; `None` is without end). The error is the smallest, `None` where
/// not even that can be counted.
///
/// # Errors
/// No choice fits.
pub fn fit(
    shape: &StepShape<'_>,
    choices: &[Levers],
    budget: Option<u64>,
    program: u64,
) -> Result<Fit, Option<Box<Fit>>> {
    let mut smallest: Option<Fit> = None;
    for levers in choices {
        let Some(found) = Fit::of(shape, *levers, program, budget) else { continue };
        if budget.is_none_or(|budget| found.peak() <= budget) {
            return Ok(found);
        }
        if smallest.as_ref().is_none_or(|smallest| found.peak() < smallest.peak()) {
            smallest = Some(found);
        }
    }
    Err(smallest.map(Box::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Activations;
    use crate::network::plan::{Kind, NetworkPlan, Norm, Stage};
    use crate::ops::cpu::isa::Isa;
    use crate::ops::tree::Stretch;

    #[test]
    fn a_smaller_budget_takes_one_sample_then_computes_again_then_refuses() {
        let stage = |features, stride| Stage { features, kernel: [3; 3], stride, norm: Norm::Instance };
        let plan = NetworkPlan {
            kind: Kind::Plain,
            in_channels: 1,
            classes: 3,
            stages: vec![stage(32, [1; 3]), stage(64, [2; 3]), stage(128, [2; 3]), stage(128, [2; 3])],
            deep_supervision: true,
        };
        let shape = StepShape {
            plan: &plan,
            patch: [64; 3],
            source: [64; 3],
            stretch: Stretch::whole(4),
            micro: 1,
            activations: Activations::Bf16,
            recompute: Recompute::None,
            remembered: 1,
            threads: 2,
            isa: Isa::Avx2,
        };
        let all = choices(4, Auto::Auto, Auto::Auto);
        let peaks: Vec<u64> = all.iter().map(|levers| Fit::of(&shape, *levers, 0, None).unwrap().peak()).collect();
        let of = |budget| fit(&shape, &all, budget, 0).map(|fit| fit.levers);
        assert_eq!(of(None), Ok(Levers { micro: 2, recompute: Recompute::None }));
        assert_eq!(of(Some(peaks[0])), Ok(all[0]));
        assert_eq!(of(Some(peaks[0] - 1)), Ok(Levers { micro: 1, recompute: Recompute::None }));
        assert_eq!(of(Some(peaks[1] - 1)), Ok(Levers { micro: 1, recompute: Recompute::Blocks }));
        let smallest = fit(&shape, &all, Some(1 << 20), 0).unwrap_err().unwrap();
        assert_eq!(smallest.levers, Levers { micro: 1, recompute: Recompute::Blocks });
        assert_eq!(choices(4, Auto::Value(3), Auto::Value(Recompute::Norms)).len(), 1);
        let blocks = |micro| Levers { micro, recompute: Recompute::Blocks };
        assert_eq!(smaller(all[0], false), [all[1], blocks(2), blocks(1)]);
        assert_eq!(smaller(all[0], true), [blocks(2)]);
        assert_eq!(smaller(blocks(1), false), []);
        // More than can be counted is no fit and no panic.
        let endless = StepShape { patch: [usize::MAX; 3], ..shape.clone() };
        assert_eq!(fit(&endless, &all, None, 0), Err(None));
    }
}
