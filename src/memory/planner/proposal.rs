//! Where no choice of levers fits: a smaller network by the same rules, proposed and never taken silently.
use crate::config::{Auto, ByteSize, ConfigError, Experiment, Resolved, resolve};
use crate::dataset::Dataset;
use crate::dataset::fingerprint::Fingerprint;
use crate::memory::fit::Fit;

use super::{Room, Short, set_levers};

/// The design memory is lowered by sixteenths of what is written.
const PARTS: u64 = 16;
/// Features of the first stage are halved so often at most.
const HALVINGS: u32 = 2;
/// Fewest features of a first stage that are proposed.
const FEWEST: usize = 8;

/// A network and the levers with which it fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The run as it would be.
    pub resolved: Resolved,
    /// Its levers, and the bytes of a step.
    pub fit: Fit,
    /// What is not as the configuration had it, and with it the result.
    pub changed: Option<Changed>,
}

/// Why and how a plan is not the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Voxels z, y, x of the patch that does not fit, and of the one that does.
    pub patch: [[usize; 3]; 2],
    /// Features of the first stage, before and after.
    pub features: [usize; 2],
    /// What the smallest choice of levers for the network as asked for would hold, in bytes.
    pub needed: Option<u64>,
}

/// The network as configured, if some choice of levers fits; else the largest that nnU-Net's rules plan for a smaller card
/// and that fits, or with fewer features where no patch is small enough. What is written is kept to: of a written patch
/// nothing else is proposed.
///
/// # Errors
/// A configuration that cannot be resolved; nothing that fits.
pub fn propose(
    written: &Experiment,
    fingerprint: &Fingerprint,
    dataset: &Dataset,
    room: &Room,
) -> Result<Planned, ConfigError> {
    let mut resolved = resolve(written, fingerprint, dataset)?;
    let short = match set_levers(&mut resolved, written, room) {
        Ok(fit) => return Ok(Planned { resolved, fit, changed: None }),
        Err(short) => short,
    };
    if written.network.patch != Auto::Auto {
        return Err(short.into());
    }
    let smaller = designs(written).find_map(|smaller| {
        let mut resolved = resolve(&smaller, fingerprint, dataset).ok()?;
        let fit = set_levers(&mut resolved, &smaller, room).ok()?;
        Some((resolved, fit, smaller.network.features))
    });
    let Some((planned, fit, features)) = smaller else { return Err(short.into()) };
    let changed = changed(&resolved, &planned, [written.network.features, features], &short);
    Ok(Planned { resolved: planned, fit, changed: Some(changed) })
}

/// Larger patches first, then fewer features.
fn designs(written: &Experiment) -> impl Iterator<Item = Experiment> + '_ {
    let features = (0..=HALVINGS).map(|halvings| written.network.features >> halvings);
    let features = features.filter(|&features| features >= FEWEST || features == written.network.features);
    features.flat_map(move |features| {
        (1..PARTS).rev().map(move |part| {
            let mut smaller = written.clone();
            smaller.network.features = features;
            smaller.network.design = ByteSize((written.network.design.0 / PARTS * part).max(1));
            smaller
        })
    })
}

fn changed(asked: &Resolved, planned: &Resolved, features: [usize; 2], short: &Short) -> Changed {
    Changed { patch: [asked.patch, planned.patch], features, needed: short.smallest.as_ref().map(Fit::peak) }
}
