//! Where a parameter's gradient is added up.
use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex};
use burn::tensor::{Shape, Tensor};

use super::backend::VolumeOps;
use super::tree::{Stretch, SumTree};

/// A gradient that backward passes add to. Clones share it.
#[derive(Clone, Default)]
pub struct GradientSink(Arc<Mutex<Sums>>);

#[derive(Default)]
struct Sums {
    tree: SumTree<Box<dyn Any + Send>>,
    /// Whether each sample is added by itself.
    per_sample: bool,
}

impl fmt::Debug for GradientSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("GradientSink")
    }
}

impl GradientSink {
    /// Begins a step on the processor: the samples of `stretch` are to come, `at_once` of them in each backward pass, each
    /// added by itself in the order of [`SumTree`]. The memory of sums that wait between passes is taken now, where there
    /// is more than one pass, so that it lies together.
    pub fn begin(&self, shape: &[usize], stretch: &Stretch, at_once: usize) {
        let mut sums = self.lock();
        *sums = Sums { tree: SumTree::of(stretch.clone(), at_once), per_sample: true };
        if at_once < stretch.samples.len() {
            for _ in 0..sums.tree.keep() {
                sums.tree.put(Box::new(super::slices::zeros(Shape::from(shape.to_vec()))));
            }
        }
    }

    /// Samples of a batch that are to be added together.
    pub(super) fn shares(&self, batch: usize) -> Vec<Range<usize>> {
        let share = if self.lock().per_sample { 1 } else { batch.max(1) };
        (0..batch).step_by(share).map(|sample| sample..sample + share).collect()
    }

    /// Adds the gradient of the next sample, or of the next pass's samples, which `add` adds to a sum it is given; `zeros`
    /// makes one.
    pub(super) fn add<B: VolumeOps>(
        &self,
        zeros: impl FnOnce() -> FloatTensor<B>,
        add: impl FnOnce(FloatTensor<B>) -> FloatTensor<B>,
    ) {
        let mut sums = self.lock();
        if sums.per_sample {
            let leaf = sums.tree.leaf().and_then(of::<B>).map(B::volume_zeroed).unwrap_or_else(zeros);
            sums.tree.add(Box::new(add(leaf)), merge::<B>, drop);
        } else {
            let sum = sums.tree.take(merge::<B>).and_then(of::<B>).unwrap_or_else(zeros);
            sums.tree.add(Box::new(add(sum)), merge::<B>, drop);
        }
    }

    /// Whether all samples that were to come since [`Self::begin`] have come.
    pub fn is_complete(&self) -> bool {
        self.lock().tree.is_complete()
    }

    /// Takes the sums of [`Stretch::parts`] out, in their order; of other devices than the processor the one sum.
    pub fn take_parts<const D: usize>(&self) -> Vec<Tensor<D>> {
        if !self.lock().per_sample {
            return self.take().into_iter().collect();
        }
        let parts = std::mem::take(&mut *self.lock()).tree.take_parts();
        parts.into_iter().filter_map(of::<Flex>).map(Tensor::from_primitive::<Flex>).collect()
    }

    /// Takes the sum out, as the tensor of rank `D` that the operation's parameter is; `None` where nothing was added.
    pub fn take<const D: usize>(&self) -> Option<Tensor<D>> {
        let sums = std::mem::take(&mut *self.lock());
        let mut tree = sums.tree;
        if sums.per_sample {
            let sum = tree.take(merge::<Flex>).and_then(of::<Flex>)?;
            return Some(Tensor::from_primitive::<Flex>(sum));
        }
        // A running sum is one part.
        let sum = tree.take(|_, emptied| emptied)?;
        match sum.downcast::<FloatTensor<Flex>>() {
            Ok(sum) => Some(Tensor::from_primitive::<Flex>(*sum)),
            #[cfg(any(feature = "vulkan", feature = "cuda"))]
            Err(sum) => {
                use burn::backend::Cube;
                sum.downcast::<FloatTensor<Cube>>().ok().map(|sum| Tensor::from_primitive::<Cube>(*sum))
            }
            #[cfg(not(any(feature = "vulkan", feature = "cuda")))]
            Err(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of<B: Backend>(sum: Box<dyn Any + Send>) -> Option<FloatTensor<B>> {
    sum.downcast::<FloatTensor<B>>().ok().map(|sum| *sum)
}

/// Adds the second to the first; both are of one backend, for a parameter does not change its own.
fn merge<B: VolumeOps>(into: &mut Box<dyn Any + Send>, from: Box<dyn Any + Send>) -> Box<dyn Any + Send> {
    let taken = std::mem::replace(into, Box::new(()));
    if let (Some(sum), Some(part)) = (of::<B>(taken), from.downcast_ref::<FloatTensor<B>>()) {
        *into = Box::new(B::volume_add(sum, part.clone()));
    }
    from
}
