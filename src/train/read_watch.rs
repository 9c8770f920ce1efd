//! Notices a read that does not come back: a share that went away or a dying disk blocks a step without a word.
//!
//! It only looks at clocks and speaks; no sample depends on it.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::TrainError;

/// A patch of a few megabytes takes milliseconds from a disk and seconds from a slow share.
const LIMIT: Duration = Duration::from_secs(30);
/// Test hook: seconds instead.
const HOOK: &str = "VOXFIT_TEST_STALL";
/// Enough for a line of text. It is part of what the process holds.
const STACK: usize = 256 << 10;

/// Watches reads as long as it lives.
#[derive(Debug)]
pub(super) struct ReadWatch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    reads: Mutex<Reads>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Reads {
    next: u64,
    under_way: BTreeMap<u64, Read>,
    ended: bool,
}

#[derive(Debug)]
struct Read {
    since: Instant,
    /// Of the next warning.
    due: Duration,
    /// The case and where it is read from.
    what: Arc<str>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadWatch {
    /// # Errors
    /// A test hook that cannot be read, a thread that cannot be started.
    pub fn start() -> Result<Self, TrainError> {
        let limit = match std::env::var(HOOK) {
            Ok(text) => text
                .parse()
                .ok()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .ok_or_else(|| TrainError::run(HOOK, format!("`{text}` is no time"), "write seconds, as in 0.5"))?,
            Err(_) => LIMIT,
        };
        let shared = Arc::<Shared>::default();
        let looks = shared.clone();
        let thread = std::thread::Builder::new().name("read watch".into()).stack_size(STACK);
        let thread = thread.spawn(move || watch(&looks, limit)).map_err(TrainError::io("read watch"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A read of `what` begins; it ends when the guard goes.
    pub fn begin(&self, what: &Arc<str>) -> Reading<'_> {
        let mut reads = self.shared.lock();
        let number = reads.next;
        reads.next += 1;
        reads.under_way.insert(number, Read { since: Instant::now(), due: Duration::ZERO, what: what.clone() });
        Reading { shared: &self.shared, number }
    }
}

impl Drop for ReadWatch {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there has been told.
            let _ = thread.join();
        }
    }
}

/// A read under way.
pub(super) struct Reading<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let read = self.shared.lock().under_way.remove(&self.number);
        if let Some(read) = read.filter(|read| read.due > Duration::ZERO) {
            tracing::warn!("{} was read after {:.0} s", read.what, read.since.elapsed().as_secs_f64());
        }
    }
}

/// Warns of each read after `limit`, and again after each doubling of its time.
fn watch(shared: &Shared, limit: Duration) {
    let mut reads = shared.lock();
    while !reads.ended {
        let (again, _) = shared.ended.wait_timeout(reads, limit / 4).unwrap_or_else(PoisonError::into_inner);
        reads = again;
        let mut late = Vec::new();
        for read in reads.under_way.values_mut() {
            let time = read.since.elapsed();
            if time >= read.due.max(limit) {
                read.due = time * 2;
                late.push((read.what.clone(), time));
            }
        }
        drop(reads);
        for (what, time) in late {
            tracing::warn!(
                "{what} has not been read after {:.0} s, and the step waits for it; look whether its disk or share answers",
                time.as_secs_f64()
            );
        }
        reads = shared.lock();
    }
}

/// Case and file for a person: the file by its place in the folder of prepared volumes, whose own place is nobody's
/// business.
pub(super) fn what(case: &str, file: &Path) -> Arc<str> {
    let parts: Vec<_> = file.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
    let place: Vec<_> = parts.into_iter().rev().collect();
    format!("case {case} (prepared volume {})", place.join("/")).into()
}
