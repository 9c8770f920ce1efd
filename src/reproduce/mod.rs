//! Whether two runs are one: [`compare`] holds their records and weights against each other, [`again`] makes a run once
//! more and looks at every step.
mod again;
mod compare;
mod error;
mod inputs;
mod record;
mod settings;
mod weights;

pub use again::{AgainOptions, Verdict, again};
pub use compare::{Comparison, compare};
pub use error::ReproduceError;
pub use inputs::dataset_of;
pub use record::Record;
pub use settings::Setting;
pub use weights::TensorDifference;
