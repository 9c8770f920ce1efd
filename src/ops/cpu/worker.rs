//! Where a long computation runs.

/// Runs `work` on one of the pool's own threads. A parallel loop that is begun there starts at once; begun elsewhere it
/// would first have to wake a thread, hundreds of times a step.
pub fn on_worker<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
