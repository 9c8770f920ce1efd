//! Ranks by MPI: one thread of each process makes all its calls, one swap after another.
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, MatchedReceiveVec, Source};
use mpi::{Threading, request};

use super::{Link, Peer, Place, Ranks};

/// How long is looked for messages without a pause: the others are mostly about to come.
const EAGER: Duration = Duration::from_micros(200);
/// The pause between looks after that: cores are for the work that is waited for.
const PAUSE: Duration = Duration::from_micros(100);

enum Job {
    Swap(Vec<Vec<u8>>, Sender<Vec<Vec<u8>>>),
    Leave,
}

/// The thread that makes the calls.
static CALLER: OnceLock<Caller> = OnceLock::new();

struct Caller {
    jobs: Mutex<Sender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The exit code with which the whole job is to end; 0 is none.
static ABORT: AtomicI32 = AtomicI32::new(0);

struct World {
    place: Place,
    jobs: Mutex<Sender<Job>>,
    peers: OnceLock<Vec<Peer>>,
}

/// The ranks of the job that this process was started in; by itself where there are no others.
///
/// # Errors
/// A sentence, where MPI cannot be begun.
pub fn from_environment() -> Result<Ranks, String> {
    if super::launched().is_none_or(|count| count < 2) {
        return Ok(Ranks::alone());
    }
    let failed =
        |problem: String| format!("MPI: {problem}; start voxfit with the mpirun or srun of the MPI it was built with");
    let (jobs, to_do) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let thread = thread::Builder::new().name("mpi".into()).spawn(move || calls(&to_do, &tell));
    let thread = thread.map_err(|error: io::Error| failed(error.to_string()))?;
    let place = told.recv().ok().flatten().ok_or_else(|| failed("it cannot be begun".into()))?;
    let world = Arc::new(World { place, jobs: Mutex::new(jobs.clone()), peers: OnceLock::new() });
    let _ = CALLER.set(Caller { jobs: Mutex::new(jobs), thread: Mutex::new(Some(thread)) });
    if place.count > 1 {
        let host = ::mpi::environment::processor_name().unwrap_or_default();
        let own = format!("{} {host}", std::process::id()).into_bytes();
        let found = world.swap(vec![own; place.count]).recv().map_err(|_| failed("it ended at once".into()))?;
        let peer = |(rank, text): (usize, Vec<u8>)| {
            let text = String::from_utf8_lossy(&text).into_owned();
            let (process, name) = text.split_once(' ').unwrap_or(("0", ""));
            Peer { rank, host: name.to_owned(), process: process.parse().unwrap_or(0), here: name == host }
        };
        let _ = world.peers.set(found.into_iter().enumerate().map(peer).collect());
    }
    Ok(Ranks::of(world))
}

/// Ends what [`from_environment`] began: in order where `code` is 0, which waits for the others to come here too, else at
/// once, and all ranks with this one.
pub fn leave(code: i32) {
    let Some(caller) = CALLER.get() else { return };
    ABORT.store(code, Ordering::SeqCst);
    let _ = caller.jobs.lock().unwrap_or_else(PoisonError::into_inner).send(Job::Leave);
    if let Some(thread) = caller.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = thread.join();
    }
}

fn calls(to_do: &Receiver<Job>, tell: &Sender<Option<Place>>) {
    let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else {
        let _ = tell.send(None);
        return;
    };
    let world = universe.world();
    let place = Place { index: world.rank().max(0) as usize, count: world.size().max(1) as usize };
    let _ = tell.send(Some(place));
    for job in to_do {
        match job {
            Job::Swap(messages, out) => {
                let _ = out.send(swap(&world, place, messages));
            }
            Job::Leave => break,
        }
    }
    end_if_told(&world);
    // Ends MPI, which all ranks do together.
    drop(universe);
}

fn end_if_told(world: &SimpleCommunicator) {
    match ABORT.load(Ordering::SeqCst) {
        0 => {}
        code => world.abort(code),
    }
}

/// Messages of one rank to another stay in order, so the first that is there from each is of this swap.
fn swap(world: &SimpleCommunicator, place: Place, mut messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    messages.resize(place.count, Vec::new());
    let mut found = vec![Vec::new(); place.count];
    found[place.index] = std::mem::take(&mut messages[place.index]);
    let others = || (0..place.count).filter(|rank| *rank != place.index);
    request::scope(|scope| {
        let send = |rank: usize| world.process_at_rank(rank as i32).immediate_send(scope, &messages[rank][..]);
        let mut sending: Vec<_> = others().map(send).collect();
        let mut missing: Vec<usize> = others().collect();
        let clock = Instant::now();
        while !(sending.is_empty() && missing.is_empty()) {
            missing.retain(|rank| {
                let probe = world.process_at_rank(*rank as i32).immediate_matched_probe();
                let Some(message) = probe else { return true };
                let (bytes, _) = message.matched_receive_vec::<u8>();
                found[*rank] = bytes;
                false
            });
            sending = sending.into_iter().filter_map(|request| request.test().err()).collect();
            end_if_told(world);
            if clock.elapsed() > EAGER {
                thread::sleep(PAUSE);
            }
        }
    });
    found
}

impl Link for World {
    fn place(&self) -> Place {
        self.place
    }

    fn swap(&self, messages: Vec<Vec<u8>>) -> Receiver<Vec<Vec<u8>>> {
        let (out, coming) = mpsc::channel();
        let _ = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).send(Job::Swap(messages, out));
        coming
    }

    fn peers(&self) -> Vec<Peer> {
        self.peers.get().cloned().unwrap_or_default()
    }
}
