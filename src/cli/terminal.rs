//! What a person sees: output that survives a closed pipe, progress, colours, sizes and times.
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use voxfit::shown;

/// Writes `text` and a line end to stdout, without what a terminal would obey but line ends: names from files may hold
/// anything. A reader that has gone away (`voxfit check DIR | head`) is no fault.
///
/// # Errors
/// Any other failure to write.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", shown::lines(text)).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output cannot be written to; check where it leads"),
    }
}

/// What results are for, on stderr: stdout has the results alone.
pub fn remind() {
    tracing::info!("{}", voxfit::RESEARCH_USE);
}

/// Writes `value` as JSON to stdout.
///
/// # Errors
/// As [`say`].
pub fn say_json(value: &serde_json::Value) -> anyhow::Result<()> {
    say(&shown::json(&serde_json::to_string_pretty(value)?))
}

/// Writes the one line of a failure to stderr, whatever `text` holds.
pub fn complain(text: &str) {
    let line = text.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let line = shown::line(&line);
    // With stderr closed there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "voxfit: {line}");
}

/// What an error says with its causes, each once: many name their cause themselves.
pub fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.contains(&cause) {
        true => said,
        false if said.is_empty() => cause,
        false => format!("{said}: {cause}"),
    })
}

/// Whether messages may be coloured: stderr is a terminal that knows colours, and `NO_COLOR` is not set (no-color.org).
pub fn colours() -> bool {
    may_colour(io::stderr().is_terminal(), |name| std::env::var_os(name))
}

fn may_colour(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    terminal
        && variable("NO_COLOR").is_none_or(|value| value.is_empty())
        && variable("TERM").is_none_or(|kind| kind != "dumb")
}

/// Progress of a known number of things: a bar on a terminal, else a line at each tenth.
pub struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    tenths: AtomicUsize,
    started: Instant,
}

/// Marks of a bar for one thing whose parts are seen.
const MARKS: u64 = 1000;

/// Work of less than this time is not reported on by lines.
const SHORT: Duration = Duration::from_secs(5);

impl Progress {
    /// `what` is in the plural, as in "cases".
    pub fn new(what: &'static str, draws: bool) -> Self {
        let bar = (draws && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta} left") {
                bar.set_style(style);
            }
            bar.with_message(what)
        });
        Self { what, bar, tenths: AtomicUsize::new(0), started: Instant::now() }
    }

    /// As [`Self::new`], to be told of by [`Self::part`]. Time runs from now.
    pub fn of_parts(what: &'static str, draws: bool) -> Self {
        let progress = Self::new(what, draws);
        if let Some(bar) = &progress.bar
            && let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}")
        {
            bar.set_style(style);
        }
        progress
    }

    /// `done` of `total` are done, and of the next the share `part`, 0 to 1; says about how much time is left.
    pub fn part(&self, done: usize, total: usize, part: f64) {
        let share = (done as f64 + part) / total.max(1) as f64;
        let passed = self.started.elapsed();
        let left = match self.left(share) {
            Some(left) if done < total => format!(", about {} left", duration(left)),
            _ => String::new(),
        };
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64 * MARKS);
            bar.set_position((share * (total as u64 * MARKS) as f64) as u64);
            bar.set_message(format!("{done}/{total} {}{left}", self.what));
            return;
        }
        // The last tenth is reached when the last of them is whole, not when its last part is.
        let tenth = if done < total { ((share * 10.0) as usize).min(9) } else { 10 };
        if passed >= SHORT && self.tenths.fetch_max(tenth, Ordering::Relaxed) < tenth {
            tracing::info!("{tenth}0 %, {done} of {total} {}{left}", self.what);
        }
    }

    /// About how long the rest takes where `share` of all is done; `None` where it is too early to tell.
    pub fn left(&self, share: f64) -> Option<Duration> {
        let passed = self.started.elapsed();
        (share > 0.0 && passed > Duration::from_secs(2))
            .then(|| Duration::try_from_secs_f64(passed.as_secs_f64() * (1.0 / share - 1.0).max(0.0)).ok())?
    }

    /// Prints with the bar out of the way.
    pub fn above(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// `done` of `total` are done; from any thread, in any order.
    pub fn at(&self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(bar.position().max(done as u64));
            return;
        }
        let tenth = done.saturating_mul(10).checked_div(total).unwrap_or(0);
        if self.tenths.fetch_max(tenth, Ordering::Relaxed) < tenth {
            tracing::info!("{done} of {total} {}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Bytes for a person, as in `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// A time for a person, as in `3 min 20 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let set = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        assert!(may_colour(true, set(&[("TERM", "xterm"), ("NO_COLOR", "")])));
        assert!(may_colour(true, set(&[])));
        assert!(!may_colour(false, set(&[("TERM", "xterm")])));
        assert!(!may_colour(true, set(&[("TERM", "dumb")])));
        assert!(!may_colour(true, set(&[("NO_COLOR", "1")])));
    }

    #[test]
    fn a_cause_is_named_once() {
        let cause = || std::io::Error::other("no room");
        let named = voxfit::train::TrainError::Io { path: "run".into(), source: cause() };
        let said = sentence(&named.into());
        assert_eq!(said.matches("no room").count(), 1, "{said}");
        assert_eq!(sentence(&anyhow::Error::new(cause()).context("it failed")), "it failed: no room");
    }

    #[test]
    fn sizes_and_times_are_for_people() {
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(4 << 30), "4.0 GiB");
        let times = [(200, "200 ms"), (59_000, "59 s"), (200_000, "3 min 20 s"), (5_400_000, "1 h 30 min")];
        for (milliseconds, text) in times {
            assert_eq!(duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
