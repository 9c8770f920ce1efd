//! What a plan comes to where several processes share the samples of a step.
use super::plan::Plan;
use crate::memory::fit::Fit;
use crate::memory::planner;
use crate::ranks::{Place, exchange};

/// A job of so many ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedPlan {
    /// Processes.
    pub ranks: usize,
    /// The most samples of a step that one of them computes: that one is waited for.
    pub samples: usize,
    /// What the rank that holds the most holds, in bytes, each on a machine like this one; `None` where its budget has no
    /// room for it.
    pub peak: Option<u64>,
    /// Bytes that each sends in a step, and gets.
    pub traffic: u64,
}

impl Plan {
    /// The same run by 1, 2, ... `most` ranks, each with this machine's budget to itself.
    pub fn shared_among(&self, most: usize) -> Vec<SharedPlan> {
        (1..=most).map(|ranks| self.shared(ranks)).collect()
    }

    fn shared(&self, ranks: usize) -> SharedPlan {
        let resolved = &self.planned.resolved;
        let places = || (0..ranks).map(|index| Place { index, count: ranks });
        // Ranks with equal stretches hold the same: of all, those that have another number of samples or parts.
        let mut kinds: Vec<(usize, usize, Place)> = Vec::new();
        for place in places() {
            let stretch = self.room.clone().of_rank(place, resolved).stretch(resolved);
            let kind = (stretch.samples.len(), stretch.parts().len());
            if !kinds.iter().any(|(samples, parts, _)| (*samples, *parts) == kind) {
                kinds.push((kind.0, kind.1, place));
            }
        }
        let fit = |place: Place| -> Option<Fit> {
            let room = self.room.clone().of_rank(place, resolved);
            planner::set_levers(&mut resolved.clone(), &self.written, &room).ok()
        };
        let peaks: Option<Vec<u64>> = kinds.iter().map(|(_, _, place)| Some(fit(*place)?.peak())).collect();
        let parts = kinds.iter().map(|(_, parts, _)| *parts).max().unwrap_or(1);
        SharedPlan {
            ranks,
            samples: kinds.iter().map(|(samples, _, _)| *samples).max().unwrap_or(0),
            peak: peaks.and_then(|peaks| peaks.into_iter().max()),
            traffic: exchange::traffic(self.planned.fit.step.weights / 4, ranks, parts),
        }
    }
}
