//! What the loss of an effective batch has to know of all its samples before the first gradient.
use std::sync::Arc;

use super::inputs::{Place, add_target};
use super::step::{Heads, StepSettings, Supply};
use crate::network::{Mode, UNet};
use crate::ops::{self, BatchSums, ClassSums};

/// Over the effective batch, for each head that counts. The samples are read once more for each of the two that is there,
/// and again for the passes themselves: that costs time, not memory.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Labelled voxels; `None` where no label is ignored.
    pub labelled: Option<Vec<u64>>,
    /// What the one Dice of the effective batch is made of; `None` where every sample has its own.
    pub dice: Option<Vec<Arc<BatchSums>>>,
}

impl Totals {
    /// Gathers what `settings` ask for.
    ///
    /// # Errors
    /// Those of `supply`.
    pub fn of<S: Supply>(network: &UNet, heads: &Heads, settings: &StepSettings, supply: &S) -> Result<Self, S::Error> {
        let labelled = labelled(heads, settings, supply)?;
        let mut totals = Self { labelled, dice: None };
        if settings.batch_dice {
            totals.dice = Some(dice(network, heads, settings, supply, &totals)?);
        }
        Ok(totals)
    }
}

/// The samples are read one at a time.
fn labelled<S: Supply>(heads: &Heads, settings: &StepSettings, supply: &S) -> Result<Option<Vec<u64>>, S::Error> {
    let Some(ignore) = settings.ignore else { return Ok(None) };
    let mut counts = vec![0u64; heads.strides.len()];
    for sample in 0..settings.effective {
        for sample in supply.load(sample..sample + 1)? {
            for (count, stride) in counts.iter_mut().zip(&heads.strides) {
                let mut labels = Vec::new();
                add_target(&mut labels, &sample, *stride);
                *count += labels.iter().filter(|label| **label != ignore).count() as u64;
            }
        }
    }
    Ok(Some(counts))
}

/// A forward pass of every micro-batch, of which only sums are kept. They are added sample by sample, so the micro-batch
/// changes no bit of them; a batch norm does its share as in the pass that counts and remembers nothing of this one.
fn dice<S: Supply>(
    network: &UNet,
    heads: &Heads,
    settings: &StepSettings,
    supply: &S,
    totals: &Totals,
) -> Result<Vec<Arc<BatchSums>>, S::Error> {
    let micro = settings.micro.clamp(1, settings.effective.max(1));
    let mut sums = vec![BatchSums { classes: Vec::new(), samples: settings.effective }; heads.strides.len()];
    for start in (0..settings.effective).step_by(micro) {
        let range = start..(start + micro).min(settings.effective);
        let place = Place::new(range.len(), network.plan().in_channels, settings.patch, &heads.strides);
        let inputs = place.fill(supply.load(range)?, &heads.strides, settings);
        let logits = network.forward_while(inputs.image, Mode::Again, &|| supply.go_on())?;
        for (head, logits) in logits.into_iter().enumerate() {
            let spec = heads.spec(head, &logits, &inputs.targets[head], settings, totals);
            for sample in ops::loss_sums(logits, spec) {
                let classes = &mut sums[head].classes;
                classes.resize(sample.len(), ClassSums::default());
                classes.iter_mut().zip(&sample).for_each(|(total, sample)| total.add(sample));
            }
        }
    }
    Ok(sums.into_iter().map(Arc::new).collect())
}
