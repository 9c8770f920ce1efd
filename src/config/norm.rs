//! The norm and its swap rule.
//!
//! BatchNorm makes the micro-batch part of the result, so it holds only where `batch.micro` is a written number of at
//! least `network.batch_norm_min`; otherwise every layer that would have had it gets GroupNorm, and says so.
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Auto, ConfigError, Experiment, NormName};
use crate::network::plan::Norm;

/// Which normalisation was asked for, which is used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NormDecision {
    /// As written: `auto`, `batch`, `group` or `instance`.
    pub requested: String,
    /// Of every layer of the network.
    pub used: NormName,
    /// One sentence.
    pub reason: String,
    /// One sentence per stage whose norm is not the one asked for.
    pub swaps: Vec<String>,
}

impl NormDecision {
    /// For people: the norm and why it is this.
    pub fn said(&self) -> String {
        format!("{} ({})", self.used, self.reason)
    }
}

impl fmt::Display for NormName {
    /// As a configuration writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Batch => "batch",
            Self::Group => "group",
            Self::Instance => "instance",
        })
    }
}

/// A stage as the rule sees it.
pub(super) struct StageShape {
    pub features: usize,
    /// Voxels of one sample at this stage.
    pub voxels: usize,
}

/// The largest group count of at most `most` that divides `channels`.
fn groups(channels: usize, most: usize) -> usize {
    (1..=most.min(channels)).rev().find(|groups| channels.is_multiple_of(*groups)).unwrap_or(1)
}

/// The norm of each stage. `micro` is the number of samples in memory at once that the run will have.
///
/// # Errors
/// A stage where a statistic would be over fewer than two values, by its number.
pub(super) fn decide(
    experiment: &Experiment,
    micro: usize,
    stages: &[StageShape],
) -> Result<(Vec<Norm>, NormDecision), ConfigError> {
    let network = &experiment.network;
    let minimum = network.batch_norm_min;
    let (used, requested, reason) = match network.norm {
        // docs/evidence.md, first table: after 4500 steps group and instance norm end within 0.001 of each other.
        Auto::Auto => (NormName::Group, "auto", "auto is group, whose result no micro-batch changes".to_owned()),
        Auto::Value(NormName::Group) => (NormName::Group, "group", "as written".to_owned()),
        Auto::Value(NormName::Instance) => (NormName::Instance, "instance", "as written".to_owned()),
        Auto::Value(NormName::Batch) => match experiment.batch.micro {
            Auto::Value(_) if micro >= minimum => {
                let reason = format!("batch.micro is written and {micro} >= network.batch_norm_min = {minimum}");
                (NormName::Batch, "batch", reason)
            }
            Auto::Value(_) => {
                let reason = format!("a micro-batch of {micro} is below network.batch_norm_min = {minimum}");
                (NormName::Group, "batch", reason)
            }
            Auto::Auto => {
                let reason = "batch.micro is \"auto\", and BatchNorm would make it part of the result".to_owned();
                (NormName::Group, "batch", reason)
            }
        },
    };
    let swapped = requested == "batch" && used == NormName::Group;
    let mut norms = Vec::with_capacity(stages.len());
    let mut swaps = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        let (norm, values) = match used {
            NormName::Batch => (Norm::Batch, smallest_micro_batch(experiment, micro).saturating_mul(stage.voxels)),
            NormName::Instance => (Norm::Instance, stage.voxels),
            NormName::Group => {
                let groups = groups(stage.features, network.norm_groups);
                (Norm::Group { groups }, (stage.features / groups).saturating_mul(stage.voxels))
            }
        };
        if values < 2 {
            return Err(too_few(index, stage, norm));
        }
        if let (true, Norm::Group { groups }) = (swapped, norm) {
            swaps.push(format!(
                "stage {index} ({} channels): batch swapped for group with {groups} groups, because {reason}",
                stage.features
            ));
        }
        norms.push(norm);
    }
    Ok((norms, NormDecision { requested: requested.to_owned(), used, reason, swaps }))
}

