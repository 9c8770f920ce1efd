//! Forward and backward passes, block by block, in the order of [`crate::network::UNet`], [`crate::ops`] and
//! `train/blocks.rs`.
use super::layers::{Direction, Layer};
use super::residual::KeptResidual;
use super::walk::{Held, Part, Walk};
use crate::network::plan::Kind;

/// The outputs of two convolutions, as far as they are kept. Where a decoder level has but one, it is the second.
struct Kept {
    first: Option<Held>,
    second: Held,
}

/// What is kept of an encoder stage.
enum KeptStage {
    Plain(Kept),
    Residual(KeptResidual),
}

impl Walk<'_> {
    pub(super) fn levels(&self) -> usize {
        self.shape.plan.stages.len().saturating_sub(1)
    }

    /// The whole network on one graph.
    pub(super) fn whole(&mut self, samples: usize) {
        let (stages, levels, heads) = (self.shape.plan.stages.len(), self.levels(), self.heads());
        let mut encoder: Vec<KeptStage> = (0..stages).map(|stage| self.stage("forward", stage, samples)).collect();
        let (mut decoder, mut logits) = (Vec::new(), Vec::new());
        for level in (0..levels).rev() {
            decoder.push(self.level("forward", level, samples));
            if level < heads {
                logits.push(self.head("forward", level, samples));
            }
        }
        let finest = if levels == 0 { Some(self.head("forward", 0, samples)) } else { logits.pop() };
        let mut gradient = finest.map(|logits| self.head_backward(0, samples, logits));
        let mut of_skips = Vec::new();
        for (level, kept) in decoder.into_iter().rev().enumerate() {
            let inner = self.second_backward(level, samples, kept, gradient.take());
            // The graph's order: a head of the level below comes before what leads to that level.
            let head = logits.pop().map(|logits| self.head_backward(level + 1, samples, logits));
            let (below, skip) = self.first_backward(level, samples, inner, head);
            gradient = Some(below);
            of_skips.push(skip);
        }
        for stage in (0..stages).rev() {
            let Some(kept) = encoder.pop() else { return };
            // The output of the stage was read by the next one and by its decoder level; one is added to the other.
            if of_skips.len() > stage {
                of_skips.pop().into_iter().for_each(|skip| self.give(skip));
            }
            gradient = self.stage_backward(stage, samples, kept, gradient);
        }
    }

    /// With the insides of blocks computed again.
    pub(super) fn blocks(&mut self, samples: usize) {
        let (stages, levels, heads) = (self.shape.plan.stages.len(), self.levels(), self.heads());
        let mut encoder: Vec<Held> = (0..stages).map(|stage| self.stage_output(stage, samples)).collect();
        let mut below: Vec<Held> = encoder.pop().into_iter().collect();
        below.extend((1..levels).rev().map(|level| self.level_output(level, samples)).collect::<Vec<_>>());
        let mut gradient = None;
        if levels == 0 {
            let logits = self.head("forward", 0, samples);
            gradient = Some(self.head_backward(0, samples, logits));
        }
        let mut of_skips = Vec::new();
        for level in 0..levels {
            let pass = if level == 0 { "forward" } else { "again" };
            let kept = self.level(pass, level, samples);
            if level < heads {
                let logits = self.head(pass, level, samples);
                let of_head = self.head_backward(level, samples, logits);
                // Added to what came from above.
                gradient.replace(of_head).into_iter().for_each(|held| self.give(held));
            }
            let inner = self.second_backward(level, samples, kept, gradient.take());
            let (from_below, skip) = self.first_backward(level, samples, inner, None);
            gradient = Some(from_below);
            of_skips.push(skip);
            below.pop().into_iter().for_each(|input| self.give(input));
        }
        below.pop().into_iter().for_each(|input| self.give(input));
        for stage in (0..stages).rev() {
            if of_skips.len() > stage {
                of_skips.pop().into_iter().for_each(|skip| self.give(skip));
            }
            let input = encoder.pop();
            let kept = self.stage("again", stage, samples);
            gradient = self.stage_backward(stage, samples, kept, gradient);
            input.into_iter().for_each(|input| self.give(input));
        }
    }

    fn heads(&self) -> usize {
        crate::network::head_weights(self.shape.plan.stages.len(), self.shape.plan.deep_supervision).len()
    }

    /// An encoder stage's forward pass.
    fn stage(&mut self, pass: &'static str, stage: usize, samples: usize) -> KeptStage {
        match self.shape.plan.kind {
            Kind::Plain => KeptStage::Plain(self.plain_stage(pass, stage, samples)),
            Kind::ResEnc => KeptStage::Residual(self.residual_stage(pass, stage, samples)),
        }
    }

    /// The first convolution of the first stage is not kept.
    fn plain_stage(&mut self, pass: &'static str, stage: usize, samples: usize) -> Kept {
        let activation = self.activation(stage, samples);
        self.at(pass, format!("encoder.{stage}.conv0"));
        let first = self.take(if stage == 0 { Part::Layer } else { Part::Activations }, activation);
        self.run(self.encoder(stage, 0, samples), Direction::Forward);
        self.at(pass, format!("encoder.{stage}.conv1"));
        let second = self.take(Part::Activations, activation);
        self.run(self.encoder(stage, 1, samples), Direction::Forward);
        let first = if stage == 0 {
            self.give(first);
            None
        } else {
            Some(first)
        };
        Kept { first, second }
    }

    pub(super) fn stage_output(&mut self, stage: usize, samples: usize) -> Held {
        if self.shape.plan.kind == Kind::ResEnc {
            return self.residual_output(stage, samples);
        }
        let kept = self.plain_stage("forward", stage, samples);
        kept.first.into_iter().for_each(|first| self.give(first));
        kept.second
    }

    /// A decoder level's forward pass.
    fn level(&mut self, pass: &'static str, level: usize, samples: usize) -> Kept {
        let activation = self.activation(level, samples);
        self.at(pass, format!("decoder.{level}.up"));
        let up = self.take(Part::Layer, activation);
        self.run(self.up(level, samples), Direction::Forward);
        self.at(pass, format!("decoder.{level}.conv0"));
        let first = self.take(Part::Activations, activation);
        self.run(self.decoder(level, 0, samples), Direction::Forward);
        self.give(up);
        if self.shape.plan.kind.decoder_convolutions() == 1 {
            return Kept { first: None, second: first };
        }
        self.at(pass, format!("decoder.{level}.conv1"));
        let second = self.take(Part::Activations, activation);
        self.run(self.decoder(level, 1, samples), Direction::Forward);
        Kept { first: Some(first), second }
    }

    fn level_output(&mut self, level: usize, samples: usize) -> Held {
        let kept = self.level("forward", level, samples);
        kept.first.into_iter().for_each(|first| self.give(first));
        kept.second
    }

    /// A level's logits.
    pub(super) fn head(&mut self, pass: &'static str, level: usize, samples: usize) -> Held {
        self.at(pass, format!("head.{level}"));
        let logits = self.take(Part::Activations, self.logits(level, samples));
        self.run(self.head_layer(level, samples), Direction::Forward);
        logits
    }

    /// From the loss to the gradient of what the head reads.
    fn head_backward(&mut self, level: usize, samples: usize, logits: Held) -> Held {
        self.at("backward", format!("head.{level}"));
        let of_logits = self.take(Part::Layer, self.logits(level, samples));
        self.give(logits);
        let head = self.head_layer(level, samples);
        self.run(head, Direction::Weights);
        let gradient = self.take(Part::Layer, self.activation(level, samples));
        self.run(head, Direction::Input);
        self.give(of_logits);
        gradient
    }

    /// A level's second convolution, and the norm before it. Gives the gradient of the first convolution's output.
    fn second_backward(&mut self, level: usize, samples: usize, kept: Kept, gradient: Option<Held>) -> Held {
        self.at("backward", format!("decoder.{level}.conv1"));
        // The norm's pass is in place, and the last to read the output.
        self.give(kept.second);
        let gradient = match gradient {
            Some(gradient) if self.shape.plan.kind.decoder_convolutions() == 1 => return gradient,
            gradient => gradient,
        };
        let conv1 = self.decoder(level, 1, samples);
        self.run(conv1, Direction::Weights);
        let inner = self.take(Part::Layer, self.activation(level, samples));
        self.run(conv1, Direction::Input);
        gradient.into_iter().for_each(|held| self.give(held));
        kept.first.into_iter().for_each(|first| self.give(first));
        inner
    }

    /// A level's first convolution and its way up. Gives the gradients of what came from below, to which that of its
    /// `head` is added, and of the skip.
    fn first_backward(&mut self, level: usize, samples: usize, inner: Held, head: Option<Held>) -> (Held, Held) {
        let activation = self.activation(level, samples);
        self.at("backward", format!("decoder.{level}.conv0"));
        let (up, conv0) = (self.up(level, samples), self.decoder(level, 0, samples));
        let came_up = self.take(Part::Layer, activation);
        self.run(up, Direction::Forward);
        self.run(conv0, Direction::Weights);
        self.give(came_up);
        let of_up = self.half_of_input(conv0, activation);
        self.at("backward", format!("decoder.{level}.up"));
        self.run(up, Direction::Weights);
        let below = self.take(Part::Layer, self.activation(level + 1, samples));
        self.run(up, Direction::Input);
        self.give(of_up);
        // One is added to the other.
        head.into_iter().for_each(|head| self.give(head));
        self.at("backward", format!("decoder.{level}.conv0"));
        let of_skip = self.half_of_input(conv0, activation);
        self.give(inner);
        (below, of_skip)
    }

    /// The gradient of one half of what a level's first convolution reads, with a copy of its weights.
    fn half_of_input(&mut self, mut conv: Layer, activation: usize) -> Held {
        conv.shape.in_channels /= 2;
        let weights = self.take(Part::Scratch, 4 * conv.shape.weights());
        let gradient = self.take(Part::Layer, activation);
        self.run(conv, Direction::Input);
        self.give(weights);
        gradient
    }

    /// Gives the gradient of the stage above's output; of the first stage nobody asks for one.
    fn stage_backward(
        &mut self,
        stage: usize,
        samples: usize,
        kept: KeptStage,
        gradient: Option<Held>,
    ) -> Option<Held> {
        match kept {
            KeptStage::Plain(kept) => self.plain_backward(stage, samples, kept, gradient),
            KeptStage::Residual(kept) => self.residual_backward(stage, samples, kept, gradient),
        }
    }

    fn plain_backward(&mut self, stage: usize, samples: usize, kept: Kept, gradient: Option<Held>) -> Option<Held> {
        let activation = self.activation(stage, samples);
        let (conv0, conv1) = (self.encoder(stage, 0, samples), self.encoder(stage, 1, samples));
        self.at("backward", format!("encoder.{stage}.conv1"));
        self.give(kept.second);
        let first = kept.first.unwrap_or_else(|| {
            let again = self.take(Part::Layer, activation);
            self.run(conv0, Direction::Forward);
            again
        });
        self.run(conv1, Direction::Weights);
        let inner = self.take(Part::Layer, activation);
        self.run(conv1, Direction::Input);
        gradient.into_iter().for_each(|held| self.give(held));
        self.at("backward", format!("encoder.{stage}.conv0"));
        self.give(first);
        self.run(conv0, Direction::Weights);
        let above = (stage > 0).then(|| {
            let above = self.take(Part::Layer, self.activation(stage - 1, samples));
            self.run(conv0, Direction::Input);
            above
        });
        self.give(inner);
        above
    }

    /// A layer's arithmetic in one direction. Gradients of weights are added sample by sample.
    pub(super) fn run(&mut self, mut layer: Layer, direction: Direction) {
        if direction != Direction::Weights {
            self.scratch(self.room(layer, direction));
            return;
        }
        let samples = std::mem::replace(&mut layer.shape.batch, 1);
        self.gradient(layer.weights, samples, |walk| walk.scratch(walk.room(layer, direction)));
    }
}
