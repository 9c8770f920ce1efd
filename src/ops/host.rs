//! Values of tensors where the host can read them.
use std::borrow::Cow;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::slices::dense;

/// The values of a flat f32 tensor: where they lie, if that is the processor's memory. A copy of them all would be as
/// much again as a run holds of weights.
#[derive(Debug)]
pub enum HostView {
    /// In the processor's memory: nothing is copied.
    Here(FlexTensor),
    /// On another device: fetched when the values are asked for.
    Elsewhere(Tensor<1>),
}

impl HostView {
    /// Of a flat tensor in f32.
    pub fn of(tensor: &Tensor<1>) -> Self {
        match tensor.clone().try_into_primitive::<Flex>() {
            Ok(values) => Self::Here(dense(values)),
            Err(_) => Self::Elsewhere(tensor.clone()),
        }
    }

    /// Values.
    pub fn len(&self) -> usize {
        match self {
            Self::Here(values) => values.storage::<f32>().len(),
            Self::Elsewhere(tensor) => tensor.dims()[0],
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Borrowed from the tensor, or fetched from its device.
    pub fn values(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Here(values) => Cow::Borrowed(values.storage()),
            Self::Elsewhere(tensor) => {
                Cow::Owned(tensor.to_data().convert::<f32>().try_into_vec::<f32>().unwrap_or_default())
            }
        }
    }
}
