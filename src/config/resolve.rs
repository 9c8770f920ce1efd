//! Every `auto` made explicit for one dataset.
use std::sync::Arc;

use super::norm::{StageShape, decide};
use super::{Activations, Auto, ConfigError, Experiment, NormDecision, NormName, Recompute};
use crate::dataset::Dataset;
use crate::dataset::fingerprint::Fingerprint;
use crate::dataset::prepare::Preparation;
use crate::network::plan::{NetworkPlan, Norm, Stage};
use crate::network::topology::{self, Rules, Topology};
use crate::volume::normalise::Normalisation;
use crate::{xyz, zyx};

/// Samples in memory at once where `batch.micro` is left to voxfit; the result does not depend on it.
const AUTO_MICRO: usize = 2;
/// Below this share of voxels left by the crop to nonzero, z-scores are over nonzero voxels alone (nnU-Net).
const NONZERO_SHARE: f64 = 0.75;

/// A run as it will be: what the configuration says, every value explicit, and what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Explicit but for `memory.budget` and `precision.loss_scale`, whose `"auto"` is what they do. Where BatchNorm was
    /// swapped, `norm` is the norm used, so that reading it back repeats the run.
    pub experiment: Experiment,
    /// Voxels of a training patch, z, y, x.
    pub patch: [usize; 3],
    /// The network to build.
    pub plan: NetworkPlan,
    /// Label values of each region, where regions are learnt.
    pub regions: Option<Arc<Vec<Vec<u16>>>>,
    /// Spacing and normalisation that cases are brought to.
    pub preparation: Preparation,
    /// Samples in memory at once: at most the effective batch.
    pub micro: usize,
    /// Type of what passes between layers.
    pub activations: Activations,
    /// The norm that is used, and why.
    pub norm: NormDecision,
}

impl Resolved {
    /// What is computed again in the backward pass.
    pub fn recompute(&self) -> Recompute {
        self.experiment.memory.recompute.value().copied().unwrap_or(Recompute::None)
    }

    /// `config.toml` of a run folder: reading it back and resolving it for the same dataset gives this again (the norm
    /// decision then says "as written").
    ///
    /// # Errors
    /// As [`Experiment::to_toml`].
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let body = self.experiment.to_toml()?;
        let version = env!("CARGO_PKG_VERSION");
        Ok(format!(
            "# Every value of this run, written by voxfit {version}; `voxfit train` with this file repeats it.\n{body}"
        ))
    }
}

/// Makes every value explicit, by nnU-Net's rules on the dataset and the design memory; nothing here looks at the
/// machine.
///
/// # Errors
/// A patch that the strides do not divide, stages that the patch has no room for, a norm over fewer than two values, a
/// fingerprint that does not belong to the dataset.
pub fn resolve(experiment: &Experiment, fingerprint: &Fingerprint, dataset: &Dataset) -> Result<Resolved, ConfigError> {
    if fingerprint.intensities.len() != dataset.channels.len() || fingerprint.spacings.len() != fingerprint.sizes.len()
    {
        return Err(ConfigError::Rule {
            key: "data.dataset",
            problem: format!(
                "the fingerprint has {} channels, the dataset {}",
                fingerprint.intensities.len(),
                dataset.channels.len()
            ),
            cure: "take the fingerprint of this dataset again".into(),
        });
    }
    let preparation = preparation(experiment, fingerprint, dataset)?;
    let topology = network_topology(experiment, fingerprint, dataset, zyx(preparation.spacing))?;
    // More than the effective batch is never in memory at once.
    let micro = experiment.batch.micro.value().copied().unwrap_or(AUTO_MICRO).min(experiment.batch.effective);
    let shapes = stage_shapes(experiment, &topology);
    let (norms, norm) = decide(experiment, micro, &shapes)?;
    if experiment.train.ema_decay > 0.0 && norm.used == NormName::Batch {
        return Err(ConfigError::Rule {
            key: "train.ema_decay",
            problem: "the running statistics of BatchNorm belong to the weights of a step, not to their average".into(),
            cure: "write network.norm = \"group\", or train.ema_decay = 0".into(),
        });
    }
    let activations = experiment.precision.activations.value().copied().unwrap_or(Activations::Bf16);
    let plan = NetworkPlan {
        kind: experiment.network.kind,
        in_channels: dataset.channels.len(),
        classes: dataset.outputs(),
        stages: stages(&topology, &shapes, norms),
        deep_supervision: experiment.network.deep_supervision,
    };

    let mut explicit = experiment.clone();
    explicit.data.split_seed = Auto::Value(experiment.split_seed());
    explicit.data.spacing = Auto::Value(preparation.spacing);
    explicit.batch.micro = Auto::Value(micro);
    explicit.memory.recompute = Auto::Value(experiment.memory.recompute.value().copied().unwrap_or(Recompute::None));
    explicit.precision.activations = Auto::Value(activations);
    explicit.network.patch = Auto::Value(xyz(topology.patch));
    explicit.network.stages = Auto::Value(topology.strides.len());
    explicit.network.kernels = Auto::Value(topology.kernels.iter().copied().map(xyz).collect());
    explicit.network.strides = Auto::Value(topology.strides.iter().copied().map(xyz).collect());
    explicit.network.norm = Auto::Value(norm.used);
    let (patch, regions) = (topology.patch, dataset.region_values());
    Ok(Resolved { experiment: explicit, patch, plan, regions, preparation, micro, activations, norm })
}

