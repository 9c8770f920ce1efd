//! Scratch of the threads that share a piece of work.
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;

use super::isa::LANES;
use super::pool::unwritten;

/// Room of equal length for every thread, taken as one block before they begin: so the order in which blocks are taken
/// of the pool depends on no thread, and what the pool needs in all can be told beforehand.
pub struct Slots<T> {
    values: Vec<T>,
    length: usize,
}

/// The slots that no thread is using; the others are `None`.
pub struct Free<'a, T>(Mutex<Vec<Option<&'a mut [T]>>>);

impl<T: Pod> Slots<T> {
    /// `count` slots of `length` elements, whose contents are anything.
    pub fn new(length: usize, count: usize) -> Self {
        Self { values: unwritten(Self::elements(length, count)), length }
    }

    /// Elements of the block.
    pub fn elements(length: usize, count: usize) -> usize {
        length.next_multiple_of(LANES) * count
    }

    pub fn free(&mut self) -> Free<'_, T> {
        let length = self.length;
        let slots = self.values.chunks_exact_mut(length.next_multiple_of(LANES).max(1));
        Free(Mutex::new(slots.map(|slot| Some(&mut slot[..length])).collect()))
    }
}

impl<'a, T: Pod> Free<'a, T> {
    /// Runs `work` with a slot. There must be one for each thread, and `work` must not wait for other work that needs one:
    /// a thread that waits takes up other pieces. Where there are too few all the same, one is made.
    pub fn with<R>(&self, length: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
        let Some((index, slot)) = self.take() else { return work(&mut unwritten(length)) };
        let result = work(&mut *slot);
        self.slots()[index] = Some(slot);
        result
    }

    /// The slot that this thread had before, which its caches may still hold, or any other.
    fn take(&self) -> Option<(usize, &'a mut [T])> {
        let mut slots = self.slots();
        let own = rayon::current_thread_index().unwrap_or(0) % slots.len().max(1);
        let index = (own..slots.len()).chain(0..own).find(|index| slots[*index].is_some())?;
        slots[index].take().map(|slot| (index, slot))
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Option<&'a mut [T]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn threads_have_slots_of_their_own() {
        let mut slots = Slots::<u32>::new(100, 2);
        let free = slots.free();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| {
            (0..1000u32).into_par_iter().for_each(|piece| {
                free.with(100, |slot| {
                    slot.fill(piece);
                    std::thread::yield_now();
                    assert_eq!(slot, [piece; 100]);
                });
            });
        });
    }
}
