//! `voxfit clean`: removes prepared volumes.
use clap::Args;
use voxfit::dataset::store;

use super::{Exit, terminal};

/// Remove the prepared volumes that training keeps; they are made again when needed
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit clean

Prepared volumes are kept in $VOXFIT_CACHE, else in the cache folder of the system (on Linux ~/.cache/voxfit).")]
pub struct CleanArgs {}

pub fn run(_args: &CleanArgs) -> anyhow::Result<Exit> {
    let root = store::default_root();
    let freed = store::clean(&root)?;
    terminal::say(&format!("{} freed in {}", terminal::size(freed), root.display()))?;
    Ok(Exit::Done)
}
