//! Transposed convolution whose kernel is its stride, 1 or 2 along each axis: the U-Net's way up.
//!
//! It is the input gradient of a convolution with that kernel and stride, from the many channels below to the few above,
//! so [`super::conv`] does the work: weights `[input, output, kz, ky, kx]`, as PyTorch has them, are those of the
//! convolution the other way round.
#[cfg(test)]
mod tests;

use super::conv::{self, ConvShape, Part, PartMut};
use super::element::Element;
use super::isa::Isa;
use super::reduce;

/// The shape of a transposed convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpsampleShape {
    /// Samples.
    pub batch: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Voxels of the input, `[z, y, x]`.
    pub size: [usize; 3],
    /// Kernel and stride, `[z, y, x]`, each 1 or 2.
    pub stride: [usize; 3],
}

impl UpsampleShape {
    /// Weights of one pair of channels.
    pub fn taps(&self) -> usize {
        self.stride.iter().product()
    }

    /// Voxels of the output, `[z, y, x]`.
    pub fn output_size(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.size[axis] * self.stride[axis])
    }

    /// Values of one sample's input.
    pub fn input_len(&self) -> usize {
        self.inputs * self.voxels()
    }

    /// Values of one sample's output.
    pub fn output_len(&self) -> usize {
        self.outputs * self.voxels() * self.taps()
    }

    /// Values of the weight, `[input, output, kz, ky, kx]`.
    pub fn weight_len(&self) -> usize {
        self.inputs * self.outputs * self.taps()
    }

    /// Voxels of one input channel.
    fn voxels(&self) -> usize {
        self.size.iter().product()
    }

    fn check(&self, input: usize, output: usize) {
        assert!(self.stride.iter().all(|&stride| stride == 1 || stride == 2), "upsample: strides are 1 or 2, {self:?}");
        assert!(self.weight_len() > 0 && self.voxels() > 0, "upsample: an empty shape, {self:?}");
        assert_eq!(input, self.batch * self.input_len(), "upsample: the input is not of shape {self:?}");
        assert_eq!(output, self.batch * self.output_len(), "upsample: the output is not of shape {self:?}");
    }

    /// The convolution of which this is the input gradient.
    fn conv(&self) -> ConvShape {
        ConvShape {
            batch: self.batch,
            in_channels: self.outputs,
            out_channels: self.inputs,
            size: self.output_size(),
            kernel: self.stride,
            stride: self.stride,
        }
    }
}

/// `y = bias + x * weight`; `y`, `[batch, output, z, y, x]`, is written whole.
pub fn forward<E: Element>(
    isa: Isa,
    x: &Part<'_, E>,
    weight: &[f32],
    bias: Option<&[f32]>,
    shape: &UpsampleShape,
    y: &mut [E],
) {
    shape.check(x.values.len(), y.len());
    assert!(bias.is_none_or(|bias| bias.len() == shape.outputs), "upsample: one bias for each output channel");
    let mut result = [PartMut { values: y, channels: shape.outputs }];
    conv::input_gradient(isa, &shape.conv(), std::slice::from_ref(x), weight, bias, &mut result);
}

/// The gradient of `x` (normalised and activated, where it is so while it is read) from that of `y`; `gx`,
/// `[batch, input, z, y, x]`, is written whole.
pub fn input_gradient<E: Element>(isa: Isa, gy: &[E], weight: &[f32], shape: &UpsampleShape, gx: &mut [E]) {
    shape.check(gx.len(), gy.len());
    let gy = [Part { values: gy, channels: shape.outputs, maps: None }];
    conv::forward(isa, &shape.conv(), &gy, weight, None, gx);
}

/// Adds the gradient of the weights, sample by sample.
pub fn add_weight_gradient<E: Element>(
    isa: Isa,
    x: &Part<'_, E>,
    gy: &[E],
    shape: &UpsampleShape,
    gradient: &mut [f32],
) {
    shape.check(x.values.len(), gy.len());
    let gy = [Part { values: gy, channels: shape.outputs, maps: None }];
    conv::add_weight_gradient(isa, &shape.conv(), &gy, std::slice::from_ref(x), gradient);
}

/// Adds the gradient of the bias, sample by sample.
pub fn add_bias_gradient<E: Element>(gy: &[E], shape: &UpsampleShape, gradient: &mut [f32]) {
    reduce::add_channel_sums(shape.batch, shape.outputs, gy, gradient);
}
