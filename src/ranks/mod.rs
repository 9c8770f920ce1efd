//! Several processes that train one network: the ranks of a job.
//!
//! Each rank holds the whole network and computes some of a step's samples ([`Place::stretch`]); what every rank has of the
//! gradient is then added up, everywhere in the order that one process alone would have ([`exchange`]), so that the number
//! of ranks changes no bit of a weight. All that ranks say to each other goes through one operation, [`Link::swap`]: each
//! sends every other a message and gets one from each. Messages carry numbers as they are and never a sum that MPI has
//! made, for MPI promises no order of addition.
//!
//! A process by itself is rank 0 of 1 and swaps nothing.
mod agreement;
pub mod exchange;
#[cfg(feature = "mpi")]
mod mpi;
mod peers;
pub mod threads;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ops::tree::Stretch;

#[cfg(feature = "mpi")]
pub use self::mpi::{from_environment, leave};
pub use agreement::Item;
pub use peers::Peer;

/// How often one who waits for the others looks whether to wait any longer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// So many processes the launcher says it has started; `None` where there is no launcher.
pub fn launched() -> Option<usize> {
    // OpenMPI's, MPICH's and its kin's.
    let said = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].iter().find_map(|name| std::env::var(name).ok());
    // Slurm's are set for every step, with MPI or without.
    let slurm = || std::env::var("PMIX_RANK").ok().and(std::env::var("SLURM_STEP_NUM_TASKS").ok());
    said.or_else(slurm)?.parse().ok()
}

/// The number that the launcher has given this process, before anything is begun.
pub fn launched_as() -> Option<usize> {
    let said = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"].iter().find_map(|name| std::env::var(name).ok());
    said?.parse().ok()
}

/// Which of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0; 0 writes and speaks.
    pub index: usize,
    /// At least 1.
    pub count: usize,
}

impl Place {
    /// One process by itself.
    pub const ALONE: Self = Self { index: 0, count: 1 };

    /// The samples of a step of `effective` that are this rank's: as many as the others' or one more, in whole groups of
    /// `together` (a micro-batch of a batch norm, whose samples are no results by themselves), else 1.
    pub fn stretch(self, effective: usize, together: usize) -> Stretch {
        let together = together.max(1);
        let groups = effective.div_ceil(together);
        let border = |rank: usize| {
            let (each, more) = (groups / self.count, groups % self.count);
            ((rank * each + rank.min(more)) * together).min(effective)
        };
        Stretch { samples: border(self.index)..border(self.index + 1), of: effective }
    }

    /// Of `count` things those that are this rank's, where each is done by itself.
    pub fn takes(self, thing: usize) -> bool {
        thing % self.count == self.index
    }
}

/// One message for every rank, and one from each.
pub trait Link: Send + Sync {
    /// Which of how many.
    fn place(&self) -> Place;

    /// Begins to send `messages`, one for each rank in order; what the others send comes out, in order of ranks, once it
    /// is all there. Swaps are made in the order in which they are begun, on every rank the same ones.
    fn swap(&self, messages: Vec<Vec<u8>>) -> Receiver<Vec<Vec<u8>>>;

    /// All ranks, in order, this one too.
    fn peers(&self) -> Vec<Peer>;
}

/// The ranks of this job.
#[derive(Clone, Default)]
pub struct Ranks(Option<Arc<dyn Link>>);

impl fmt::Debug for Ranks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { index, count } = self.place();
        write!(formatter, "rank {index} of {count}")
    }
}

impl PartialEq for Ranks {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Ranks {
    /// One process by itself.
    pub fn alone() -> Self {
        Self(None)
    }

    /// Those that `link` leads to.
    pub fn of(link: Arc<dyn Link>) -> Self {
        Self(Some(link).filter(|link| link.place().count > 1))
    }

    /// Which of how many.
    pub fn place(&self) -> Place {
        self.0.as_ref().map_or(Place::ALONE, |link| link.place())
    }

    /// Whether there are others.
    pub fn are_several(&self) -> bool {
        self.0.is_some()
    }

    /// Whether this is the one that writes and speaks.
    pub fn is_first(&self) -> bool {
        self.place().index == 0
    }

    /// The others that are gone, as far as can be seen from here.
    pub fn gone(&self) -> Vec<Peer> {
        let peers = self.0.as_ref().map(|link| link.peers()).unwrap_or_default();
        peers.into_iter().filter(Peer::is_gone).collect()
    }

    /// All ranks, in order.
    pub fn peers(&self) -> Vec<Peer> {
        self.0.as_ref().map(|link| link.peers()).unwrap_or_default()
    }

