//! The arithmetic of a training step: multiply-adds of its convolutions, counted as two.
use super::StepShape;
use super::layers::Layer;
use super::walk::Walk;
use crate::network::plan::Kind;
use crate::ops::cpu::pool::Arena;

/// Floating-point operations of a step by stage (of the finer side where a layer joins two). `ahead`: with a forward pass
/// before all, for the sums of one Dice.
pub fn flop(shape: &StepShape<'_>, ahead: bool) -> Vec<f64> {
    let ahead = u32::from(ahead);
    let walk = Walk::new(shape, Arena::NONE);
    let again = u32::from(shape.recompute.blocks());
    let stages = shape.plan.stages.len();
    let levels = stages - 1;
    let mut flop = vec![0.0; stages];
    let once = |layer: Layer| 2.0 * (layer.shape.weights() as f64) * layer.shape.out_voxels() as f64;
    for (stage, flop) in flop.iter_mut().enumerate() {
        // Forward, gradient of the input, gradient of the weights. Of the image nobody asks for a gradient, and the first
        // convolution is run again in the backward pass in any case.
        for layer in encoder(&walk, stage) {
            *flop += once(layer) * f64::from(3 + again + ahead);
        }
        if stage == 0 && shape.plan.kind == Kind::ResEnc {
            *flop += once(walk.stem(1)) * f64::from(2 + again + ahead);
        }
        if stage < levels {
            // The finest level's forward pass goes straight over into its backward pass; what came up is made again in
            // any case.
            let again = if stage == 0 { 0 } else { again };
            *flop += once(walk.up(stage, 1)) * f64::from(4 + again + ahead);
            for index in 0..shape.plan.kind.decoder_convolutions() {
                *flop += once(walk.decoder(stage, index, 1)) * f64::from(3 + again + ahead);
            }
        }
        if stage < crate::network::head_weights(stages, shape.plan.deep_supervision).len() {
            *flop += once(walk.head_layer(stage, 1)) * f64::from(3 + ahead);
        }
        *flop *= shape.stretch.samples.len() as f64;
    }
    flop
}

/// The convolutions of an encoder stage but that in front of all.
fn encoder(walk: &Walk<'_>, stage: usize) -> Vec<Layer> {
    if walk.shape.plan.kind == Kind::Plain {
        return vec![walk.encoder(stage, 0, 1), walk.encoder(stage, 1, 1)];
    }
    let blocks = 0..walk.numbers.stages[stage].len();
    blocks
        .flat_map(|block| {
            let in_block = [walk.residual(stage, block, 0, 1), walk.residual(stage, block, 1, 1)];
            in_block.into_iter().chain(walk.beside(stage, block, 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Activations, Recompute};
    use crate::network::plan::{NetworkPlan, Norm, Stage};
    use crate::ops::cpu::isa::Isa;
    use crate::ops::tree::Stretch;

    #[test]
    fn counts_two_stages_by_hand() {
        let stage = |features, stride| Stage { features, kernel: [3; 3], stride, norm: Norm::Instance };
        let plan = NetworkPlan {
            kind: Kind::Plain,
            in_channels: 1,
            classes: 2,
            stages: vec![stage(4, [1; 3]), stage(8, [2; 3])],
            deep_supervision: false,
        };
        let mut shape = StepShape {
            plan: &plan,
            patch: [8; 3],
            source: [0; 3],
            stretch: Stretch::whole(3),
            micro: 1,
            activations: Activations::F32,
            recompute: Recompute::None,
            remembered: 1,
            threads: 1,
            isa: Isa::Portable,
        };
        // Times voxels and two per multiply-add: down 27 (4 + 16), up 8 * 8 * 4 / 8, 27 (8 * 4 + 16), head 8.
        let (fine, coarse) = (2.0 * 512.0, 2.0 * 64.0);
        let up = 4.0 * 32.0;
        let expected = [
            3.0 * fine * (3.0 * 27.0 * (4.0 + 16.0 + 32.0 + 16.0) + up + 3.0 * 8.0),
            3.0 * coarse * 3.0 * 27.0 * (32.0 + 64.0),
        ];
        assert_eq!(flop(&shape, false), expected);
        shape.recompute = Recompute::Blocks;
        let again = [3.0 * fine * 27.0 * (4.0 + 16.0), 3.0 * coarse * 27.0 * (32.0 + 64.0)];
        assert_eq!(flop(&shape, false), [expected[0] + again[0], expected[1] + again[1]]);
    }
}
