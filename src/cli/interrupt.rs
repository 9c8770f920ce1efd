//! Ctrl-C and SIGTERM: the first asks for an end in order, the second ends at once.
use std::sync::atomic::{AtomicBool, Ordering};

/// Raised by the first interrupt.
static STOP: AtomicBool = AtomicBool::new(false);

/// The flag that the first interrupt raises. Where no handler can be set, an interrupt ends the process as ever.
pub fn on_first_interrupt() -> &'static AtomicBool {
    let set = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            // 130: ended by an interrupt, as shells have it. Files are only ever renamed whole, so none is half-written.
            std::process::exit(130);
        }
        super::terminal::complain("stopping in order; once more ends at once");
    });
    if let Err(error) = set {
        tracing::warn!("interrupts will end the process at once: {error}");
    }
    &STOP
}
