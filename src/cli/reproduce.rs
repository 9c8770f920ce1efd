//! `voxfit reproduce`: a run once more, every step held against its record.
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use voxfit::reproduce::{AgainOptions, Verdict, again};

use super::screen::Screen;
use super::{Exit, Global, arguments, interrupt, terminal};

/// Run a training again in a scratch folder and compare every step
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit reproduce runs/quickstart
  voxfit reproduce runs/hippocampus --data Task04_Hippocampus --stop-after 20

Exit code 0: every step gave the same weights; 1: an input is not what it was, or there is none; 3: a step did not;
4: stopped by Ctrl-C. The run's folder is not written to.")]
pub struct ReproduceArgs {
    /// Run folder of a training
    run: PathBuf,
    /// Dataset folder, where it no longer lies where it lay
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Make the first N steps only; the schedule stays the run's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    stop_after: Option<u64>,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N", value_parser = arguments::threads)]
    threads: Option<usize>,
}

pub fn run(args: ReproduceArgs, global: &Global) -> anyhow::Result<Exit> {
    arguments::set_threads(args.threads)?;
    ensure!(args.run.is_dir(), "{}: no such folder; give the run folder of a training", args.run.display());
    let options = AgainOptions { run: args.run, data: args.data, stop_after: args.stop_after };
    let stop = interrupt::on_first_interrupt();
    let screen = Screen::new(global);
    let verdict = again(&options, &screen, stop, &interrupt::take_along);
    screen.close();
    match verdict? {
        Verdict::Same { step, steps, weights_sha256 } => {
            let of = if step < steps { format!(" of {steps}") } else { String::new() };
            let plural = if step == 1 && of.is_empty() { "step" } else { "steps" };
            terminal::say(&format!("the same weights, bit for bit, after each of the first {step}{of} {plural}"))?;
            if let Some(digest) = weights_sha256 {
                terminal::say(&format!("weights_sha256 {digest}"))?;
            }
            Ok(Exit::Done)
        }
        Verdict::Parted { step, recorded, found } => {
            terminal::say(&format!("different weights after step {step}: {found}, and the run has {recorded}"))?;
            Ok(Exit::Found)
        }
        Verdict::Stopped { step, steps } => {
            terminal::say(&format!(
                "stopped after step {step} of {steps}, the same so far; the same command starts again"
            ))?;
            Ok(Exit::Stopped)
        }
    }
}
