//! The dynamic loss scale of f16, one for a whole effective batch.

/// Clean steps before the scale is doubled (PyTorch's GradScaler).
const GROWTH_INTERVAL: u32 = 2000;
/// Where it starts.
pub const INITIAL_SCALE: f64 = 65536.0;

/// Doubles after 2000 clean steps, halves on overflow; a fixed scale stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    /// Factor on the loss.
    pub scale: f64,
    /// Steps without overflow since the scale last changed.
    pub clean_steps: u32,
    /// Whether it moves.
    pub dynamic: bool,
}

impl LossScale {
    /// No scaling: for types with f32's range.
    pub fn none() -> Self {
        Self { scale: 1.0, clean_steps: 0, dynamic: false }
    }

    /// One that stays.
    pub fn fixed(scale: f64) -> Self {
        Self { scale, clean_steps: 0, dynamic: false }
    }

    /// One that moves, from its start.
    pub fn dynamic() -> Self {
        Self { scale: INITIAL_SCALE, clean_steps: 0, dynamic: true }
    }

    /// Notes whether the step's gradient was finite; a step that was not is skipped by the caller.
    pub fn observe(&mut self, finite: bool) {
        if !self.dynamic {
            return;
        }
        if finite {
            self.clean_steps += 1;
            if self.clean_steps == GROWTH_INTERVAL {
                self.scale *= 2.0;
                self.clean_steps = 0;
            }
        } else {
            self.scale /= 2.0;
            self.clean_steps = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_on_overflow_and_doubles_after_2000_clean_steps() {
        let mut scale = LossScale::dynamic();
        scale.observe(false);
        assert_eq!(scale.scale, 32768.0);
        for _ in 0..1999 {
            scale.observe(true);
        }
        assert_eq!(scale.scale, 32768.0);
        scale.observe(true);
        assert_eq!(scale.scale, 65536.0);
        let mut fixed = LossScale::fixed(8.0);
        fixed.observe(false);
        assert_eq!(fixed.scale, 8.0);
    }
}
