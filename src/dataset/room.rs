//! Whether there is room for a volume before it is made.
use std::path::Path;

use super::DatasetError;
use crate::memory::machine;

/// Refuses `bytes` bytes that `what` would take where the machine has not got them free. `file` is what asks for them.
///
/// Pages are handed out only when written: without this, a volume that a header blew up would bring the machine down
/// instead of being refused. The trial is for limits on address space; allocating in earnest would end the process.
pub(super) fn refuse_too_large(file: &Path, what: &str, bytes: u64, cure: &str) -> Result<(), DatasetError> {
    refuse_beyond(file, what, bytes, machine::memory().available, "free", cure)?;
    let fits = usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
    if fits { Ok(()) } else { Err(too_large(file, what, bytes, "", cure)) }
}

/// Refuses more than `most` bytes, which are `allowed` (`None` without end).
pub(super) fn refuse_beyond(
    file: &Path,
    what: &str,
    bytes: u64,
    most: Option<u64>,
    allowed: &str,
    cure: &str,
) -> Result<(), DatasetError> {
    match most {
        Some(most) if bytes > most => {
            Err(too_large(file, what, bytes, &format!(", {} MiB are {allowed}", most >> 20), cure))
        }
        _ => Ok(()),
    }
}

fn too_large(file: &Path, what: &str, bytes: u64, has: &str, cure: &str) -> DatasetError {
    DatasetError::invalid(file, "memory", format!("{what} needs {} MiB{has}", bytes.div_ceil(1 << 20)), cure)
}
