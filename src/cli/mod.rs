//! One file per verb: arguments as typed become validated options, one library call does the work, and what it says is
//! printed. anyhow lives here and only here.
mod arguments;
mod check;
mod clean;
mod compare;
mod completions;
mod devices;
mod dry_run;
mod evaluate;
mod export;
mod import;
mod init;
mod interrupt;
mod job;
mod pack;
mod phantom;
mod plan;
mod predict;
mod report;
mod reproduce;
mod runs;
mod schema;
mod screen;
pub mod terminal;
mod train;

use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

/// What a process says when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// Something failed; one line on stderr says what, where, and what to do.
    Failed,
    /// A fault or a difference was found.
    Found,
    /// Stopped in order, resumable.
    Stopped,
}

impl Exit {
    fn code(self) -> u8 {
        // 2, wrong usage, is clap's own.
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Found => 3,
            Self::Stopped => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Trains 3D segmentation networks on MRI and CT volumes within the memory a hospital workstation has.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "\
Example:
  voxfit check volumes/phantom
  voxfit train configs/quickstart.toml
  voxfit predict runs/quickstart volumes/phantom/imagesTr -o predictions
  voxfit evaluate predictions volumes/phantom/labelsTr

Exit codes: 0 done; 1 it failed; 2 wrong usage; 3 a fault or difference was found; 4 stopped in order, resumable."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Messages")]
pub struct Global {
    /// Say more (-vv: everything)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Write messages on stderr as lines for a person or as one JSON object a line
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Phantom(phantom::PhantomArgs),
    Check(check::CheckArgs),
    Init(init::InitArgs),
    Plan(Box<plan::PlanArgs>),
    Train(Box<train::TrainArgs>),
    Predict(predict::PredictArgs),
    Evaluate(evaluate::EvaluateArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Pack(pack::PackArgs),
    Compare(compare::CompareArgs),
    Reproduce(reproduce::ReproduceArgs),
    Report(report::ReportArgs),
    Runs(runs::RunsArgs),
    Devices(devices::DevicesArgs),
    Clean(clean::CleanArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
}

/// Reads the arguments and does what they say.
pub fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    start_log(&cli.global);
    let global = &cli.global;
    let ranks = &match job::join(&cli.verb) {
        Ok(ranks) => ranks,
        Err(sentence) => {
            terminal::complain(&sentence);
            return Exit::Failed;
        }
    };
    let done = match cli.verb {
        Verb::Phantom(args) => phantom::run(&args),
        Verb::Init(args) => init::run(&args),
        Verb::Check(args) => check::run(&args, global),
        Verb::Plan(args) => plan::run(&args),
        Verb::Train(args) => train::run(*args, global, ranks),
        Verb::Predict(args) => predict::run(args, global, ranks),
        Verb::Evaluate(args) => evaluate::run(&args, global, ranks),
        Verb::Export(args) => export::run(args),
        Verb::Import(args) => import::run(args),
        Verb::Pack(args) => pack::run(args),
        Verb::Compare(args) => compare::run(&args),
        Verb::Reproduce(args) => reproduce::run(args, global),
        Verb::Report(args) => report::run(args),
        Verb::Runs(args) => runs::run(&args),
        Verb::Devices(args) => devices::run(&args),
        Verb::Clean(args) => clean::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Completions(args) => completions::run(&args, Cli::command()),
    };
    interrupt::wait_for_the_end();
    job::leave(done, ranks, interrupt::was_asked())
}

impl Global {
    /// Whether a progress bar may be drawn.
    fn draws(&self) -> bool {
        !self.quiet && !job::is_silent() && self.log_format == LogFormat::Text
    }

    fn is_quiet(&self) -> bool {
        self.quiet || job::is_silent()
    }
}

/// Messages go to stderr; what a verb is asked for goes to stdout.
fn start_log(global: &Global) {
    let filter = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn,voxfit=info",
        (false, 1) => "info,voxfit=debug",
        (false, _) => "trace",
    };
    // A closed stderr must not end the run: subscriber errors are not printed there.
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(job::Log)
        .log_internal_errors(false);
    let started = match global.log_format {
        LogFormat::Text => {
            log.without_time().with_target(false).with_ansi(terminal::colours() && !job::is_silent()).try_init()
        }
        LogFormat::Json => log.json().try_init(),
    };
    if let Err(error) = started {
        terminal::complain(&format!("no messages will be shown: {error}"));
    }
}

/// The one sentence of a panic, which is a fault of voxfit's own.
pub fn internal_fault(panic: &PanicHookInfo<'_>) -> String {
    let text = panic
        .payload()
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.payload().downcast_ref::<String>().cloned())
        .unwrap_or_default();
    let place = panic.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
    format!("internal fault{place}: {text}; please report it with the command that led to it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_shown_verb_has_an_example() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("voxfit {}", verb.get_name())), "{}", verb.get_name());
        }
    }
}
