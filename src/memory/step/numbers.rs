//! Which parameter is whose, in the network's order.
use crate::network::plan::{Kind, NetworkPlan};

/// The numbers of weights: a bias follows its weights, gamma and beta those.
pub(super) struct Numbers {
    /// Values of each parameter.
    pub lengths: Vec<usize>,
    /// Of the convolution in front of the residual encoder.
    pub stem: usize,
    /// By stage and block; a plain stage is one block.
    pub stages: Vec<Vec<BlockNumbers>>,
    /// By level, finest first.
    pub levels: Vec<LevelNumbers>,
}

pub(super) struct BlockNumbers {
    pub convolutions: [usize; 2],
    /// Of the convolution beside a residual block.
    pub beside: Option<usize>,
}

/// What a level does not have is 0.
#[derive(Default)]
pub(super) struct LevelNumbers {
    pub up: usize,
    pub convolutions: [usize; 2],
    pub head: usize,
}

impl Numbers {
    pub fn of(plan: &NetworkPlan) -> Self {
        let mut all = Self { lengths: Vec::new(), stem: 0, stages: Vec::new(), levels: Vec::new() };
        let mut from = plan.in_channels;
        if plan.kind == Kind::ResEnc {
            all.stem = all.block(plan, from, 0);
            from = plan.stages[0].features;
        }
        for (index, stage) in plan.stages.iter().enumerate() {
            let mut blocks = Vec::new();
            for _ in 0..plan.kind.blocks(index).max(1) {
                let convolutions = [all.block(plan, from, index), all.block(plan, stage.features, index)];
                let projects = plan.kind == Kind::ResEnc && from != stage.features;
                // Weights, gamma, beta.
                let beside = projects.then(|| all.add(&[from * stage.features, stage.features, stage.features]));
                blocks.push(BlockNumbers { convolutions, beside });
                from = stage.features;
            }
            all.stages.push(blocks);
        }
        let last = plan.stages.len() - 1;
        for index in (0..last.max(1)).rev() {
            let level = all.level(plan, index, last);
            all.levels.push(level);
        }
        all.levels.reverse();
        all
    }

    fn level(&mut self, plan: &NetworkPlan, index: usize, last: usize) -> LevelNumbers {
        let features = plan.stages[index].features;
        let mut level = LevelNumbers::default();
        if index < last {
            let below = &plan.stages[index + 1];
            level.up = self.add(&[below.features * features * below.stride.iter().product::<usize>(), features]);
            level.convolutions[0] = self.block(plan, 2 * features, index);
            if plan.kind.decoder_convolutions() > 1 {
                level.convolutions[1] = self.block(plan, features, index);
            }
        }
        if index == 0 || plan.deep_supervision {
            level.head = self.add(&[features * plan.classes, plan.classes]);
        }
        level
    }

    /// A convolution and its norm.
    fn block(&mut self, plan: &NetworkPlan, from: usize, stage: usize) -> usize {
        let stage = &plan.stages[stage];
        let taps: usize = stage.kernel.iter().product();
        self.add(&[from * stage.features * taps, stage.features, stage.features, stage.features])
    }

    /// Gives the number of the first.
    fn add(&mut self, lengths: &[usize]) -> usize {
        let number = self.lengths.len();
        self.lengths.extend(lengths);
        number
    }
}
