//! Nothing fits: what is smallest, and what would have to give.
use crate::config::{Auto, ByteSize, ConfigError};
use crate::memory::fit::Fit;

use super::describe;

/// No choice of levers fits the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short {
    /// The budget as the configuration has it.
    pub written: Auto<ByteSize>,
    /// In bytes.
    pub budget: u64,
    /// The smallest of the choices; `None` where not even that can be counted.
    pub smallest: Option<Fit>,
    /// With every lever at its smallest, written or not.
    pub least: Option<Fit>,
}

impl From<Box<Short>> for ConfigError {
    fn from(short: Box<Short>) -> Self {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let Short { written, budget, smallest, least } = *short;
        let there = match written {
            Auto::Value(size) if size.0 <= budget => format!("memory.budget is {size}"),
            Auto::Value(_) => format!("the system's limits leave the process {} MiB", budget >> 20),
            Auto::Auto => format!("{} MiB are free", budget >> 20),
        };
        let (Some(smallest), Some(least)) = (smallest, least) else {
            let problem = format!("a step is more than can be counted, and {there}");
            return Self::Rule { key: "network.patch", problem, cure: "write a smaller one".into() };
        };
        let problem = format!("a step needs {} MiB ({}), and {there}", mib(smallest.peak()), describe(smallest.levers));
        let (key, cure) = if least.peak() <= budget {
            ("memory.budget", "leave batch.micro and memory.recompute to \"auto\"".to_owned())
        } else if 3 * least.step.weights + least.around() > budget {
            ("network.features_max", "write a smaller one, or a smaller network.features".to_owned())
        } else {
            let enough = mib(least.peak());
            ("network.patch", format!("write a smaller one (`voxfit plan` proposes one), or give it {enough} MiB"))
        };
        Self::Rule { key, problem, cure }
    }
}
