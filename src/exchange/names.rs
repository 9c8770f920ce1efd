//! The tensors of a network by the names of both programs.
//!
//! nnU-Net's are those of `PlainConvUNet` and `ResidualEncoderUNet` in dynamic_network_architectures 0.4.4. Shapes and the
//! order of values are the same in both: arrays are z, y, x, a decoder level reads first what comes from below and then the
//! skip, and a transposed convolution is `[in, out, z, y, x]`. nnU-Net counts decoder levels from the deepest, voxfit by
//! resolution.
use crate::network::is_head;
use crate::network::plan::{Kind, NetworkPlan, Norm, Stage};

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// voxfit's name.
    pub ours: String,
    /// nnU-Net's, the first of those it has for the tensor; see [`aliases`].
    pub theirs: String,
    /// The same under both names.
    pub shape: Vec<usize>,
}

impl Pair {
    /// Part of a head, which gives the scores of classes.
    pub fn is_head(&self) -> bool {
        is_head(&self.ours)
    }
}

/// Every tensor of a network, in the order of the forward pass. nnU-Net has a head at every level, so heads are listed at
/// all of them, whether or not `plan.deep_supervision` gives voxfit's network those beyond the finest.
pub fn pairs(plan: &NetworkPlan) -> Vec<Pair> {
    let mut list = List { pairs: Vec::new() };
    let mut from = plan.in_channels;
    if let (Kind::ResEnc, Some(stage)) = (plan.kind, plan.stages.first()) {
        list.block("stem", 0, "encoder.stem.convs.0", from, stage);
        from = stage.features;
    }
    for (index, stage) in plan.stages.iter().enumerate() {
        list.encoder_stage(plan.kind, index, from, stage);
        from = stage.features;
    }
    let levels = plan.stages.len().saturating_sub(1);
    for level in (0..levels).rev() {
        let (stage, below) = (&plan.stages[level], &plan.stages[level + 1]);
        let (ours, theirs) = (format!("decoder.{level}"), levels - 1 - level);
        let [z, y, x] = below.stride;
        let up = format!("decoder.transpconvs.{theirs}");
        list.add(format!("{ours}.up.weight"), format!("{up}.weight"), &[below.features, stage.features, z, y, x]);
        list.add(format!("{ours}.up.bias"), format!("{up}.bias"), &[stage.features]);
        for conv in 0..plan.kind.decoder_convolutions() {
            let from = if conv == 0 { 2 * stage.features } else { stage.features };
            list.block(&ours, conv, &format!("decoder.stages.{theirs}.convs.{conv}"), from, stage);
        }
        let (ours, theirs) = (format!("head.{level}"), format!("decoder.seg_layers.{theirs}"));
        list.add(format!("{ours}.weight"), format!("{theirs}.weight"), &[plan.classes, stage.features, 1, 1, 1]);
        list.add(format!("{ours}.bias"), format!("{theirs}.bias"), &[plan.classes]);
    }
    list.pairs
}

/// All names under which nnU-Net's state dict has the tensor that is called `theirs` by [`Pair`]: blocks name their layers
/// twice, and the decoder holds the encoder.
pub fn aliases(theirs: &str) -> Vec<String> {
    let mut names = vec![theirs.to_owned()];
    for (plain, again) in [(".conv.", ".all_modules.0."), (".norm.", ".all_modules.1.")] {
        if theirs.contains(plain) {
            names.push(theirs.replacen(plain, again, 1));
        }
    }
    if theirs.starts_with("encoder.") {
        names.extend(names.clone().into_iter().map(|name| format!("decoder.{name}")));
    }
    names
}

struct List {
    pairs: Vec<Pair>,
}

impl List {
    fn add(&mut self, ours: String, theirs: String, shape: &[usize]) {
        self.pairs.push(Pair { ours, theirs, shape: shape.to_vec() });
    }

    fn norm(&mut self, ours: &str, theirs: &str, stage: &Stage) {
        for (kind, their_kind) in [("gamma", "weight"), ("beta", "bias")] {
            self.add(format!("{ours}.{kind}"), format!("{theirs}.norm.{their_kind}"), &[stage.features]);
        }
        if stage.norm == Norm::Batch {
            for kind in ["running_mean", "running_var"] {
                self.add(format!("{ours}.{kind}"), format!("{theirs}.norm.{kind}"), &[stage.features]);
            }
        }
    }

