//! What a prediction holds, said beforehand, and what of it lies in memory.
use std::io;
use std::path::{Path, PathBuf};

use super::{PredictError, Predictor, tile, window};
use crate::config::{Activations, Recompute, Resolved};
use crate::dataset::prepare::{self, Expected, Preparation};
use crate::evaluate;
use crate::memory::meter;
use crate::memory::planner::Room;
use crate::memory::step::{StepShape, rehearse_forward};
use crate::network::plan::NetworkPlan;
use crate::ops::cpu::isa::isa;
use crate::ops::tree::Stretch;
use crate::train::LoadedRun;
use crate::volume::normalise::Normalisation;
use crate::volume::planes::Storage;
use crate::volume::{PIECE_BYTES, components, mask, resample};

/// Stacks, tables and small blocks that come to a process while it predicts, and what the system's allocator keeps of
/// blocks that were given back, in bytes.
const AROUND: u64 = 16 << 20;

/// The memory that a predictor may take.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Bytes that the process may hold in all; `None` without end. What must be in memory is held against it beforehand, by
    /// [`check`] and [`check_validation`], and takes what it takes: in the midst of cases nothing is refused.
    pub budget: Option<u64>,
    /// Folder for what has no room in memory.
    pub scratch: PathBuf,
    /// What the process held when this was made, networks included.
    program: u64,
}

impl Memory {
    /// To be made when the networks are there.
    pub fn new(budget: Option<u64>, scratch: &Path) -> Self {
        Self { budget, scratch: scratch.to_owned(), program: held() }
    }

    /// Everything lies in memory.
    pub fn unbounded() -> Self {
        Self::new(None, Path::new(""))
    }

    /// For `map_err` on what concerns a scratch file.
    pub(super) fn failed(&self) -> impl Fn(io::Error) -> PredictError {
        let folder = if self.scratch.as_os_str().is_empty() { Path::new(".") } else { &self.scratch };
        move |source| PredictError::Io { path: folder.to_owned(), source }
    }

    /// Room for the volumes of a case.
    pub(super) fn storage(&self, predictor: &Predictor<'_>, needs: &Needs) -> Storage {
        let Some(budget) = self.budget else { return Storage::new(None, &self.scratch) };
        let settings = &predictor.settings;
        let network = predictor.networks.first().map(|network| network.plan());
        let tile = network.map_or(Some((0, 0)), |plan| {
            tile_bytes(plan, settings.patch, activations(settings.activations), predictor.passes())
        });
        let (_, tile) = tile.unwrap_or((u64::MAX, u64::MAX));
        let program = self.program.saturating_add(AROUND);
        let least = program.saturating_add(tile).saturating_add(needs.buffers);
        tracing::debug!(
            "program and networks {} MiB, tile {} MiB, buffers {} MiB, volumes up to {} MiB",
            mib(program),
            mib(tile),
            mib(needs.buffers),
            budget.saturating_sub(least) >> 20,
        );
        Storage::new(Some(budget.saturating_sub(least)), &self.scratch)
    }
}

/// What the process holds: resident, or mapped to be written, which is what limits on a process count.
fn held() -> u64 {
    // Threads have their stacks from now on.
    rayon::current_num_threads();
    meter::resident_bytes().unwrap_or(0).max(meter::data_bytes().unwrap_or(0))
}

/// Refuses what a budget has no room for, before networks are read: `networks` of them are held at once. Of `cases`, their
/// names and image files, those at fault are told of when it is their turn.
///
/// # Errors
/// What the case that needs most needs.
pub fn check<'a>(
    budget: Option<u64>,
    plan: &LoadedRun,
    (networks, mirrorings): (usize, usize),
    cases: impl Iterator<Item = (&'a str, &'a [PathBuf])>,
    probabilities: bool,
) -> Result<(), PredictError> {
    let Some(budget) = budget else { return Ok(()) };
    let tile = tile_bytes(&plan.network, plan.patch, plan.activations, networks.saturating_mul(mirrorings));
    let (one, tile) = tile.unwrap_or((u64::MAX, u64::MAX));
    let program = held().saturating_add(AROUND).saturating_add(one.saturating_mul(networks as u64));
    let buffers = cases.filter_map(|(case, files)| {
        let expected = prepare::expected(files, &plan.preparation).ok()?;
        let needs = Needs::of(&plan.preparation, plan.patch, plan.network.classes, &expected, probabilities);
        Some((case, needs.buffers))
    });
    let Some((case, buffers)) = buffers.max_by_key(|(_, buffers)| *buffers) else { return Ok(()) };
    // While a network is read, its weights are there twice.
    let most = one.max(tile.saturating_add(buffers));
    let cure = if networks > 1 { "with --memory, or the run folder of a single fold" } else { "with --memory" };
    refuse(case, budget, program.saturating_add(most), ("predicting", cure), &parts(program, tile, buffers))
}