    /// Number among the ranks of this machine, and how many these are.
    pub fn on_this_machine(&self) -> Place {
        let here: Vec<usize> = self.peers().iter().filter(|peer| peer.here).map(|peer| peer.rank).collect();
        let index = here.iter().position(|rank| *rank == self.place().index).unwrap_or(0);
        Place { index, count: here.len().max(1) }
    }

    /// Whether this is the one to write what is left and to say so, where a job ends before its time: the first of those
    /// that are still there, as far as can be seen.
    pub fn stands_in(&self) -> bool {
        let own = self.place().index;
        self.is_first() || self.gone().iter().filter(|peer| peer.rank < own).count() == own
    }

    /// Everybody's message, in order of ranks; `go_on` is asked while the others are waited for.
    ///
    /// # Errors
    /// The first of `go_on`: the ranks are then no longer in step, and must not swap again.
    pub fn gather<E>(&self, message: Vec<u8>, go_on: impl Fn() -> Result<(), E>) -> Result<Vec<Vec<u8>>, E> {
        let Some(link) = &self.0 else { return Ok(vec![message]) };
        let messages = vec![message; link.place().count];
        wait(&link.swap(messages), &go_on)
    }

    /// As [`Self::gather`], with numbers.
    ///
    /// # Errors
    /// As [`Self::gather`].
    pub fn gather_numbers<E>(&self, numbers: &[f64], go_on: impl Fn() -> Result<(), E>) -> Result<Vec<Vec<f64>>, E> {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let found = self.gather(bytes, go_on)?;
        let numbers = |bytes: Vec<u8>| bytes.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number)).collect();
        Ok(found.into_iter().map(numbers).collect())
    }

    /// Of things that ranks have done in turn ([`Place::takes`]) those of all, in order.
    ///
    /// # Errors
    /// As [`Self::gather`]; what `fault` makes of a sentence where a rank sends what cannot be read here.
    pub fn gather_all_of<T: Serialize + DeserializeOwned, E>(
        &self,
        own: Vec<T>,
        go_on: impl Fn() -> Result<(), E>,
        fault: impl Fn(String) -> E,
    ) -> Result<Vec<T>, E> {
        if !self.are_several() {
            return Ok(own);
        }
        // CBOR: numbers come back bit for bit.
        let mut bytes = Vec::new();
        let cure = "start every rank with the same voxfit";
        ciborium::into_writer(&own, &mut bytes)
            .map_err(|error| fault(format!("results are not sent: {error}; {cure}")))?;
        let mut rows = Vec::new();
        for (rank, bytes) in self.gather(bytes, go_on)?.into_iter().enumerate() {
            let read = ciborium::from_reader::<Vec<T>, _>(&bytes[..]);
            let read =
                read.map_err(|error| fault(format!("rank {rank} sends what cannot be read: {error}; {cure}")))?;
            rows.push(read.into_iter());
        }
        let mut all = Vec::new();
        loop {
            let row: Vec<T> = rows.iter_mut().filter_map(Iterator::next).collect();
            if row.is_empty() {
                return Ok(all);
            }
            all.extend(row);
        }
    }

    /// Waits until all have come here.
    ///
    /// # Errors
    /// As [`Self::gather`].
    pub fn meet<E>(&self, go_on: impl Fn() -> Result<(), E>) -> Result<(), E> {
        self.gather(Vec::new(), go_on).map(drop)
    }

    fn link(&self) -> Option<&Arc<dyn Link>> {
        self.0.as_ref()
    }
}

/// What comes out, or why it is not waited for any longer. A link that is gone gives nothing, and is waited for until
/// somebody says to stop: the process is about to end then.
fn wait<T, E>(coming: &Receiver<T>, go_on: &impl Fn() -> Result<(), E>) -> Result<T, E> {
    loop {
        match coming.recv_timeout(LOOK_EVERY) {
            Ok(found) => return Ok(found),
            Err(RecvTimeoutError::Timeout) => go_on()?,
            Err(RecvTimeoutError::Disconnected) => {
                go_on()?;
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }
}

/// The ranges of all ranks, in order.
pub(crate) fn stretches(count: usize, effective: usize, together: usize) -> Vec<Stretch> {
    (0..count).map(|index| Place { index, count }.stretch(effective, together)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_sample_is_somebodys(effective in 1usize..40, count in 1usize..12, together in 1usize..6) {
            let all = stretches(count, effective, together);
            let mut next = 0;
            for stretch in &all {
                prop_assert_eq!(stretch.samples.start, next);
                prop_assert!(stretch.samples.end == effective || stretch.samples.end % together == 0);
                next = stretch.samples.end;
            }
            prop_assert_eq!(next, effective);
            let lengths = || all.iter().map(|stretch| stretch.samples.len().div_ceil(together));
            prop_assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1);
        }
    }
}
