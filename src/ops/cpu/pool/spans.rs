//! Pieces of address space: which are free, which are the pool's, and where a block comes to lie.
/// Spans begin and end at multiples of this.
pub(super) const PAGE: usize = 4096;
/// Pages are asked of the system in multiples of this, the size of a huge page.
pub const REGION: usize = 2 << 20;
/// Where the first region is asked for: far from where a system puts things of its own accord (16 TiB), so that it can
/// grow in one piece and blocks of any size fit between others.
const HOME: usize = if usize::BITS > 32 { 1 << (usize::BITS - 20) } else { 0 };
/// Most pieces that free memory is kept track of in, and most regions; beyond, the system's allocator helps out.
const PIECES: usize = 2048;

/// Pieces of address space in order, none touching the next. An allocator cannot allocate, so the table is fixed.
pub(super) struct Table {
    pieces: [(usize, usize); PIECES],
    count: usize,
}

impl Table {
    const fn new() -> Self {
        Self { pieces: [(0, 0); PIECES], count: 0 }
    }

    fn as_slice(&self) -> &[(usize, usize)] {
        &self.pieces[..self.count]
    }

    pub fn total(&self) -> usize {
        self.as_slice().iter().map(|piece| piece.1).sum()
    }

    /// Index of the first piece that begins beyond `start`.
    fn after(&self, start: usize) -> usize {
        self.as_slice().partition_point(|piece| piece.0 <= start)
    }

    pub fn contains(&self, address: usize) -> bool {
        let after = self.after(address);
        after > 0 && address - self.pieces[after - 1].0 < self.pieces[after - 1].1
    }

    fn remove(&mut self, index: usize) -> (usize, usize) {
        let piece = self.pieces[index];
        self.pieces.copy_within(index + 1..self.count, index);
        self.count -= 1;
        piece
    }

    /// Puts a piece in, joined with those it touches; false where there is no room for it.
    fn insert(&mut self, mut start: usize, mut size: usize) -> bool {
        let mut index = self.after(start);
        if index < self.count && start + size == self.pieces[index].0 {
            size += self.remove(index).1;
        }
        if index > 0 && self.pieces[index - 1].0 + self.pieces[index - 1].1 == start {
            index -= 1;
            start = self.pieces[index].0;
            size += self.remove(index).1;
        }
        if self.count == PIECES {
            return false;
        }
        self.pieces.copy_within(index..self.count, index + 1);
        self.pieces[index] = (start, size);
        self.count += 1;
        true
    }

    /// Cuts `size` bytes at `start` out of the piece that holds them; false where that would make a piece too many.
    fn cut(&mut self, start: usize, size: usize) -> bool {
        let index = self.after(start) - 1;
        if self.count == PIECES {
            return false;
        }
        let (first, length) = self.remove(index);
        let (before, after) = (start - first, first + length - start - size);
        (before == 0 || self.insert(first, before)) && (after == 0 || self.insert(start + size, after))
    }
}

/// Where blocks come to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arena {
    /// Bytes that are asked for at once, a multiple of [`REGION`]; of 0 blocks go where they fit best.
    pub bytes: usize,
    /// Blocks of at least this many bytes lie at the arena's beginning, smaller ones at its end: small ones that stay do not
    /// break the gaps between large ones, and both have the middle.
    pub border: usize,
}

impl Arena {
    /// Best fit.
    pub const NONE: Self = Self { bytes: 0, border: 0 };
}

pub(super) struct Spans {
    free: Table,
    /// What the system has given.
    pub owned: Table,
    used: usize,
    pub peak: usize,
    pub arena: Arena,
    pages: Pages,
}

/// Where pages come from and go to.
#[derive(Clone, Copy)]
pub(super) struct Pages {
    /// So many bytes, at the wished place if nothing is there.
    pub map: fn(usize, usize) -> Option<usize>,
    pub unmap: fn(usize, usize),
}

/// The system's.
pub(super) const SYSTEM: Pages = Pages { map, unmap };

impl Spans {
    pub const fn new(pages: Pages) -> Self {
        Self { free: Table::new(), owned: Table::new(), used: 0, peak: 0, arena: Arena::NONE, pages }
    }

    /// Free pieces, start and size, in order of address.
    pub fn free(&self) -> &[(usize, usize)] {
        self.free.as_slice()
    }

    /// The free piece to take `size` bytes of, and whether of its end.
    fn find(&self, size: usize) -> Option<(usize, bool)> {
        let mut fits = (0..self.free.count).filter(|index| self.free.pieces[*index].1 >= size);
        if self.arena.bytes == 0 {
            // Best fit, at the lowest address among equals.
            fits.min_by_key(|index| self.free.pieces[*index].1).map(|index| (index, false))
        } else if size >= self.arena.border {
            fits.next().map(|index| (index, false))
        } else {
            fits.next_back().map(|index| (index, true))
        }
    }

