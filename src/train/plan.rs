//! What a dataset and a budget lead to, before anything is trained.
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::TrainError;
use super::data::open_to_plan;
use super::probe::{Probe, probe};
use crate::config::{Config, Device};
use crate::dataset::Dataset;
use crate::dataset::fingerprint::Fingerprint;
use crate::memory::planner::{Planned, Room, propose};
use crate::memory::speed::{Speed, speed};
use crate::network::topology;
use crate::ops::cpu::pool;

/// A plan that is off by more than this share of what is measured is corrected.
const OFF: f64 = 0.1;

/// The arguments of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    pub config: Config,
    /// The dataset's folder.
    pub dataset: PathBuf,
    /// Whether a real step is run.
    pub probe: bool,
}

/// A plan and what it stands on.
#[derive(Debug)]
pub struct Plan {
    pub dataset: Dataset,
    pub fingerprint: Fingerprint,
    /// Median voxels of a case on the plan's grid, x, y, z.
    pub median: [f64; 3],
    pub planned: Planned,
    pub room: Room,
    pub speed: Speed,
    pub probed: Option<Probed>,
}

/// A real step beside its prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
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
    let spacing = planned.resolved.preparation.spacing;
    let median = topology::median_size(&fingerprint.spacings, &fingerprint.sizes, spacing)
        .map_err(crate::config::ConfigError::from)?;
    Ok(Plan { dataset, fingerprint, median, planned, room, speed, probed })
}
