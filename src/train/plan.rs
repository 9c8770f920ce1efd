//! What a dataset and a budget lead to, before anything is trained.
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::TrainError;
use super::data::open_to_plan;
use super::probe::{Probe, probe};
use crate::config::{Auto, Config, ConfigError, Device, Experiment, Resolved};
use crate::dataset::Dataset;
use crate::dataset::fingerprint::Fingerprint;
use crate::memory::planner::{Planned, Room, propose};
use crate::memory::speed::{Speed, speed};
use crate::network::low_resolution::{LowResolution, SHARE, coverage, low_resolution};
use crate::network::topology::{self, Rules};
use crate::ops::cpu::pool;
use crate::{xyz, zyx};

/// A plan that is off by more than this share of what is measured is corrected.
const OFF: f64 = 0.1;

/// The arguments of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    /// With every argument that replaces one of its keys set over it.
    pub config: Config,
    /// The dataset's folder.
    pub dataset: PathBuf,
    /// Whether a real step is run.
    pub probe: bool,
    /// Whether the network for the coarser grid is planned in place of the one at full resolution.
    pub low_resolution: bool,
}

/// A plan and what it stands on.
#[derive(Debug)]
pub struct Plan {
    /// As its description has it.
    pub dataset: Dataset,
    /// Sizes, spacings and intensities of its cases.
    pub fingerprint: Fingerprint,
    /// Median voxels of a case on the plan's grid, x, y, z.
    pub median: [f64; 3],
    /// The share of such a case's voxels that a patch has; above 1 where it is larger.
    pub coverage: f64,
    /// What nnU-Net would train beside it, z, y, x, where a patch shows too little of a case.
    pub beside: Option<LowResolution>,
    /// The network and the levers with which it fits.
    pub planned: Planned,
    /// Budget and machine that it was planned for.
    pub room: Room,
    /// Time of a step, estimated from this machine.
    pub speed: Speed,
    /// A real step, where one was asked for.
    pub probed: Option<Probed>,
    /// The configuration that it was planned from.
    pub written: Experiment,
}

/// A real step beside its prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// What the step took.
    pub measured: Probe,
    /// Bytes predicted for it.
    pub predicted: u64,
    /// The prediction was off by more than a tenth: the plan was made again with what was measured.
    pub corrected: bool,
}

/// Plans as `options` say.
///
/// # Errors
/// A dataset or configuration that is wrong; nothing that fits.
pub fn plan(options: &PlanOptions, stop: &AtomicBool) -> Result<Plan, TrainError> {
    let written = &options.config.experiment;
    let (dataset, fingerprint) = open_to_plan(&options.dataset, written, stop)?;
    // Without what looking through the cases has left behind.
    pool::release();
    let mut room = Room::here(written);
    let mut planned = propose(written, &fingerprint, &dataset, &room)?;
    let mut beside = beside(&planned.resolved, written, &fingerprint)?;
    let low = match (options.low_resolution, beside.take()) {
        (false, found) => {
            beside = found;
            None
        }
        (true, Some(low)) => Some(at_low_resolution(written, &planned.resolved, &low)),
        (true, None) => return Err(none_beside(options, &planned.resolved, &fingerprint)?),
    };
    let written = low.as_ref().unwrap_or(written);
    if low.is_some() {
        planned = propose(written, &fingerprint, &dataset, &room)?;
    }
    let speed = speed(&room.step(&planned.resolved), written.train.batch_dice);
    let mut probed = None;
    if options.probe {
        let measured = probe(&planned.resolved, planned.fit.step.arena, Device::Cpu)
            .map_err(|problem| TrainError::run(&options.dataset, "no step was tried", problem))?;
        let predicted = planned.fit.peak();
        let found = measured.peak_bytes.unwrap_or(predicted);
        let corrected = found.abs_diff(predicted) as f64 > OFF * found as f64;
        if corrected {
            room.program = (room.program + found).saturating_sub(predicted);
            planned = propose(written, &fingerprint, &dataset, &room)?;
        }
        probed = Some(Probed { measured, predicted, corrected });
    }
    let median = median(&planned.resolved, &fingerprint)?;
    let coverage = coverage(planned.resolved.patch, zyx(median));
    let written = written.clone();
    Ok(Plan { dataset, fingerprint, median, coverage, beside, planned, room, speed, probed, written })
}

/// Median voxels of a case on the plan's grid, x, y, z.
fn median(resolved: &Resolved, fingerprint: &Fingerprint) -> Result<[f64; 3], ConfigError> {
    let spacing = resolved.preparation.spacing;
    Ok(topology::median_size(&fingerprint.spacings, &fingerprint.sizes, spacing)?)
}

/// The network for a coarser grid beside the one at full resolution, by the same design.
fn beside(
    full: &Resolved,
    written: &Experiment,
    fingerprint: &Fingerprint,
) -> Result<Option<LowResolution>, ConfigError> {
    let network = &full.experiment.network;
    let rules = Rules {
        kind: network.kind,
        features: network.features,
        features_max: network.features_max,
        stages: written.network.stages.value().copied(),
        design: network.design.0,
        classes: full.plan.classes,
    };
    let median = zyx(median(full, fingerprint)?);
    Ok(low_resolution(zyx(full.preparation.spacing), median, full.patch, &rules)?)
}

/// The configuration with everything that the coarser grid decides written out, so that nothing is planned again from it.
fn at_low_resolution(written: &Experiment, full: &Resolved, low: &LowResolution) -> Experiment {
    let mut experiment = written.clone();
    let triples = |triples: &[[usize; 3]]| Auto::Value(triples.iter().copied().map(xyz).collect());
    experiment.data.spacing = Auto::Value(xyz(low.spacing));
    experiment.network = full.experiment.network.clone();
    experiment.network.norm = written.network.norm;
    experiment.network.patch = Auto::Value(xyz(low.topology.patch));
    experiment.network.stages = Auto::Value(low.topology.strides.len());
    experiment.network.kernels = triples(&low.topology.kernels);
    experiment.network.strides = triples(&low.topology.strides);
    experiment
}

/// Why there is nothing to plan at a lower resolution.
fn none_beside(options: &PlanOptions, full: &Resolved, fingerprint: &Fingerprint) -> Result<TrainError, ConfigError> {
    let share = 100.0 * coverage(full.patch, zyx(median(full, fingerprint)?));
    let problem = match share >= 100.0 * SHARE {
        true => format!("a patch shows {share:.0} % of a median case, and a coarser grid is planned below 25 %"),
        false => format!("a patch shows {share:.0} % of a median case, but would show 25 % at nearly the same spacing"),
    };
    Ok(TrainError::run(&options.dataset, problem, "plan without --low-resolution"))
}
