//! Weights out of voxfit and into it: files for other programs, theirs for a start, and models to hand on.
mod dataset_file;
mod error;
mod export;
mod foreign;
mod import;
mod model;
mod names;
mod numbers;
mod pack;
mod pickle;
mod plans;
mod source;
mod write;
mod zip;

pub use error::ExchangeError;
pub use export::{ExportOptions, Exported, Layout, export};
pub use import::{ImportOptions, Imported, import};
pub use model::{Member, Model};
pub use names::{Pair, aliases, pairs};
pub use pack::{PackOptions, pack};
