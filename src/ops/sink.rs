//! Where a parameter's gradient is added up.
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex};
use burn::tensor::{Shape, Tensor};

/// A gradient that backward passes add to. Clones share it.
#[derive(Clone, Default)]
pub struct GradientSink(Arc<Mutex<Option<Box<dyn Any + Send>>>>);

impl fmt::Debug for GradientSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("GradientSink")
    }
}

impl GradientSink {
    /// Replaces the sum by what `add` makes of it; `zeros` makes the first.
    pub(super) fn update<B: Backend>(
        &self,
        zeros: impl FnOnce() -> FloatTensor<B>,
        add: impl FnOnce(FloatTensor<B>) -> FloatTensor<B>,
    ) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = match slot.take().map(|sum| sum.downcast::<FloatTensor<B>>()) {
            Some(Ok(sum)) => *sum,
            _ => zeros(),
        };
        *slot = Some(Box::new(add(sum)));
    }

    /// Makes the sum on the processor before anything is added, where there is none.
    pub fn reserve(&self, shape: &[usize]) {
        self.update::<Flex>(|| super::flex::zeros(Shape::from(shape.to_vec())), |sum| sum);
    }

    /// Takes the sum out, as the tensor of rank `D` that the operation's parameter is; `None` where nothing was added.
    pub fn take<const D: usize>(&self) -> Option<Tensor<D>> {
        let sum = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
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
}
