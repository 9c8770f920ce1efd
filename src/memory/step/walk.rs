//! Blocks taken and given back, and when the most was held.
use super::numbers::Numbers;
use super::{StepBytes, StepShape};
use crate::ops::cpu::conv::room::Room;
use crate::ops::cpu::pool::{Arena, Block, Rehearsal};
use crate::ops::tree::{SumTree, fullest};

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The sums of the effective batch, f32.
    Gradients,
    /// What the optimizer remembers, and the average of the weights, f32.
    Optimizer,
    /// Kept between forward and backward pass.
    Activations,
    /// Outputs and gradients of the layer at hand.
    Layer,
    /// What its arithmetic needs: packed weights and blocks.
    Scratch,
    /// Samples that are read and augmented, and the network's input.
    Patches,
}

impl Part {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// In the order in which they are shown.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Gradients, Self::Optimizer, Self::Activations, Self::Layer, Self::Scratch, Self::Patches];

    /// For a person, as in `activations kept`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gradients => "gradients",
            Self::Optimizer => "optimizer",
            Self::Activations => "activations kept",
            Self::Layer => "layer at hand",
            Self::Scratch => "its scratch",
            Self::Patches => "patches",
        }
    }
}

/// A layer in a pass.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// "forward", "backward", "again", "samples", "update".
    pub pass: &'static str,
    /// As in `encoder.2.conv0`; empty where the pass is meant as a whole.
    pub layer: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.layer.is_empty() {
            true => formatter.write_str(self.pass),
            false => write!(formatter, "{} {}", self.pass, self.layer),
        }
    }
}

/// A block that is held.
#[derive(Debug)]
#[must_use]
pub(super) struct Held {
    block: Block,
    part: Part,
}

/// Micro-batches at a step's beginning and at its end that are rehearsed.
const SOME: usize = 4;

/// The rehearsal's state.
pub(super) struct Walk<'a> {
    pub shape: &'a StepShape<'a>,
    pub numbers: Numbers,
    arena: Arena,
    pool: Rehearsal,
    live: [u64; Part::COUNT],
    place: Place,
    /// When the most was held: how much, of what and where.
    most: (u64, [u64; Part::COUNT], Place),
    /// By parameter number.
    gradients: Vec<SumTree<Held>>,
    state: Vec<Held>,
}

impl<'a> Walk<'a> {
    /// With a pool whose blocks lie so.
    pub fn new(shape: &'a StepShape<'a>, arena: Arena) -> Self {
        let place = Place { pass: "samples", layer: String::new() };
        Self {
            shape,
            numbers: Numbers::of(shape.plan),
            arena,
            pool: Rehearsal::new(arena),
            live: [0; Part::COUNT],
            most: (0, [0; Part::COUNT], place.clone()),
            place,
            gradients: Vec::new(),
            state: Vec::new(),
        }
    }

    /// Says where the walk is.
    pub fn at(&mut self, pass: &'static str, layer: impl Into<String>) {
        self.place = Place { pass, layer: layer.into() };
    }

    pub fn take(&mut self, part: Part, bytes: usize) -> Held {
        let block = self.pool.take(bytes);
        self.live[part as usize] += bytes as u64;
        let held: u64 = self.live.iter().sum();
        if held > self.most.0 {
            self.most = (held, self.live, self.place.clone());
        }
        Held { block, part }
    }

    pub fn give(&mut self, held: Held) {
        self.live[held.part as usize] -= held.block.bytes() as u64;
        self.pool.give(held.block);
    }

    /// What an operation holds while it runs.
    pub fn scratch(&mut self, room: Room) {
        let mut blocks = Vec::new();
        for (index, bytes) in room.blocks.into_iter().enumerate() {
            blocks.push(self.take(Part::Scratch, bytes));
            if let Some(brief) = room.brief.filter(|_| index == 0) {
                let brief = self.take(Part::Scratch, brief);
                self.give(brief);
            }
        }
        blocks.into_iter().for_each(|held| self.give(held));
    }

    /// Adds the gradients of a batch to a parameter's sums; for each sample `work` is done.
    pub fn gradient(&mut self, number: usize, samples: usize, mut work: impl FnMut(&mut Self)) {
        let mut tree = std::mem::take(&mut self.gradients[number]);
        let bytes = 4 * self.numbers.lengths[number];
        for _ in 0..samples {
            let leaf = tree.leaf().unwrap_or_else(|| self.take(Part::Gradients, bytes));
            work(self);
            tree.add(leaf, |_, emptied| emptied, |emptied| self.give(emptied));
        }
        self.gradients[number] = tree;
    }

