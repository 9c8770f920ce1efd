//! Verbs that are announced and not yet there.
use std::ffi::OsString;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::Exit;

#[derive(Debug, Subcommand)]
pub enum Later {
    /// Write weights for other programs
    #[command(hide = true, disable_help_flag = true)]
    Export(Rest),
    /// Read weights of other programs
    #[command(hide = true, disable_help_flag = true)]
    Import(Rest),
}

#[derive(Debug, Args)]
pub struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

pub fn run(verb: &Later) -> anyhow::Result<Exit> {
    let (name, Rest { rest: _ }) = match verb {
        Later::Export(rest) => ("export", rest),
        Later::Import(rest) => ("import", rest),
    };
    bail!("{name} is not in this version ({}); `voxfit --help` lists what is", env!("CARGO_PKG_VERSION"))
}