fn preparation(
    experiment: &Experiment,
    fingerprint: &Fingerprint,
    dataset: &Dataset,
) -> Result<Preparation, ConfigError> {
    let spacing = match experiment.data.spacing {
        Auto::Value(spacing) => spacing,
        Auto::Auto => topology::target_spacing(&fingerprint.spacings, &fingerprint.sizes)?,
    };
    let nonzero = fingerprint.median_relative_size_after_crop < NONZERO_SHARE;
    let normalisation = dataset
        .channels
        .iter()
        .zip(&fingerprint.intensities)
        .map(|(channel, intensities)| {
            if channel.is_ct {
                Normalisation::Ct {
                    low: intensities.percentile_00_5,
                    high: intensities.percentile_99_5,
                    mean: intensities.mean,
                    deviation: intensities.deviation,
                }
            } else {
                Normalisation::ZScore { nonzero }
            }
        })
        .collect();
    Ok(Preparation { spacing, normalisation })
}

/// `spacing` in mm, z, y, x.
fn network_topology(
    experiment: &Experiment,
    fingerprint: &Fingerprint,
    dataset: &Dataset,
    spacing: [f64; 3],
) -> Result<Topology, ConfigError> {
    let network = &experiment.network;
    let stages = network.stages.value().copied().or(network.kernels.value().map(Vec::len));
    let mut topology = match (network.patch.value(), network.strides.value()) {
        (Some(&patch), Some(strides)) => {
            let strides: Vec<_> = strides.iter().copied().map(zyx).collect();
            let (patch, kernels) = (zyx(patch), topology::kernels(spacing, &strides));
            let nearest = topology::nearest_multiple(patch, topology::divisor(&strides));
            refuse_indivisible(patch, nearest)?;
            Topology { patch, kernels, strides }
        }
        (Some(&patch), None) => {
            let patch = zyx(patch);
            refuse_indivisible(patch, topology::nearest_patch(spacing, patch, stages))?;
            topology::topology(spacing, patch.map(|voxels| voxels as f64), stages)
        }
        (None, _) => {
            let median = topology::median_size(&fingerprint.spacings, &fingerprint.sizes, xyz(spacing)).map(zyx)?;
            let rules = Rules {
                kind: network.kind,
                features: network.features,
                features_max: network.features_max,
                stages,
                design: network.design.0,
                classes: dataset.outputs(),
            };
            topology::planned(spacing, median, &rules)?
        }
    };
    let (has, patch) = (topology.strides.len(), xyz(topology.patch));
    if has < 2 || stages.is_some_and(|wanted| wanted != has) {
        let wanted = stages.unwrap_or(2);
        return Err(ConfigError::Rule {
            key: "network.stages",
            problem: format!("a patch of {patch:?} has room for {has}, not {wanted}"),
            cure: if has >= 2 {
                format!("write network.stages = {has}, a larger network.patch or network.strides of your own")
            } else if network.patch.value().is_some() {
                "write a network.patch of at least 8 voxels along two axes or 12 along one".into()
            } else {
                // nnU-Net's rules can end here: a small design, or few voxels along the axis of the finest spacing.
                "write a network.patch and network.strides of your own, or a larger network.design".into()
            },
        });
    }
    if let Some(kernels) = network.kernels.value() {
        topology.kernels = kernels.iter().copied().map(zyx).collect();
    }
    Ok(topology)
}

/// Both in voxels, z, y, x.
fn refuse_indivisible(patch: [usize; 3], nearest: [usize; 3]) -> Result<(), ConfigError> {
    if patch == nearest {
        return Ok(());
    }
    Err(ConfigError::Rule {
        key: "network.patch",
        problem: format!("{:?} cannot be halved as often as the network does", xyz(patch)),
        cure: format!("the nearest patch that can is {:?}", xyz(nearest)),
    })
}

fn stage_shapes(experiment: &Experiment, topology: &Topology) -> Vec<StageShape> {
    let network = &experiment.network;
    let mut size = topology.patch;
    topology
        .strides
        .iter()
        .enumerate()
        .map(|(index, stride)| {
            size = std::array::from_fn(|axis| size[axis] / stride[axis]);
            StageShape {
                features: topology::features_of(index, network.features, network.features_max),
                voxels: size.iter().fold(1usize, |voxels, edge| voxels.saturating_mul(*edge)),
            }
        })
        .collect()
}

fn stages(topology: &Topology, shapes: &[StageShape], norms: Vec<Norm>) -> Vec<Stage> {
    topology
        .kernels
        .iter()
        .zip(&topology.strides)
        .zip(shapes.iter().zip(norms))
        .map(|((&kernel, &stride), (shape, norm))| Stage { features: shape.features, kernel, stride, norm })
        .collect()
}
