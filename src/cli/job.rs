//! The job that this process was started in by `mpirun` or `srun`: rank 0 speaks for all, the others write what they have
//! to say into the run folder.
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use voxfit::config::Device;
use voxfit::ranks::{self, Ranks};

use super::{Exit, Verb, terminal};

/// How long another rank leaves the word to rank 0, which mostly has met the same fault.
const LEAVE_WORD: Duration = Duration::from_secs(1);

/// How long a rank with nothing left to do stays.
const STAY: Duration = Duration::from_secs(5);

/// Where a rank that does not speak writes; nothing is kept before there is a run folder.
static LOG: Mutex<Option<File>> = Mutex::new(None);

/// Joins the other ranks where a verb shares its work with them.
///
/// # Errors
/// A sentence: MPI cannot be begun, or this build has none and several would do the same work.
pub fn join(verb: &Verb) -> Result<Ranks, String> {
    if !matches!(verb, Verb::Train(_) | Verb::Predict(_) | Verb::Evaluate(_)) {
        return Ok(Ranks::alone());
    }
    #[cfg(feature = "mpi")]
    return ranks::from_environment();
    #[cfg(not(feature = "mpi"))]
    match ranks::launched() {
        Some(count) if count > 1 => Err(format!(
            "mpirun: {count} processes of a voxfit built without MPI would each do the whole work; build it with \
             --features mpi, or start it without mpirun"
        )),
        _ => Ok(Ranks::alone()),
    }
}

/// Whether another rank speaks for this process.
pub fn is_silent() -> bool {
    ranks::launched().is_some_and(|count| count > 1) && ranks::launched_as().is_some_and(|rank| rank > 0)
}

/// From now on messages go to `ranks/rank_K.log` in the run folder, where this machine sees it.
pub fn open_log(run: &Path, ranks: &Ranks) {
    let folder = run.join("ranks");
    if !run.is_dir() || voxfit::files::make_private(&folder).is_err() {
        return;
    }
    let path = folder.join(format!("rank_{}.log", ranks.place().index));
    *LOG.lock().unwrap_or_else(PoisonError::into_inner) = OpenOptions::new().create(true).append(true).open(path).ok();
}

/// Threads for this rank: its share of the processors, where the launcher has not given it some of its own.
pub fn threads(ranks: &Ranks) -> Option<usize> {
    let count = ranks.on_this_machine().count;
    let own = std::thread::available_parallelism().map_or(1, usize::from);
    let all = online().unwrap_or(own);
    (count > 1 && count * own > all).then_some((all / count).max(1))
}

/// Of the cards of a machine each of its ranks takes the one of its own number there.
pub fn device(device: Device, ranks: &Ranks) -> Device {
    let number = ranks.on_this_machine().index;
    match device {
        Device::Cuda(0) => Device::Cuda(number),
        Device::Vulkan(0) => Device::Vulkan(number),
        other => other,
    }
}

/// Processors of this machine, by Linux's own list ("0-7,16-23").
fn online() -> Option<usize> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    list.trim().split(',').map(count).sum()
}

/// Ends the job as this rank ends: in order together, or at once where this one failed.
pub fn leave(done: anyhow::Result<Exit>, ranks: &Ranks, stopped: bool) -> Exit {
    let several = ranks.are_several();
    let exit = done.unwrap_or_else(|error| {
        let sentence = terminal::sentence(&error);
        if several && !ranks.is_first() {
            std::thread::sleep(LEAVE_WORD);
            // Rank 0 has ended, and ends all, where it met the same; that is a signal to this one.
            let is_ended = super::interrupt::was_asked() || ranks.gone().iter().any(|peer| peer.rank == 0);
            if !is_ended {
                terminal::complain(&format!("rank {}: {sentence}", ranks.place().index));
            }
        } else {
            terminal::complain(&sentence);
        }
        Exit::Failed
    });
    if several && stopped {
        // Those that are gone would be waited for. Who does not speak stays while the one that does looks who is gone.
        let _ = io::stdout().flush();
        if !ranks.stands_in() {
            std::thread::sleep(STAY);
        }
        std::process::exit(exit.code().into());
    }
    #[cfg(feature = "mpi")]
    ranks::leave(i32::from(exit == Exit::Failed));
    exit
}

/// Messages of this process.
pub struct Log;

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line
    }
}

/// One message.
pub struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !is_silent() {
            return io::stderr().write(bytes);
        }
        match &mut *LOG.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
