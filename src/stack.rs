//! Room for readers that call themselves.
use std::io;
use std::panic::resume_unwind;
use std::thread::{Builder, scope};

/// Bytes of stack for reading nothing, and for each byte that is read: the TOML reader goes one call deeper, 2 KiB, for some
/// brackets that are never closed, whatever bound it has for those that are.
const BASE: usize = 2 << 20;
const PER_BYTE: usize = 2 << 10;

/// What `read` gives, on a stack that text of `bytes` bytes cannot overflow; a stack takes memory only where it is used.
/// Overflowing one ends the process without a word.
///
/// # Errors
/// No such stack can be had.
pub(crate) fn with_room<T: Send>(bytes: usize, read: impl FnOnce() -> T + Send) -> io::Result<T> {
    scope(|scope| {
        let size = BASE.saturating_add(PER_BYTE.saturating_mul(bytes));
        let reader = Builder::new().stack_size(size).spawn_scoped(scope, read)?;
        reader.join().or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::with_room;

    #[test]
    fn deep_calls_have_room() {
        #[inline(never)]
        fn deep(left: usize) -> usize {
            let room = std::hint::black_box([left; 128]);
            if left == 0 { 0 } else { deep(left - 1) + room[left % 128] / left.max(1) }
        }
        // 16 MiB at least, where a thread has 2.
        assert_eq!(with_room(10 << 10, || deep(10 << 10)).unwrap(), 10 << 10);
    }
}