/// Refuses a training whose validation has no room: before its first step, with the network still to be made. `cases` are
/// their names and image files.
///
/// # Errors
/// What the case that needs most needs; a header at fault.
pub fn check_validation<'a>(
    room: &Room,
    resolved: &Resolved,
    cases: impl Iterator<Item = (&'a str, &'a [PathBuf])>,
) -> Result<(), PredictError> {
    let Some(budget) = room.budget else { return Ok(()) };
    let plan = &resolved.plan;
    let passes = tile::mirrorings(resolved.experiment.mirrored()).len();
    let (one, tile) = tile_bytes(plan, resolved.patch, resolved.activations, passes).unwrap_or((u64::MAX, u64::MAX));
    let state = resolved.experiment.train.remembered() as u64;
    let program = room.program.saturating_add(AROUND).saturating_add(one.saturating_mul(1 + state));
    for (case, files) in cases {
        let expected = prepare::expected(files, &resolved.preparation)?;
        let needs = Needs::of(&resolved.preparation, resolved.patch, plan.classes, &expected, false);
        // Tile and buffers are gone when label maps are compared.
        let (predict, compare) =
            (tile.saturating_add(needs.buffers), compare_bytes(expected.size, resolved.regions.is_some()));
        let parts = if predict > compare {
            parts(program, tile, needs.buffers)
        } else {
            let [program, compare] = [program, compare].map(mib);
            format!("{program} for the program, {compare} for label maps and their figures")
        };
        let cure = "with memory.budget, or train with --fold all, which validates nothing";
        refuse(case, budget, program.saturating_add(predict.max(compare)), ("validating", cure), &parts)?;
    }
    Ok(())
}

fn parts(program: u64, tile: u64, buffers: u64) -> String {
    let [program, tile, buffers] = [program, tile, buffers].map(mib);
    format!("{program} for program and networks, {tile} for a tile of the trained patch, {buffers} for buffers")
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Refuses a budget below `needed`; `doing` is what is done and, after "give N MiB", what to do.
fn refuse(case: &str, budget: u64, needed: u64, doing: (&'static str, &str), parts: &str) -> Result<(), PredictError> {
    if needed <= budget {
        return Ok(());
    }
    let (doing, cure) = doing;
    let cure = format!("give {} MiB {cure}", mib(needed));
    Err(PredictError::Memory { case: case.to_owned(), doing, needed, parts: parts.to_owned(), budget, cure })
}

/// Two label maps and what their figures take, beside a piece of the file; with regions a mask of each too.
fn compare_bytes(size: [usize; 3], regions: bool) -> u64 {
    let voxels = size.iter().fold(1u64, |all, edge| all.saturating_mul(*edge as u64));
    let maps = voxels.saturating_mul(if regions { 4 } else { 2 } * size_of::<u16>() as u64);
    maps.saturating_add(evaluate::peak_bytes(size)).saturating_add(PIECE_BYTES as u64)
}

/// Bytes of one network's weights, and of the pool while a tile goes through the networks.
fn tile_bytes(plan: &NetworkPlan, patch: [usize; 3], kind: Activations, passes: usize) -> Option<(u64, u64)> {
    let shape = StepShape {
        plan,
        patch,
        source: [0; 3],
        stretch: Stretch::whole(1),
        micro: 1,
        activations: kind,
        recompute: Recompute::None,
        remembered: 1,
        threads: rayon::current_num_threads(),
        isa: isa(),
    };
    rehearse_forward(&shape, passes).map(|found| (found.weights, found.pool))
}

fn activations(kind: burn::tensor::FloatDType) -> Activations {
    match kind {
        burn::tensor::FloatDType::BF16 => Activations::Bf16,
        burn::tensor::FloatDType::F16 => Activations::F16,
        _ => Activations::F32,
    }
}

/// What a case holds beside program, networks and tile, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// In memory in any case: what is read, resampled, finished and written at a time, and the nonzero mask.
    pub buffers: u64,
    /// In memory where there is room: sums of scores while tiles are added.
    pub sums: u64,
    /// In memory where there is room: the label map, or scores that are still to be resampled or written.
    pub found: u64,
}

impl Needs {
    /// Bytes of `storage` that are to stay free while the image comes: for what will find room there after it, which is
    /// gone through more often. What is too large for it in any case takes nothing from the image.
    pub fn later(&self, storage: &Storage) -> u64 {
        let Some(room) = storage.budget() else { return 0 };
        let fits = |taken: u64, bytes: u64| match taken.saturating_add(bytes) {
            all if all <= room => all,
            _ => taken,
        };
        fits(fits(0, self.sums), self.found)
    }

    pub fn of(
        preparation: &Preparation,
        patch: [usize; 3],
        classes: usize,
        expected: &Expected,
        probabilities: bool,
    ) -> Self {
        let Expected { size, prepared, .. } = expected;
        let voxels = |size: [usize; 3]| size.iter().fold(1u64, |all, edge| all.saturating_mul(*edge as u64));
        // The largest face, which a plane may be on the grid of the file and on that of the plan.
        let face = |size: [usize; 3]| {
            let mut size = size;
            size.sort_unstable();
            voxels([1, size[1], size[2]])
        };
        let planes = face(*size).max(face(*prepared)).saturating_mul(4 * size_of::<f32>() as u64);
        let pieces = 3 * PIECE_BYTES as u64 + resample::stored::part_bytes(*size, *prepared);
        let masked = preparation.normalisation.iter().any(Normalisation::is_masked);
        let masks = if masked { mask::bytes(*size).saturating_mul(2) } else { 0 };
        let sums = window::sums_shape(classes, patch, *prepared);
        let found = if size == prepared && !probabilities { 2 } else { 4 * classes as u64 };
        // Those of the postprocessing come when the others are gone.
        let runs = components::run_bytes(*size);
        Self {
            buffers: planes.saturating_add(pieces).saturating_add(masks).max(runs),
            sums: sums.iter().fold(4u64, |all, edge| all.saturating_mul(*edge as u64)),
            found: voxels(*prepared).saturating_mul(found),
        }
    }
}
