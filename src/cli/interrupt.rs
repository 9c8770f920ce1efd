//! Ctrl-C and SIGTERM: the first asks for an end in order, the second ends at once.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Raised by the first interrupt.
static STOP: AtomicBool = AtomicBool::new(false);
/// Raised by the second, which ends the process.
static END: AtomicBool = AtomicBool::new(false);
/// A folder that an end at once takes with it.
static SCRATCH: Mutex<Option<PathBuf>> = Mutex::new(None);

/// The flag that the first interrupt raises. Where no handler can be set, an interrupt ends the process as ever.
pub fn on_first_interrupt() -> &'static AtomicBool {
    let set = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            END.store(true, Ordering::SeqCst);
            if let Some(folder) = SCRATCH.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // More than once, since the work goes on meanwhile and may have put a file into a folder just emptied.
                (0..5).find(|_| std::fs::remove_dir_all(&folder).is_ok() && !folder.exists());
            }
            // 130: ended by an interrupt, as shells have it. Files are only ever renamed whole, so none is half-written.
            std::process::exit(130);
        }
        if !super::job::is_silent() {
            super::terminal::complain("stopping in order; once more ends at once");
        }
    });
    if let Err(error) = set {
        tracing::warn!("interrupts will end the process at once: {error}");
    }
    &STOP
}

/// Whether the first interrupt has come.
pub fn was_asked() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Waits for the end where the second interrupt is about to bring it: what failed meanwhile is its doing.
pub fn wait_for_the_end() {
    while END.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Makes the second interrupt remove `folder` before it ends the process.
pub fn take_along(folder: &Path) {
    *SCRATCH.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder.to_owned());
}
