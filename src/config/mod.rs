//! The effective-batch configuration file: its schema, `auto` resolution, units, and errors that name the way out.
//!
//! [`Config::load`] reads a file (and `--set key=value` over it) into an [`Experiment`], as written. [`resolve`] makes
//! every value explicit for one dataset. No key that changes the result ever depends on free memory, thread count or
//! speed.
mod auto;
mod device;
mod environment;
mod error;
mod experiment;
mod keys;
mod norm;
mod parse;
mod resolve;
mod split;
mod units;
mod validate;

pub use auto::Auto;
pub use device::Device;
pub use environment::expand;
pub use error::{ConfigError, Place};
pub use experiment::{
    Activations, Batch, Data, Experiment, Fold, Memory, Network, NormName, OnBadCase, OptimizerName, Precision,
    Recompute, Sampling, Schedule, Train,
};
pub use keys::{reference, schema};
pub use norm::NormDecision;
pub use parse::{Config, Override};
pub use resolve::{Resolved, resolve};
pub use split::SplitBy;
pub use units::{ByteSize, parse_duration};