    /// A block of `size` bytes, whole pages.
    pub fn take(&mut self, size: usize) -> Option<usize> {
        let found = match self.find(size) {
            Some(found) => found,
            None => {
                self.grow(size)?;
                self.find(size)?
            }
        };
        let (index, from_end) = found;
        let (first, length) = self.free.remove(index);
        let start = if from_end { first + length - size } else { first };
        if length > size {
            // There is room: a piece has just been taken out.
            self.free.insert(if from_end { first } else { start + size }, length - size);
        }
        self.used += size;
        self.peak = self.peak.max(self.used);
        Some(start)
    }

    pub fn give(&mut self, start: usize, size: usize) {
        self.used -= size;
        if !self.free.insert(start, size) {
            // No room to remember it: back to the system, or lost until the process ends.
            if self.owned.cut(start, size) {
                (self.pages.unmap)(start, size);
            }
        }
    }

    /// Asks the system for as much as `size` lacks of what is free at the end of the last region, behind which the new
    /// pages come to lie where that place is not taken.
    fn grow(&mut self, size: usize) -> Option<()> {
        if self.free.count == PIECES || self.owned.count == PIECES {
            return None;
        }
        if self.fill(size) {
            return Some(());
        }
        let end = self.owned.as_slice().last().map_or(HOME, |(start, size)| start + size);
        let tail = self.free.as_slice().last().filter(|(start, size)| start + size == end).map_or(0, |(_, size)| *size);
        if tail >= size {
            return Some(());
        }
        let missing = (size - tail).checked_next_multiple_of(REGION)?;
        let (start, size) = match (self.pages.map)(end, missing) {
            Some(start) if start == end => (start, missing),
            elsewhere => {
                // Not behind it: then the whole.
                elsewhere.inspect(|start| (self.pages.unmap)(*start, missing));
                let size = size.checked_next_multiple_of(REGION)?;
                ((self.pages.map)(end, size)?, size)
            }
        };
        self.owned.insert(start, size);
        self.free.insert(start, size);
        Some(())
    }

    /// Asks the system for what the arena lacks, or where that is refused for as much as a block of `size` bytes needs, on
    /// the side where the block is to lie, so that it lies where it would in the whole arena. False where the arena lacks
    /// nothing, or nothing can be had.
    fn fill(&mut self, size: usize) -> bool {
        let (mut at, end) = (HOME, HOME + self.arena.bytes);
        let mut filled = false;
        while at < end {
            let after = self.owned.after(at);
            if let Some((start, size)) = after.checked_sub(1).map(|index| self.owned.pieces[index])
                && start + size > at
            {
                at = start + size;
                continue;
            }
            let until = self.owned.as_slice().get(after).map_or(end, |piece| piece.0.min(end));
            if !self.own(at, until) {
                return filled || self.fill_side(at, until, size);
            }
            filled = true;
            at = until;
        }
        filled
    }

    /// As much of a gap in the arena as a block needs, at the end where it is to lie.
    fn fill_side(&mut self, at: usize, until: usize, size: usize) -> bool {
        match size.checked_next_multiple_of(REGION) {
            Some(needed) if needed < until - at => match size >= self.arena.border {
                true => self.own(at, at + needed),
                false => self.own(until - needed, until),
            },
            _ => false,
        }
    }

    /// Asks the system for the pages from `at` to `until`; false where it has others or none.
    fn own(&mut self, at: usize, until: usize) -> bool {
        match (self.pages.map)(at, until - at) {
            Some(start) if start == at && self.free.count < PIECES && self.owned.count < PIECES => {
                self.owned.insert(at, until - at);
                self.free.insert(at, until - at);
                true
            }
            elsewhere => {
                elsewhere.inspect(|start| (self.pages.unmap)(*start, until - at));
                false
            }
        }
    }

    pub fn release(&mut self) {
        for index in (0..self.free.count).rev() {
            let (start, size) = self.free.pieces[index];
            if self.owned.cut(start, size) {
                self.free.remove(index);
                (self.pages.unmap)(start, size);
            }
        }
    }
}

/// Fresh pages of the system, huge ones where it has them to spare, at `place` if nothing is there.
#[cfg(unix)]
fn map(place: usize, size: usize) -> Option<usize> {
    // SAFETY: an anonymous mapping whose address is a wish touches nothing that exists.
    unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let start =
            libc::mmap(place as *mut libc::c_void, size, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        if start == libc::MAP_FAILED {
            return None;
        }
        #[cfg(target_os = "linux")]
        libc::madvise(start, size, libc::MADV_HUGEPAGE);
        Some(start as usize)
    }
}

#[cfg(unix)]
fn unmap(start: usize, size: usize) {
    // SAFETY: the pages came from `map` and no block lies in them.
    unsafe {
        libc::munmap(start as *mut libc::c_void, size);
    }
}

/// Elsewhere nothing is pooled.
#[cfg(not(unix))]
fn map(_place: usize, _size: usize) -> Option<usize> {
    None
}

#[cfg(not(unix))]
fn unmap(_start: usize, _size: usize) {}

#[cfg(test)]
mod tests;
