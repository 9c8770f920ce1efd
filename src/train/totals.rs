//! What the loss of an effective batch has to know of all its samples before the first gradient.
use std::ops::Range;
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
    /// Gathers what `settings` ask for and is not there yet; `samples` are for this process to look at.
    ///
    /// # Errors
    /// Those of `supply`.
    pub fn complete<S: Supply>(
        &mut self,
        network: &UNet,
        heads: &Heads,
        settings: &StepSettings,
        samples: Range<usize>,
        supply: &S,
    ) -> Result<(), S::Error> {
        if self.labelled.is_none() {
            self.labelled = labelled(heads, settings, samples.clone(), supply)?;
        }
        if settings.batch_dice && self.dice.is_none() {
            self.dice = Some(dice(network, heads, settings, samples, supply, self)?);
        }
        Ok(())
    }
}

/// The samples are read one at a time.
fn labelled<S: Supply>(
    heads: &Heads,
    settings: &StepSettings,
    samples: Range<usize>,
    supply: &S,
) -> Result<Option<Vec<u64>>, S::Error> {
    let Some(ignore) = settings.ignore else { return Ok(None) };
    let mut counts = vec![0u64; heads.strides.len()];
    for sample in samples {
        for sample in supply.load(sample..sample + 1)? {
            for (count, stride) in counts.iter_mut().zip(&heads.strides) {
                let mut labels = Vec::new();
                add_target(&mut labels, &sample, *stride);
                *count += labels.iter().filter(|label| **label != ignore).count() as u64;
            }
        }
    }
    // Counts are whole numbers, exact in any order.
    let counts: Vec<f64> = counts.into_iter().map(|count| count as f64).collect();
    let found = settings.ranks.gather_numbers(&counts, || supply.go_on_together())?;
    let total = |head: usize| found.iter().filter_map(|counts| counts.get(head)).sum::<f64>() as u64;
    Ok(Some((0..counts.len()).map(total).collect()))
}

/// A forward pass of every micro-batch, of which only sums are kept. They are added sample by sample, so the micro-batch
/// changes no bit of them; a batch norm does its share as in the pass that counts and remembers nothing of this one.
fn dice<S: Supply>(
    network: &UNet,
    heads: &Heads,
    settings: &StepSettings,
    samples: Range<usize>,
    supply: &S,
    totals: &Totals,
) -> Result<Vec<Arc<BatchSums>>, S::Error> {
    let Range { start, end } = samples;
    let micro = settings.micro.clamp(1, samples.len().max(1));
    // How many sums a head has of a sample; then by sample, of each head all of them.
    let mut noted: Vec<f64> = vec![0.0];
    for start in (start..end).step_by(micro) {
        let range = start..(start + micro).min(end);
        let place = Place::new(range.len(), network.plan().in_channels, settings.patch, &heads.strides);
        let inputs = place.fill(supply.load(range)?, &heads.strides, settings);
        let logits = network.forward_while(inputs.image, Mode::Again, &|| supply.go_on())?;
        let mut of_heads = Vec::new();
        for (head, logits) in logits.into_iter().enumerate() {
            let spec = heads.spec(head, &logits, &inputs.targets[head], settings, totals);
            of_heads.push(ops::loss_sums(logits, spec));
        }
        for sample in 0..of_heads.first().map_or(0, Vec::len) {
            for classes in of_heads.iter().filter_map(|samples| samples.get(sample)) {
                noted[0] = classes.len() as f64;
                noted.extend(classes.iter().flat_map(ClassSums::numbers));
            }
        }
    }
    let found = settings.ranks.gather_numbers(&noted, || supply.go_on_together())?;
    // A rank without samples knows of none.
    let classes =
        found.iter().filter_map(|numbers| numbers.first()).fold(0.0f64, |most, count| most.max(*count)) as usize;
    let mut sums = vec![BatchSums { classes: Vec::new(), samples: settings.effective }; heads.strides.len()];
    // Ranks have the samples in order, so this is the order of their numbers.
    let each =
        found.iter().flat_map(|numbers| numbers.get(1..).unwrap_or_default().as_chunks().0.chunks(classes.max(1)));
    for (place, of_classes) in each.enumerate() {
        let head = place % sums.len().max(1);
        let total = &mut sums[head].classes;
        total.resize(of_classes.len(), ClassSums::default());
        total.iter_mut().zip(of_classes).for_each(|(total, numbers)| total.add(&ClassSums::from_numbers(*numbers)));
    }
    Ok(sums.into_iter().map(Arc::new).collect())
}
