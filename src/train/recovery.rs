//! A budget about to be broken: the effective batch starts again from its first sample with less in memory at once. Weights
//! are untouched until a step is complete, and no lever changes a bit of it, so the result does not know.
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::step::Supply;
use super::{Samples, TrainError};
use crate::config::{Auto, ByteSize, NormName, Resolved};
use crate::memory::budget;
use crate::memory::fit::{Fit, fit, smaller};
use crate::memory::planner::{Room, describe};
use crate::patch::Sample;

/// A step that was asked to stop is given up after this long, and its samples are drawn again on resume.
const PATIENCE: Duration = Duration::from_secs(30);
/// The automatic budget is asked for at most this often.
const EVERY: Duration = Duration::from_secs(1);
/// Test hook: `STEP:SIZE` makes SIZE the budget from the middle of that step on.
const HOOK: &str = "VOXFIT_TEST_BUDGET";
/// Blocks of the last micro-batch of a step after which the hook sets in.
const MIDDLE: u32 = 2;

/// The plan in force and what watches over it.
pub(super) struct Watch {
    pub fit: Fit,
    room: Room,
    written: Auto<ByteSize>,
    /// Step and bytes of the test hook.
    cut: Option<(u64, u64)>,
    cut_is_made: Cell<bool>,
    /// The last automatic budget and when it was found.
    automatic: Cell<Option<(Instant, Option<u64>)>>,
    /// There is nothing smaller: the automatic budget is no longer watched.
    smallest: bool,
}

impl Watch {
    /// # Errors
    /// A test hook that cannot be read.
    pub fn new(fit: Fit, room: Room, written: Auto<ByteSize>) -> Result<Self, TrainError> {
        let cut = match std::env::var(HOOK) {
            Ok(text) => Some(hook(&text).ok_or_else(|| {
                TrainError::run(HOOK, format!("`{text}` is no cut"), "write STEP:SIZE, as in 3:512MiB")
            })?),
            Err(_) => None,
        };
        let (cut_is_made, automatic) = (Cell::new(false), Cell::new(None));
        Ok(Self { fit, room, written, cut, cut_is_made, automatic, smallest: false })
    }

    /// Bytes that the process may hold now; `None` is without end.
    pub fn budget(&self) -> Option<u64> {
        if let (Some((_, bytes)), true) = (self.cut, self.cut_is_made.get()) {
            return Some(bytes);
        }
        let Auto::Value(budget) = self.written else {
            let known = self.automatic.get().filter(|(at, _)| at.elapsed() < EVERY);
            let (_, budget) = known.unwrap_or_else(|| (Instant::now(), budget::automatic()));
            if known.is_none() {
                self.automatic.set(Some((Instant::now(), budget)));
            }
            return budget;
        };
        Some(budget.0)
    }

    fn go_on(&self) -> Result<(), TrainError> {
        match self.budget() {
            Some(budget) if !self.smallest && self.fit.peak() > budget => Err(TrainError::OverBudget { budget }),
            _ => Ok(()),
        }
    }

    /// Plans again for `budget` bytes, with fewer samples at once and then with more computed again. Says what it does;
    /// `None` where nothing smaller is left and the budget, being automatic, is no promise to anybody.
    ///
    /// # Errors
    /// Nothing smaller fits what was promised.
    pub fn shrink(&mut self, resolved: &Resolved, step: u64, budget: u64) -> Result<Option<String>, TrainError> {
        let batch_norm = resolved.norm.used == NormName::Batch;
        let shape = self.room.step(resolved);
        let [held, there] = [self.fit.peak(), budget].map(|bytes| bytes.div_ceil(1 << 20));
        match fit(&shape, &smaller(self.fit.levers, batch_norm), Some(budget), self.room.program) {
            Ok(found) => {
                let [text, now] = [describe(found.levers), found.peak().div_ceil(1 << 20).to_string()];
                self.fit = found;
                Ok(Some(format!(
                    "memory: a step holds {held} MiB and {there} MiB are left of the budget; step {step} starts again \
                     with {text}, which holds {now} MiB and gives the same result"
                )))
            }
            Err(_) if self.written == Auto::Auto && !self.cut_is_made.get() => {
                self.smallest = true;
                Ok(None)
            }
            Err(_) => {
                let problem =
                    format!("a step holds {held} MiB, {there} MiB are left of the budget, and no smaller one fits");
                let cure = if batch_norm {
                    "batch norm makes the micro-batch part of the result: resume with more memory, or start another run \
                     with network.norm = \"group\""
                } else {
                    "resume with more memory, or start another run with a smaller network.patch"
                };
                Err(TrainError::run(format!("step {step}"), problem, cure))
            }
        }
    }
}

/// `STEP:SIZE`.
fn hook(text: &str) -> Option<(u64, u64)> {
    let (step, size) = text.split_once(':')?;
    Some((step.parse().ok()?, size.parse::<ByteSize>().ok()?.0))
}

/// The samples of one step, with an eye on the stop and on the budget.
pub(super) struct StepSupply<'a> {
    samples: &'a Samples<'a>,
    stop: &'a AtomicBool,
    watch: Option<&'a Watch>,
    /// Complete steps.
    step: u64,
    /// The number after that of the last sample that is read here.
    end: usize,
    /// Whether other ranks compute the rest.
    together: bool,
    clock: Instant,
    /// Blocks of the last micro-batch so far, once it is loaded.
    blocks: Cell<Option<u32>>,
}

impl<'a> StepSupply<'a> {
    pub fn new(
        samples: &'a Samples<'a>,
        stop: &'a AtomicBool,
        watch: Option<&'a Watch>,
        step: u64,
        end: usize,
    ) -> Self {
        Self { samples, stop, watch, step, end, together: false, clock: Instant::now(), blocks: Cell::new(None) }
    }

    /// The same where other ranks compute the rest.
    pub fn together(self, together: bool) -> Self {
        Self { together, ..self }
    }
}

impl Supply for StepSupply<'_> {
    type Error = TrainError;

    fn load(&self, range: Range<usize>) -> Result<Vec<Sample>, TrainError> {
        if self.stop.load(Ordering::Relaxed) && self.clock.elapsed() > PATIENCE {
            return Err(TrainError::Stopped);
        }
        if range.end == self.end {
            self.blocks.set(Some(0));
        }
        Ok(self.samples.load(self.step, range)?)
    }

    fn go_on(&self) -> Result<(), TrainError> {
        self.go_on_together()?;
        let Some(watch) = self.watch else { return Ok(()) };
        if let Some(blocks) = self.blocks.get() {
            self.blocks.set(Some(blocks + 1));
            if blocks >= MIDDLE && watch.cut.is_some_and(|(step, _)| step == self.step + 1) {
                watch.cut_is_made.set(true);
            }
        }
        watch.go_on()
    }

    /// What starts many ranks tells all of them to stop when one is lost, and does not wait for long: the step is given
    /// up at once, for it may never be complete.
    fn go_on_together(&self) -> Result<(), TrainError> {
        match self.together && self.stop.load(Ordering::Relaxed) {
            true => Err(TrainError::Stopped),
            false => Ok(()),
        }
    }
}
