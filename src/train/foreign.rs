//! What a file of weights may not be, whoever made it.
use std::fs;
use std::io::Read;
use std::path::Path;

use super::TrainError;
use super::checkpoint::State;
use crate::memory::machine;

/// Refuses files of PyTorch before anything else is done with them, by name and by content: what they hold is read by
/// running it.
///
/// # Errors
/// Such a file.
pub fn refuse_foreign(path: &Path) -> Result<(), TrainError> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let by_name = ["pth", "pt", "ckpt", "pkl", "pickle"].contains(&ending.as_str());
    let mut start = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    // A zip archive of today's `torch.save`, a bare pickle of its beginnings.
    let by_content = start[..read].starts_with(b"PK\x03\x04") || (read >= 2 && start[0] == 0x80 && start[1] < 6);
    // Eight bytes of a safetensors header's length come first: a header of 128 bytes begins like a pickle, but for its zeros.
    let safetensors = start[..read].ends_with(&[0, 0]);
    if by_name || (by_content && !safetensors) {
        return Err(TrainError::run(
            path,
            "a file of PyTorch (.pth) is not trained from as it is, because PyTorch reads it by running what is in it",
            "`voxfit import FILE -o weights.safetensors` takes nnU-Net's weights out of it without running anything; or \
             give the checkpoint.safetensors of a voxfit run, as in RUN/checkpoints/best/checkpoint.safetensors",
        ));
    }
    Ok(())
}

/// Refuses tensors that memory does not hold: all that are kept, and the largest of the others while it is looked
/// through. `tensors` are whether each is kept and where it lies; a file with holes may be larger than its disk.
pub(crate) fn refuse_too_large(
    path: &Path,
    tensors: impl Iterator<Item = (bool, (usize, usize))>,
) -> Result<(), TrainError> {
    let (kept, largest) = tensors.fold((0u64, 0u64), |(kept, largest), (keep, (from, to))| {
        let bytes = to.saturating_sub(from) as u64;
        if keep { (kept.saturating_add(bytes), largest) } else { (kept, largest.max(bytes)) }
    });
    let (needed, free) = (kept.saturating_add(largest), machine::memory().available);
    match free {
        Some(free) if needed > free => {
            let problem = format!("its tensors need {} MiB, {} MiB are free", needed.div_ceil(1 << 20), free >> 20);
            Err(TrainError::run(path, problem, "use weights of the same network plan, or free some memory"))
        }
        _ => Ok(()),
    }
}

impl State {
    /// What no training leaves: the digest is over the tensors, and anything can be written beside them.
    pub(super) fn check(&self) -> Result<(), String> {
        let best = self.best.is_none_or(|(dice, step)| (0.0..=1.0).contains(&dice) && step <= self.step);
        let scale = self.loss_scale.is_finite() && self.loss_scale > 0.0;
        for (name, right) in [
            ("steps", (1..=1_000_000_000).contains(&self.steps)),
            ("step", self.step <= self.steps),
            ("updates", self.updates <= self.step),
            ("loss_scale", scale),
            ("clean_steps", u64::from(self.clean_steps) <= self.step),
            ("best", best),
            ("finished", !self.finished || self.step == self.steps),
        ] {
            if !right {
                return Err(format!("its {name} is not what a training leaves"));
            }
        }
        Ok(())
    }
}
