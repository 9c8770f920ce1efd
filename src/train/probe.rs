//! One real step under a plan: what it holds and how long it takes.
use std::convert::Infallible;
use std::ops::Range;
use std::time::Instant;

use ndarray::{Array3, Array4};
use rand::Rng;
use rayon::prelude::*;

use super::optimizer::Optimizer;
use super::step::{self, StepSettings};
use crate::config::{Device, Resolved};
use crate::memory::meter;
use crate::network::UNet;
use crate::ops::cpu::pool::{self, Arena, Keep};
use crate::ops::cpu::worker::on_worker;
use crate::patch::Sample;
use crate::patch::augment::{self, source_size};
use crate::random::stream;
use crate::ranks::Ranks;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Probe {
    /// Peak resident memory of the process over both steps, in bytes; `None` where the system does not tell.
    pub peak_bytes: Option<u64>,
    /// Of the second step: the first makes what the others find there.
    pub seconds: f64,
}

/// Trains two steps on noise, with the levers of `resolved` and the pool's `arena`, and throws the network away.
///
/// # Errors
/// A sentence, where the device cannot be used.
pub fn probe(resolved: &Resolved, arena: Arena, device: Device) -> Result<Probe, String> {
    let device = crate::device::open(device)?;
    meter::reset_peak();
    let train = &resolved.experiment.train;
    // As in a run: weights come before the pool.
    let mut network = UNet::new(&resolved.plan, train.seed, &device);
    pool::set_arena(arena);
    let _keep = Keep::new();
    let mut optimizer = Optimizer::new(train.optimizer, train.weight_decay).averaging(train.ema_decay);
    optimizer.reserve(&network.parameters);
    let settings = StepSettings {
        effective: resolved.experiment.batch.effective,
        micro: resolved.micro,
        recompute: resolved.recompute(),
        patch: resolved.patch,
        activations: crate::device::float_type(resolved.activations),
        ignore: None,
        regions: resolved.regions.clone(),
        batch_dice: resolved.experiment.train.batch_dice,
        loss_scale: 1.0,
        device,
        ranks: Ranks::alone(),
    };
    let load = |range: Range<usize>| {
        Ok::<_, Infallible>(range.into_par_iter().map(|number| noise(resolved, number)).collect())
    };
    let mut seconds = 0.0;
    for _ in 0..2 {
        let clock = Instant::now();
        on_worker(|| {
            let Ok(found) = step::gradient(&network, &settings, load);
            optimizer.update(&mut network.parameters, found.gradients, 1.0, 0.0);
        });
        seconds = clock.elapsed().as_secs_f64();
    }
    Ok(Probe { peak_bytes: meter::peak_bytes(), seconds })
}

/// A sample of mean 0 and deviation 1 with all classes in it, augmented as in a run.
fn noise(resolved: &Resolved, number: usize) -> Sample {
    let augment = &resolved.experiment.augment;
    let [z, y, x] = source_size(augment, resolved.patch);
    let mut random = stream(0, "probe", 0, number as u64);
    let mut uniform = || random.next_u32() as f32 / u32::MAX as f32;
    let values = |regions: &[Vec<u16>]| 1 + regions.iter().flatten().copied().max().unwrap_or(0);
    let classes =
        resolved.regions.as_deref().map_or(resolved.plan.classes as f32, |regions| f32::from(values(regions)));
    let sample = Sample {
        image: Array4::from_shape_simple_fn((resolved.plan.in_channels, z, y, x), || (uniform() - 0.5) * 12f32.sqrt()),
        label: Array3::from_shape_simple_fn((z, y, x), || (uniform() * 0.9999 * classes) as u16),
    };
    augment::augment(augment, sample, resolved.patch, &mut random)
}
