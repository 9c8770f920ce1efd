//! Weights out of voxfit and into it: files for other programs, theirs for a start, and models to hand on.
mod error;
mod export;
mod foreign;
mod import;
mod names;
mod numbers;
mod pickle;
mod plans;
mod source;
mod write;
mod zip;

pub use error::ExchangeError;
pub use export::{ExportOptions, Exported, Layout, export};
pub use import::{ImportOptions, Imported, import};
pub use names::{Pair, aliases, pairs};
