//! Whether a `plan.toml` is one that a training wrote: a run folder may come from anywhere, and a network is built by it.
use super::LoadedRun;
use crate::dataset::Region;
use crate::network::plan::{NetworkPlan, Norm, Stage};
use crate::volume::normalise::Normalisation;

/// As in the configuration.
const STAGES: std::ops::RangeInclusive<usize> = 1..=12;
const EDGE: std::ops::RangeInclusive<usize> = 1..=4096;
const FEATURES: std::ops::RangeInclusive<usize> = 1..=4096;

impl LoadedRun {
    /// What of it is not so, by its name.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { network, preparation, patch, channels, classes, regions, intensities, .. } = self;
        if !STAGES.contains(&network.stages.len()) || !is_network(network) {
            return Err("network is not what a training leaves".into());
        }
        let divisor = network.divisor();
        let fits = |axis: usize| EDGE.contains(&patch[axis]) && patch[axis].is_multiple_of(divisor[axis]);
        for (name, right) in [
            ("patch", (0..3).all(fits)),
            ("channels", channels.len() == network.in_channels && (1..=10_000).contains(&channels.len())),
            ("classes", (2..=65_536).contains(&classes.len())),
            ("classes", self.outputs().len() == network.classes),
            ("regions", Region::are_sound(regions, classes.len())),
            ("intensities", intensities.len() == channels.len()),
            ("preparation.spacing", preparation.spacing.iter().all(|mm| (0.01..=100.0).contains(mm))),
            ("preparation.normalisation", preparation.normalisation.len() == channels.len()),
            ("preparation.normalisation", preparation.normalisation.iter().all(is_finite)),
        ] {
            if !right {
                return Err(format!("{name} is not what a training leaves"));
            }
        }
        Ok(())
    }
}

fn is_network(network: &NetworkPlan) -> bool {
    let sound = |(number, stage): (usize, &Stage)| {
        let Stage { features, kernel, stride, norm } = stage;
        let strides: &[usize] = if number == 0 { &[1] } else { &[1, 2] };
        let groups = match norm {
            Norm::Group { groups } => *groups > 0 && features.is_multiple_of(*groups),
            Norm::Batch | Norm::Instance => true,
        };
        FEATURES.contains(features)
            && kernel.iter().all(|edge| [1, 3].contains(edge))
            && stride.iter().all(|edge| strides.contains(edge))
            && groups
    };
    network.stages.iter().enumerate().all(sound)
}

fn is_finite(normalisation: &Normalisation) -> bool {
    match normalisation {
        Normalisation::Ct { low, high, mean, deviation } => {
            [low, high, mean, deviation].iter().all(|value| value.is_finite()) && low <= high
        }
        Normalisation::ZScore { .. } => true,
    }
}