    /// Convolution and norm `index` of `ours`.
    fn block(&mut self, ours: &str, index: usize, theirs: &str, from: usize, stage: &Stage) {
        let [z, y, x] = stage.kernel;
        let conv = format!("{ours}.conv{index}");
        self.add(format!("{conv}.weight"), format!("{theirs}.conv.weight"), &[stage.features, from, z, y, x]);
        self.add(format!("{conv}.bias"), format!("{theirs}.conv.bias"), &[stage.features]);
        self.norm(&format!("{ours}.norm{index}"), theirs, stage);
    }

    fn encoder_stage(&mut self, kind: Kind, index: usize, from: usize, stage: &Stage) {
        let ours = format!("encoder.{index}");
        if kind == Kind::Plain {
            for conv in 0..2 {
                let from = if conv == 0 { from } else { stage.features };
                self.block(&ours, conv, &format!("encoder.stages.{index}.0.convs.{conv}"), from, stage);
            }
            return;
        }
        for block in 0..kind.blocks(index) {
            let from = if block == 0 { from } else { stage.features };
            let (ours, theirs) = (format!("{ours}.block{block}"), format!("encoder.stages.{index}.blocks.{block}"));
            for conv in 0..2 {
                let from = if conv == 0 { from } else { stage.features };
                self.block(&ours, conv, &format!("{theirs}.conv{}", conv + 1), from, stage);
            }
            if from != stage.features {
                // Behind the average over the stride, where there is one.
                let averaged = usize::from(stage.stride != [1; 3]);
                let theirs = format!("{theirs}.skip.{averaged}");
                let shape = [stage.features, from, 1, 1, 1];
                self.add(format!("{ours}.skip.weight"), format!("{theirs}.conv.weight"), &shape);
                self.norm(&format!("{ours}.skip_norm"), &theirs, stage);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use burn::tensor::Device;

    use super::*;
    use crate::network::UNet;

    fn plan(kind: Kind, norm: Norm) -> NetworkPlan {
        let stage = |features, stride| Stage { features, kernel: [1, 3, 3], stride, norm };
        let stages = vec![stage(4, [1; 3]), stage(8, [2; 3]), stage(8, [1, 2, 2]), stage(12, [2; 3])];
        NetworkPlan { kind, in_channels: 2, classes: 3, stages, deep_supervision: true }
    }

    /// The list is written by hand beside the builder; this holds one against the other.
    #[test]
    fn every_tensor_of_a_network_is_listed_with_its_shape() {
        for kind in [Kind::Plain, Kind::ResEnc] {
            for norm in [Norm::Instance, Norm::Batch, Norm::Group { groups: 2 }] {
                let plan = plan(kind, norm);
                let network = UNet::new(&plan, 0, &Device::flex());
                let mut built: BTreeMap<String, Vec<usize>> =
                    network.parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
                built.extend(network.buffers.iter().map(|b| (b.name.clone(), vec![b.values.len()])));
                let pairs = pairs(&plan);
                let listed: BTreeMap<_, _> = pairs.iter().map(|p| (p.ours.clone(), p.shape.clone())).collect();
                assert_eq!(listed, built);
                let theirs: BTreeSet<_> = pairs.iter().flat_map(|pair| aliases(&pair.theirs)).collect();
                assert_eq!(theirs.len(), pairs.iter().map(|pair| aliases(&pair.theirs).len()).sum::<usize>());
            }
        }
    }

    #[test]
    fn a_block_of_the_encoder_has_four_names() {
        assert_eq!(
            aliases("encoder.stages.1.0.convs.0.norm.weight"),
            [
                "encoder.stages.1.0.convs.0.norm.weight",
                "encoder.stages.1.0.convs.0.all_modules.1.weight",
                "decoder.encoder.stages.1.0.convs.0.norm.weight",
                "decoder.encoder.stages.1.0.convs.0.all_modules.1.weight",
            ]
        );
        assert_eq!(aliases("decoder.transpconvs.0.bias"), ["decoder.transpconvs.0.bias"]);
    }
}
