//! `voxfit schema`: what an editor needs to complete and check a configuration file.
use clap::Args;
use voxfit::config;

use super::{Exit, terminal};

/// Print the JSON Schema of the configuration file, for editors
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit schema > voxfit.schema.json

With `#:schema ./voxfit.schema.json` as the first line of a configuration file, editors that know Taplo (Even Better TOML)
complete its keys and mark what is wrong.")]
pub struct SchemaArgs {}

pub fn run(_: &SchemaArgs) -> anyhow::Result<Exit> {
    terminal::say(&serde_json::to_string_pretty(&config::schema())?)?;
    Ok(Exit::Done)
}
