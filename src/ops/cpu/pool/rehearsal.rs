//! The pool without memory: what blocks, asked for and given back in some order, would make it ask of the system.
use super::LARGE;
use super::spans::{Arena, PAGE, Pages, Spans};

/// Pages that nobody has, always where they are wished for.
const NOWHERE: Pages = Pages { map: |place, _| Some(place), unmap: |_, _| {} };

/// A pool that only counts.
pub struct Rehearsal {
    spans: Box<Spans>,
}

/// A block of a rehearsal.
#[derive(Debug)]
#[must_use = "a block that is not given back is held for ever"]
pub struct Block {
    bytes: usize,
    /// `None` where it is so small that the pool leaves it to the system's allocator.
    start: Option<usize>,
}

impl Rehearsal {
    /// A pool whose blocks lie so.
    pub fn new(arena: Arena) -> Self {
        let mut spans = Box::new(Spans::new(NOWHERE));
        spans.arena = arena;
        Self { spans }
    }

    /// A block of `bytes`.
    pub fn take(&mut self, bytes: usize) -> Block {
        let size = (bytes >= LARGE).then(|| bytes.checked_next_multiple_of(PAGE)).flatten();
        Block { bytes, start: size.and_then(|size| self.spans.take(size)) }
    }

    /// Gives a block back.
    pub fn give(&mut self, block: Block) {
        if let Some(start) = block.start {
            self.spans.give(start, block.bytes.next_multiple_of(PAGE));
        }
    }

    /// What is free, as start and size: the same again after the same takes and gives means the same ever after.
    pub fn free(&self) -> Vec<(usize, usize)> {
        self.spans.free().to_vec()
    }

    /// Bytes that the pool has asked of the system so far.
    pub fn owned(&self) -> usize {
        self.spans.owned.total()
    }
}

impl Block {
    /// The size that was asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_holds_nothing() {
        let mut pool = Rehearsal::new(Arena::NONE);
        let large = pool.take(1 << 50);
        let small = pool.take(100);
        assert_eq!(pool.owned(), 1 << 50);
        pool.give(large);
        pool.give(small);
        let again = pool.take(1 << 49);
        assert_eq!((pool.owned(), again.bytes()), (1 << 50, 1 << 49));
        pool.give(again);
    }
}
