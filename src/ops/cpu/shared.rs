//! A mutable slice that several threads write in places that do not overlap.
use std::marker::PhantomData;

/// Hands out parts of a slice; who takes them promises that they do not overlap.
pub struct SharedSlice<'a, T> {
    start: *mut T,
    length: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out by `slice`, whose callers promise that no two overlap.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}
// SAFETY: it stands for a `&mut [T]`.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Of all of `slice`, which stays borrowed as long as this lives.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), lifetime: PhantomData }
    }

    /// `length` elements from `start`; out of bounds is a panic.
    ///
    /// # Safety
    /// No part that overlaps this one may be in use at the same time.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, start: usize, length: usize) -> &mut [T] {
        assert!(start.checked_add(length).is_some_and(|end| end <= self.length), "part out of bounds");
        // SAFETY: in bounds; the caller promises that it is not shared.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}
