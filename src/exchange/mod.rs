//! Weights out of voxfit and into it: files for other programs, theirs for a start, and models to hand on.
mod error;
mod export;
mod names;
mod plans;
mod source;
mod write;

pub use error::ExchangeError;
pub use export::{ExportOptions, Exported, Layout, export};
pub use names::{Pair, aliases, pairs};
