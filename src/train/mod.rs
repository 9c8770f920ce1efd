//! Training: one effective batch at a time, whatever fits in memory.
pub mod checkpoint;
mod error;
mod folder;
mod manifest;
pub mod optimizer;
pub mod precision;
mod samples;
mod session;
pub mod step;
mod validation;

pub use error::TrainError;
pub use folder::{RunFolder, load_run, LoadedRun};
pub use samples::Samples;
pub use session::{Event, Observer, Options, Outcome, run};
pub use validation::{ClassDice, ValidationResult};
