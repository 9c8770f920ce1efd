//! Training: one effective batch at a time, whatever fits in memory.
mod blocks;
pub mod checkpoint;
mod error;
mod folder;
mod inputs;
mod manifest;
pub mod optimizer;
mod plan;
pub mod precision;
mod probe;
mod recovery;
mod run_loop;
mod samples;
mod session;
pub mod step;
mod validation;

pub use error::TrainError;
pub use folder::{LoadedRun, RunFolder, checkpoint_path, load_run};
pub use manifest::{Manifest, config_sha256};
pub use plan::{Plan, PlanOptions, Probed, plan};
pub use probe::{Probe, probe};
pub use samples::Samples;
pub use session::{Event, Observer, Options, Outcome, StepReport, run};
pub use validation::{ClassDice, ValidationResult};
