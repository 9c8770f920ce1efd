//! `voxfit completions`: what a shell needs to complete verbs and arguments.
use clap::Args;
use clap_complete::Shell;

use super::{Exit, terminal};

/// Print a script that lets a shell complete verbs and arguments
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit completions bash > ~/.local/share/bash-completion/completions/voxfit
  voxfit completions zsh > ~/.zfunc/_voxfit
  voxfit completions fish > ~/.config/fish/completions/voxfit.fish
  voxfit completions powershell >> $PROFILE")]
pub struct CompletionsArgs {
    shell: Shell,
}

pub fn run(args: &CompletionsArgs, mut command: clap::Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "voxfit", &mut script);
    terminal::say(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
