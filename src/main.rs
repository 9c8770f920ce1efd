//! The command-line program: arguments in, one library call per verb, printing out.
mod cli;

use std::panic::{catch_unwind, set_hook};
use std::process::ExitCode;

use cli::Exit;
use voxfit::ops::cpu::pool::{self, Pool};

#[global_allocator]
static ALLOCATOR: Pool = Pool;

fn main() -> ExitCode {
    pool::keep_nothing_large();
    set_hook(Box::new(|panic| cli::terminal::complain(&cli::internal_fault(panic))));
    catch_unwind(cli::run).unwrap_or(Exit::Failed).into()
}
