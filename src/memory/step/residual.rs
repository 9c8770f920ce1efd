//! The stages of the residual encoder, in the order of `network/residual.rs` and of the graph: where two paths part, what
//! is beside a block comes before what is in it.
use super::layers::Direction;
use super::walk::{Held, Part, Walk};

/// What is kept of a stage.
pub(super) struct KeptResidual {
    /// The output of the convolution in front, of the first stage.
    stem: Option<Held>,
    blocks: Vec<KeptBlock>,
}

struct KeptBlock {
    /// Outputs of both convolutions.
    first: Held,
    second: Held,
    /// Averages that a convolution beside the block reads.
    averages: Option<Held>,
    /// Output of that convolution.
    beside: Option<Held>,
    sum: Held,
}

impl Walk<'_> {
    fn block_count(&self, stage: usize) -> usize {
        self.numbers.stages[stage].len()
    }

    /// Whether what is beside a block is averaged.
    fn averages(&self, stage: usize, block: usize) -> bool {
        block == 0 && self.shape.plan.stages[stage].stride != [1; 3]
    }

    /// Bytes of what comes into a block.
    fn block_input_bytes(&self, stage: usize, block: usize, samples: usize) -> usize {
        let (channels, size) = self.block_input(stage, block);
        self.element() * samples * channels * size.iter().product::<usize>()
    }

    /// Bytes of the averages of what comes into a block.
    fn averages_bytes(&self, stage: usize, block: usize, samples: usize) -> usize {
        self.element() * samples * self.block_input(stage, block).0 * self.voxels(stage)
    }

    fn stem_forward(&mut self, pass: &'static str, stage: usize, samples: usize) -> Option<Held> {
        (stage == 0).then(|| {
            self.at(pass, "stem");
            let raw = self.take(Part::Activations, self.activation(0, samples));
            self.run(self.stem(samples), Direction::Forward);
            raw
        })
    }

    /// A stage's forward pass.
    pub(super) fn residual_stage(&mut self, pass: &'static str, stage: usize, samples: usize) -> KeptResidual {
        let stem = self.stem_forward(pass, stage, samples);
        let blocks =
            (0..self.block_count(stage)).map(|block| self.block_forward(pass, stage, block, samples)).collect();
        KeptResidual { stem, blocks }
    }

    fn block_forward(&mut self, pass: &'static str, stage: usize, block: usize, samples: usize) -> KeptBlock {
        let activation = self.activation(stage, samples);
        self.at(pass, format!("encoder.{stage}.block{block}.conv0"));
        let first = self.take(Part::Activations, activation);
        self.run(self.residual(stage, block, 0, samples), Direction::Forward);
        self.at(pass, format!("encoder.{stage}.block{block}.conv1"));
        let second = self.take(Part::Activations, activation);
        self.run(self.residual(stage, block, 1, samples), Direction::Forward);
        let (averages, beside) = self.beside_forward(pass, stage, block, samples);
        let sum = self.take(Part::Activations, activation);
        let averages = match &beside {
            Some(_) => averages,
            None => {
                averages.into_iter().for_each(|held| self.give(held));
                None
            }
        };
        KeptBlock { first, second, averages, beside, sum }
    }

    fn beside_forward(
        &mut self,
        pass: &'static str,
        stage: usize,
        block: usize,
        samples: usize,
    ) -> (Option<Held>, Option<Held>) {
        self.at(pass, format!("encoder.{stage}.block{block}.skip"));
        let averages = self
            .averages(stage, block)
            .then(|| self.take(Part::Activations, self.averages_bytes(stage, block, samples)));
        let beside = self.beside(stage, block, samples).map(|layer| {
            let raw = self.take(Part::Activations, self.activation(stage, samples));
            self.run(layer, Direction::Forward);
            raw
        });
        (averages, beside)
    }

    /// A stage's forward pass of which nothing is kept but its output.
    pub(super) fn residual_output(&mut self, stage: usize, samples: usize) -> Held {
        let activation = self.activation(stage, samples);
        let mut input = self.stem_forward("forward", stage, samples);
        for block in 0..self.block_count(stage) {
            self.at("forward", format!("encoder.{stage}.block{block}.conv0"));
            let first = self.take(Part::Activations, activation);
            self.run(self.residual(stage, block, 0, samples), Direction::Forward);
            self.at("forward", format!("encoder.{stage}.block{block}.conv1"));
            let second = self.take(Part::Activations, activation);
            self.run(self.residual(stage, block, 1, samples), Direction::Forward);
            self.give(first);
            let (averages, beside) = self.beside_forward("forward", stage, block, samples);
            // A convolution lets go of what it has read.
            let averages = match &beside {
                Some(_) => {
                    averages.into_iter().for_each(|held| self.give(held));
                    None
                }
                None => averages,
            };
            let sum = self.take(Part::Activations, activation);
            let read = [Some(second), averages, beside, input.replace(sum)];
            read.into_iter().flatten().for_each(|held| self.give(held));
        }
        match input {
            Some(output) => output,
            None => unreachable!("a residual stage has a block"),
        }
    }

    /// Gives the gradient of the stage above's output; of the first stage nobody asks for one.
    pub(super) fn residual_backward(
        &mut self,
        stage: usize,
        samples: usize,
        kept: KeptResidual,
        gradient: Option<Held>,
    ) -> Option<Held> {
        let blocks = kept.blocks.into_iter().enumerate().rev();
        let gradient = blocks.fold(gradient, |gradient, (block, kept)| {
            gradient.map(|gradient| self.block_backward(stage, block, samples, kept, gradient))
        });
        let Some(stem) = kept.stem else { return gradient };
        self.at("backward", "stem");
        self.give(stem);
        self.run(self.stem(samples), Direction::Weights);
        gradient.into_iter().for_each(|held| self.give(held));
        None
    }

    fn block_backward(&mut self, stage: usize, block: usize, samples: usize, kept: KeptBlock, gradient: Held) -> Held {
        let activation = self.activation(stage, samples);
        let input = self.block_input_bytes(stage, block, samples);
        let (conv0, conv1) = (self.residual(stage, block, 0, samples), self.residual(stage, block, 1, samples));
        self.at("backward", format!("encoder.{stage}.block{block}.conv1"));
        // The activation's pass is in place; its result goes both ways, so the norm of one of them works on a copy.
        self.give(kept.sum);
        let through = self.take(Part::Layer, activation);
        self.give(kept.second);
        kept.beside.into_iter().for_each(|held| self.give(held));
        self.run(conv1, Direction::Weights);
        let inner = self.take(Part::Layer, activation);
        self.run(conv1, Direction::Input);
        self.give(through);
        let mut beside = gradient;
        if let Some(layer) = self.beside(stage, block, samples) {
            self.at("backward", format!("encoder.{stage}.block{block}.skip"));
            self.run(layer, Direction::Weights);
            kept.averages.into_iter().for_each(|held| self.give(held));
            let of_averages = self.take(Part::Layer, self.averages_bytes(stage, block, samples));
            self.run(layer, Direction::Input);
            self.give(std::mem::replace(&mut beside, of_averages));
        }
        self.at("backward", format!("encoder.{stage}.block{block}.conv0"));
        self.give(kept.first);
        if self.averages(stage, block) {
            let of_input = self.take(Part::Layer, input);
            self.give(std::mem::replace(&mut beside, of_input));
        }
        self.run(conv0, Direction::Weights);
        let of_input = self.take(Part::Layer, input);
        self.run(conv0, Direction::Input);
        self.give(inner);
        // One is added to the other.
        self.give(beside);
        of_input
    }
}
