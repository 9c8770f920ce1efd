//! The few questions of `init`, on a terminal.
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use voxfit::config::parse_duration;

use super::{InitArgs, TIME, Wishes, arguments};

/// More wrong answers to one question end it.
const TRIES: usize = 3;

/// Whether somebody is there to answer.
pub fn can() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// What arguments leave open; `sides`: whether names of classes speak of left and right.
pub fn wishes(args: &InitArgs, sides: bool) -> anyhow::Result<Wishes> {
    let time: Option<Duration> = match (args.time, args.steps) {
        (None, None) => Some(answer("About how long may a training take, as in 30m or 8h?", TIME, parse_duration)?),
        (time, _) => time,
    };
    let memory = match &args.memory {
        None => answer(
            "The most memory it may hold, as in 4GiB? (auto: what the system has left)",
            "auto",
            arguments::memory,
        )?,
        Some(memory) => memory.clone(),
    };
    let question = "Are there left and right structures that are different classes?";
    let sides = answer(question, if sides { "yes" } else { "no" }, yes_or_no)?;
    Ok(args.wishes(time, Some(memory), sides))
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        _ => Err("answer yes or no".into()),
    }
}

/// Asks until `read` takes the answer; Enter takes `default`.
fn answer<T, E: ToString>(question: &str, default: &str, read: impl Fn(&str) -> Result<T, E>) -> anyhow::Result<T> {
    for _ in 0..TRIES {
        let mut out = io::stderr().lock();
        write!(out, "{question} [{default}] ")
            .and_then(|()| out.flush())
            .context("the terminal cannot be written to")?;
        let mut line = String::new();
        let length = io::stdin().read_line(&mut line).context("the terminal cannot be read; --yes asks nothing")?;
        let text = line.trim();
        match read(if text.is_empty() { default } else { text }) {
            Ok(value) => return Ok(value),
            Err(problem) => writeln!(out, "{}", problem.to_string()).context("the terminal cannot be written to")?,
        }
        if length == 0 {
            break;
        }
    }
    bail!("no answer that can be read; give the arguments (`voxfit init --help`), or --yes for the defaults")
}