/// Samples of the smallest micro-batch of a step: the last one where the others do not fill the step.
fn smallest_micro_batch(experiment: &Experiment, micro: usize) -> usize {
    match experiment.batch.effective % micro {
        0 => micro,
        rest => rest,
    }
}

fn too_few(index: usize, stage: &StageShape, norm: Norm) -> ConfigError {
    let (what, cure) = match norm {
        Norm::Group { groups } => (
            format!("a group of {} channels", stage.features / groups),
            "a smaller network.norm_groups, fewer network.stages or a larger network.patch",
        ),
        Norm::Instance => ("a channel".to_owned(), "group, fewer network.stages or a larger network.patch"),
        Norm::Batch => (
            "a channel".to_owned(),
            "group, an effective batch that is a multiple of batch.micro, or fewer network.stages",
        ),
    };
    ConfigError::Rule {
        key: "network.norm",
        problem: format!(
            "in stage {index} ({} channels, {} voxels) {what} has a single value, which has no deviation",
            stage.features, stage.voxels
        ),
        cure: format!("write {cure}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(text: &str) -> Experiment {
        toml::from_str(text).unwrap()
    }

    fn shapes(stages: &[(usize, usize)]) -> Vec<StageShape> {
        stages.iter().map(|&(features, voxels)| StageShape { features, voxels }).collect()
    }

    #[test]
    fn groups_divide_the_channels() {
        for (channels, most, expected) in [(32, 8, 8), (12, 8, 6), (7, 8, 7), (13, 8, 1), (320, 8, 8), (4, 8, 4)] {
            assert_eq!(groups(channels, most), expected);
        }
    }

    #[test]
    fn batch_holds_only_for_a_written_micro_batch_that_is_large_enough() {
        let stages = shapes(&[(12, 4096), (24, 512)]);
        let written = experiment("batch = {effective = 16, micro = 8}\nnetwork.norm = \"batch\"");
        let (norms, decision) = decide(&written, 8, &stages).unwrap();
        assert_eq!((norms, decision.swaps.len()), (vec![Norm::Batch; 2], 0));

        for (text, micro) in [
            ("batch = {effective = 16, micro = 4}\nnetwork.norm = \"batch\"", 4),
            ("batch = {effective = 16, micro = \"auto\"}\nnetwork.norm = \"batch\"", 8),
            ("batch = {effective = 16, micro = -1}\nnetwork = {norm = \"batch\", batch_norm_min = 1}", 8),
        ] {
            let (norms, decision) = decide(&experiment(text), micro, &stages).unwrap();
            assert_eq!(norms, [Norm::Group { groups: 6 }, Norm::Group { groups: 8 }], "{text}");
            assert_eq!((decision.requested.as_str(), decision.used), ("batch", NormName::Group));
            assert_eq!(decision.swaps.len(), 2);
            assert!(decision.swaps[0].contains("stage 0") && decision.swaps[0].contains(&decision.reason));
        }

        let trusted =
            experiment("batch = {effective = 1, micro = 1}\nnetwork = {norm = \"batch\", batch_norm_min = 1}");
        assert_eq!(decide(&trusted, 1, &stages).unwrap().0, [Norm::Batch; 2]);
    }

    #[test]
    fn a_statistic_of_one_value_is_refused_by_stage() {
        let stages = shapes(&[(8, 64), (8, 1)]);
        for text in [
            "network.norm = \"group\"",
            "network.norm = \"instance\"",
            // The last micro-batch of 9 = 8 + 1 has one sample of one voxel.
            "batch = {effective = 9, micro = 8}\nnetwork.norm = \"batch\"",
        ] {
            let message = decide(&experiment(text), 8, &stages).unwrap_err().to_string();
            assert!(message.contains("in stage 1 (8 channels, 1 voxels)"), "{message}");
        }
        assert!(decide(&experiment("network.norm_groups = 4"), 8, &stages).is_ok());
        assert!(
            decide(&experiment("batch = {effective = 16, micro = 8}\nnetwork.norm = \"batch\""), 8, &stages).is_ok()
        );
    }
}