    /// What is held of each parameter's gradient when a step begins.
    fn begin_gradients(&mut self) {
        self.at("samples", "");
        let samples = self.shape.stretch.samples.len();
        let at_once = self.shape.micro.clamp(1, samples.max(1));
        for length in self.numbers.lengths.clone() {
            let mut tree = SumTree::of(self.shape.stretch.clone(), at_once);
            if at_once < samples {
                (0..tree.keep()).for_each(|_| tree.put(self.take(Part::Gradients, 4 * length)));
            }
            self.gradients.push(tree);
        }
    }

    pub fn step(&mut self) {
        let shape = self.shape;
        self.begin_gradients();
        let samples = shape.stretch.samples.len();
        let micro = shape.micro.clamp(1, samples.max(1));
        let starts: Vec<usize> = (0..samples).step_by(micro).collect();
        // Between the first and the last, a micro-batch takes what the one before took, but for what the sums wait for:
        // that one is walked at which the most wait.
        let fullest = fullest(&shape.stretch, micro);
        let last = starts.len().saturating_sub(SOME);
        let mut walked = 0;
        for (number, start) in starts.into_iter().enumerate() {
            if number >= SOME && number < last && start != fullest {
                continue;
            }
            if start != walked {
                self.gradients.iter_mut().for_each(|tree| tree.skip_to(start));
            }
            let samples = micro.min(samples - start);
            walked = start + samples;
            let input = self.input(samples);
            if shape.recompute.blocks() {
                self.blocks(samples)
            } else {
                self.whole(samples)
            }
            input.into_iter().for_each(|held| self.give(held));
        }
        self.update();
    }

    /// The network's input and the heads' targets, whose memory is taken before the samples are read.
    fn input(&mut self, samples: usize) -> Vec<Held> {
        self.at("samples", "");
        let plan = self.shape.plan;
        let patch = self.shape.patch.iter().product::<usize>();
        let values = plan.in_channels * samples * patch;
        let heads = crate::network::head_weights(plan.stages.len(), plan.deep_supervision).len();
        let wide = self.take(Part::Patches, 4 * values);
        let mut held: Vec<Held> =
            (0..heads).map(|head| self.take(Part::Patches, 2 * samples * self.voxels(head))).collect();
        self.samples(samples);
        if self.element() < 4 {
            held.push(self.take(Part::Patches, self.element() * values));
            self.give(wide);
        } else {
            held.push(wide);
        }
        held
    }

    /// Samples are read and augmented, as many at a time as there are threads. In which order the threads take memory is
    /// not told, and does not matter: all of it is given back.
    fn samples(&mut self, samples: usize) {
        let shape = self.shape;
        let channels = shape.plan.in_channels;
        let [source, patch] = [shape.source, shape.patch].map(|size| size.iter().product::<usize>());
        let mut ready = Vec::new();
        let mut left = samples;
        while left > 0 {
            let at_once = left.min(shape.threads.max(1));
            left -= at_once;
            let mut taken = Vec::new();
            for _ in 0..at_once {
                taken.push(self.take(Part::Patches, 4 * channels * source));
                taken.push(self.take(Part::Patches, 2 * source));
            }
            for _ in 0..at_once {
                ready.push(self.take(Part::Patches, 4 * channels * patch));
                ready.push(self.take(Part::Patches, 2 * patch));
            }
            taken.into_iter().for_each(|held| self.give(held));
            // Blurring and lowering the resolution work on a copy of one channel.
            if source > 0 {
                let copies: Vec<Held> = (0..at_once).map(|_| self.take(Part::Patches, 4 * patch)).collect();
                copies.into_iter().for_each(|held| self.give(held));
            }
        }
        ready.into_iter().for_each(|held| self.give(held));
    }

    /// The optimizer's state, which comes before the first step and stays.
    pub fn begin(&mut self) {
        self.at("update", "");
        for length in self.numbers.lengths.clone() {
            for _ in 0..self.shape.remembered {
                let state = self.take(Part::Optimizer, 4 * length);
                self.state.push(state);
            }
        }
    }

    /// Parameters one after another.
    fn update(&mut self) {
        self.at("update", "");
        for mut tree in std::mem::take(&mut self.gradients) {
            tree.end().into_iter().for_each(|sum| self.give(sum));
        }
    }

    fn weights(&self) -> u64 {
        4 * self.numbers.lengths.iter().map(|length| *length as u64).sum::<u64>()
    }

    /// What is free in the pool.
    pub fn free(&self) -> Vec<(usize, usize)> {
        self.pool.free()
    }

    pub fn found(self) -> StepBytes {
        let (_, live, place) = &self.most;
        StepBytes {
            weights: self.weights(),
            pool: self.pool.owned() as u64,
            parts: Part::ALL.map(|part| (part, live[part as usize])),
            place: place.clone(),
            arena: self.arena,
        }
    }
}
