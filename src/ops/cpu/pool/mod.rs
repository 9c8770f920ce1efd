//! Large buffers that are kept from one training step to the next.
//!
//! A step asks for the same buffers as the one before. Given back to the system and asked for again, each of their pages
//! would be cleared and faulted in anew, which costs nearly as much time as the arithmetic. [`Pool`] is the program's
//! allocator: while somebody holds [`Keep`], large blocks come from spans of pages that stay with the process, best fit
//! first, neighbours joined when they are freed. Everything else, and everything outside of such a time, goes to the
//! system's allocator, so that preparing, reading and writing give back what they free.
mod rehearsal;
mod spans;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use rehearsal::{Block, Rehearsal};
pub use spans::{Arena, REGION};
use spans::{PAGE, SYSTEM, Spans};

/// Blocks from this size on are large, in bytes.
const LARGE: usize = 64 * 1024;
/// Holders of [`Keep`].
static KEEPERS: AtomicUsize = AtomicUsize::new(0);
static SPANS: Mutex<Spans> = Mutex::new(Spans::new(SYSTEM));

/// While one of these lives, large blocks that are freed stay with the process for the next to take.
#[derive(Debug)]
pub struct Keep(());

impl Keep {
    /// One more holder; what it keeps goes when the last is dropped.
    #[allow(clippy::new_without_default, reason = "making one does something")]
    pub fn new() -> Self {
        KEEPERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        if KEEPERS.fetch_sub(1, Ordering::Relaxed) == 1 {
            release();
        }
    }
}

/// Gives free spans back to the system, and what the system's allocator has kept.
pub fn release() {
    spans().release();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets the system's allocator give large blocks back as soon as they are free, whichever thread had them. By default it
/// learns from the first large blocks to keep as much, a volume for each thread, and gives that back on no request. Small
/// blocks of all threads lie together: by default each thread has a heap of its own, whose size depends on who asked when.
pub fn keep_nothing_large() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets numbers that the allocator reads under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Sets where blocks come to lie from now on. What is best depends on the step; a rehearsal tells.
pub fn set_arena(arena: Arena) {
    spans().arena = arena;
}

/// Bytes that the pool has of the system, and the most that were in use at once.
pub fn bytes() -> (usize, usize) {
    let spans = spans();
    (spans.owned.total(), spans.peak)
}

fn spans() -> MutexGuard<'static, Spans> {
    // A panic inside leaves the tables whole: they are changed by plain stores only.
    SPANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A vector whose contents are anything; the caller writes all of it before it reads any.
///
/// In tests it is full of NaN, so that an element left out shows.
pub fn unwritten<T: bytemuck::Pod>(length: usize) -> Vec<T> {
    if cfg!(test) {
        let mut poison: Vec<T> = vec![T::zeroed(); length];
        bytemuck::cast_slice_mut::<T, u8>(&mut poison).fill(0xff);
        return poison;
    }
    let mut values = Vec::with_capacity(length);
    // SAFETY: `Pod` has no invalid values, the capacity is there, and the memory, from whichever allocator, belongs to
    // this vector alone; nothing reads it before it is written.
    #[allow(clippy::uninit_vec)]
    unsafe {
        values.set_len(length);
    }
    values
}

/// The program's allocator.
#[derive(Debug)]
pub struct Pool;

// SAFETY: blocks come from the system's allocator or from spans that no two blocks share; which of both a block came from
// is told by its address.
unsafe impl GlobalAlloc for Pool {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE && layout.align() <= PAGE && KEEPERS.load(Ordering::Relaxed) > 0 {
            let found = layout.size().checked_next_multiple_of(PAGE).and_then(|size| spans().take(size));
            if let Some(start) = found {
                return start as *mut u8;
            }
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() >= LARGE && layout.align() <= PAGE {
            let mut spans = spans();
            if spans.owned.contains(block as usize) {
                spans.give(block as usize, layout.size().next_multiple_of(PAGE));
                if KEEPERS.load(Ordering::Relaxed) == 0 {
                    spans.release();
                }
                return;
            }
        }
        // SAFETY: the block is not the pool's, so it is the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() < LARGE || KEEPERS.load(Ordering::Relaxed) == 0 {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise; the block has `layout.size()` bytes.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise; a block that stays with the system's allocator is its own to move.
        unsafe {
            let pooled = layout.size() >= LARGE && spans().owned.contains(block as usize);
            if !pooled && (size < LARGE || KEEPERS.load(Ordering::Relaxed) == 0) {
                return System.realloc(block, layout, size);
            }
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                std::ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks written by several threads keep what was written, whichever allocator they came from.
    #[test]
    fn threads_get_blocks_of_their_own() {
        let work = |seed: usize| {
            for round in 0..200 {
                let layout = Layout::from_size_align(LARGE + (seed * 7 + round) % 50 * 1000, 64).unwrap();
                let keep = (round % 3 > 0).then(Keep::new);
                // SAFETY: the block is used within its size and freed once, with the layout it was made with.
                unsafe {
                    let block = Pool.alloc(layout);
                    block.write_bytes(seed as u8, layout.size());
                    let moved = Pool.realloc(block, layout, layout.size() + 5000);
                    drop(keep);
                    let values = std::slice::from_raw_parts(moved, layout.size());
                    assert!(values.iter().all(|value| *value == seed as u8));
                    Pool.dealloc(moved, Layout::from_size_align_unchecked(layout.size() + 5000, 64));
                }
            }
        };
        std::thread::scope(|scope| (1..5).for_each(|seed| drop(scope.spawn(move || work(seed)))));
    }
}
