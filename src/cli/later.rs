//! Verbs that are announced and not yet there.
use std::ffi::OsString;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::Exit;

#[derive(Debug, Subcommand)]
pub enum Later {
    /// Write a page about a run
    #[command(hide = true, disable_help_flag = true)]
    Report(Rest),
}

#[derive(Debug, Args)]
pub struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

pub fn run(verb: &Later) -> anyhow::Result<Exit> {
    let (name, Rest { rest: _ }) = match verb {
        Later::Report(rest) => ("report", rest),
    };
    bail!("{name} is not in this version ({}); `voxfit --help` lists what is", env!("CARGO_PKG_VERSION"))
}
