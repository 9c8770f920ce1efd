//! What a run will be: its network, levers, device and split.
use std::path::Path;

use super::TrainError;
use super::data::Data;
use super::held_out::{SPLIT_FILE, SplitRecord};
use super::session::Options;
use super::told::{Event, Observer};
use crate::config::{ConfigError, Device, Fold, Resolved, SplitBy, resolve};
use crate::dataset::split::Split;
use crate::memory::fit::Fit;
use crate::memory::planner::{self, Room};
use crate::ops::cpu::pool;
use crate::predict::check_validation;

/// What a run will be, before any case is prepared.
pub(super) struct Decided {
    pub resolved: Resolved,
    /// On the processor.
    pub levers: Option<(Fit, Room)>,
    pub device: burn::tensor::Device,
    pub split: Split,
    pub split_record: SplitRecord,
    /// The file that it was read from: the run has a copy, so that it can be repeated wherever it lies.
    pub split_file: Option<Vec<u8>>,
}

/// Decides it, so that what cannot be is said at once. Writes nothing.
pub(super) fn decide(
    options: &Options,
    path: &Path,
    data: &Data,
    fold: Fold,
    observer: &dyn Observer,
) -> Result<Decided, TrainError> {
    let Data { dataset, shown, fingerprint, .. } = data;
    let mut resolved = resolve(&options.config.experiment, fingerprint, dataset)?;
    let levers = set_levers(&mut resolved, options)?;
    for swap in &resolved.norm.swaps {
        tracing::info!("{swap}");
    }
    let device = crate::device::open(options.device).map_err(|problem| wrong(path, problem))?;
    crate::device::check_type(&device, options.device, resolved.activations).map_err(|problem| wrong(path, problem))?;
    let number = match fold {
        Fold::One(number) => Some(number),
        Fold::All => None,
    };
    let (split, split_record) = data.held_out.split(data, &resolved.experiment, number, observer)?;
    let split_file = data.held_out.file(data);
    if split_file.is_some() {
        resolved.experiment.data.split = SplitBy::File(SPLIT_FILE.to_owned());
    }
    if let Some((_, room)) = &levers {
        let validated = split.validation.iter().map(|case| &shown.cases[*case]);
        let files = validated.map(|case| (case.id.as_str(), case.images.as_slice()));
        check_validation(room, &resolved, files)?;
    }
    Ok(Decided { resolved, levers, device, split, split_record, split_file })
}

/// Levers are set for the processor, whose memory is the process's.
pub(super) fn set_levers(resolved: &mut Resolved, options: &Options) -> Result<Option<(Fit, Room)>, ConfigError> {
    if options.device != Device::Cpu {
        return Ok(None);
    }
    let written = &options.config.experiment;
    // What looking through the cases has left behind is none of the run's.
    pool::release();
    let room = Room::here(written);
    let room = room.of_rank(options.ranks.place(), resolved).beside(options.ranks.on_this_machine().count, written);
    Ok(Some((planner::set_levers(resolved, written, &room)?, room)))
}

/// What was chosen, and what it will hold.
pub(super) fn tell_levers(fit: &Fit, observer: &dyn Observer) {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let (peak, place) = (gib(fit.peak()), &fit.step.place);
    let text = format!("memory: {}; at most {peak:.2} GiB during steps ({place})", planner::describe(fit.levers));
    observer.event(Event::Notice(text));
}

fn wrong(path: &Path, problem: String) -> TrainError {
    TrainError::run(path, "nothing was trained", problem)
}
