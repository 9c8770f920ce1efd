//! The bytes of a prediction's passes, by rehearsal as [`super::rehearse`] does it for a step: `predict/tile.rs` around
//! [`crate::network::UNet::forward`] without a graph, where every output goes as soon as nothing reads it any more.
use super::layers::Direction;
use super::walk::{Held, Part, Walk};
use super::{STEPS, StepBytes, StepShape, can_be_counted};
use crate::ops::cpu::pool::Arena;

/// Rehearses tiles of `passes` passes each (networks times mirrorings); of the step's shape, plan, patch, activations,
/// threads and instruction set count. `None` where sizes are beyond what can be counted.
pub fn rehearse_forward(shape: &StepShape<'_>, passes: usize) -> Option<StepBytes> {
    can_be_counted(shape)?;
    let mut walk = Walk::new(shape, Arena::NONE);
    let mut free = Vec::new();
    for _ in 0..STEPS {
        walk.tile(passes);
        let now = walk.free();
        if now == free {
            break;
        }
        free = now;
    }
    Some(walk.found())
}

impl Walk<'_> {
    fn tile(&mut self, passes: usize) {
        self.at("forward", "tile");
        let tile = self.take(Part::Patches, 4 * self.values());
        let mut sum = None;
        // The first pass makes the sum, and every later one is like the second.
        for _ in 0..passes.clamp(1, 2) {
            let scores = self.pass();
            match sum {
                Some(_) => self.give(scores),
                None => sum = Some(scores),
            }
        }
        sum.into_iter().chain([tile]).for_each(|held| self.give(held));
    }

    /// Of the image.
    fn values(&self) -> usize {
        self.shape.plan.in_channels * self.shape.patch.iter().product::<usize>()
    }

    /// One tile through one network; gives its scores in f32.
    fn pass(&mut self) -> Held {
        let (stages, levels) = (self.shape.plan.stages.len(), self.levels());
        let image = self.image();
        let mut outputs = vec![self.stage_output(0, 1)];
        self.give(image);
        outputs.extend((1..stages).map(|stage| self.stage_output(stage, 1)).collect::<Vec<_>>());
        let mut below = outputs.pop();
        for level in (0..levels).rev() {
            below = Some(self.predicted_level(level, below.take(), outputs.pop()));
        }
        let logits = self.head("forward", 0, 1);
        below.into_iter().for_each(|held| self.give(held));
        self.scores(logits)
    }

    /// The tile's values, in the activation type.
    fn image(&mut self) -> Held {
        self.at("forward", "image");
        let values = self.values();
        let wide = self.take(Part::Patches, 4 * values);
        if self.element() == 4 {
            return wide;
        }
        let narrow = self.take(Part::Patches, self.element() * values);
        self.give(wide);
        narrow
    }

    /// A decoder level; what it reads is given back.
    fn predicted_level(&mut self, level: usize, below: Option<Held>, skip: Option<Held>) -> Held {
        let activation = self.activation(level, 1);
        self.at("forward", format!("decoder.{level}.up"));
        let up = self.take(Part::Layer, activation);
        self.run(self.up(level, 1), Direction::Forward);
        below.into_iter().for_each(|held| self.give(held));
        self.at("forward", format!("decoder.{level}.conv0"));
        let first = self.take(Part::Layer, activation);
        self.run(self.decoder(level, 0, 1), Direction::Forward);
        self.give(up);
        skip.into_iter().for_each(|held| self.give(held));
        if self.shape.plan.kind.decoder_convolutions() == 1 {
            return first;
        }
        self.at("forward", format!("decoder.{level}.conv1"));
        let second = self.take(Part::Layer, activation);
        self.run(self.decoder(level, 1, 1), Direction::Forward);
        self.give(first);
        second
    }

    /// Logits as f32.
    fn scores(&mut self, logits: Held) -> Held {
        if self.element() == 4 {
            return logits;
        }
        self.at("forward", "scores");
        let scores = self.take(Part::Layer, 4 * self.shape.plan.classes * self.voxels(0));
        self.give(logits);
        scores
    }
}
