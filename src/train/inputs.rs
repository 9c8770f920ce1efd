//! A micro-batch as the network takes it: images and, for each head, labels.
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use super::step::StepSettings;
use crate::patch::Sample;

/// The network's input and the heads' targets.
pub struct Inputs {
    /// `[batch, channel, z, y, x]` in the activation type.
    pub image: Tensor<5>,
    /// Per head, labels `[batch, z, y, x]`.
    pub targets: Vec<Arc<Vec<u16>>>,
}

/// The memory of a micro-batch's inputs, taken before its samples are read: threads read them in any order, and what
/// they take comes and goes, so that where anything else comes to lie depends on no thread.
pub struct Place {
    samples: usize,
    images: Vec<f32>,
    targets: Vec<Vec<u16>>,
}

impl Place {
    /// For so many samples; `strides` are label voxels per head voxel, z, y, x.
    pub fn new(samples: usize, channels: usize, patch: [usize; 3], strides: &[[usize; 3]]) -> Self {
        let voxels = |stride: &[usize; 3]| (0..3).map(|axis| patch[axis].div_ceil(stride[axis])).product::<usize>();
        Self {
            samples,
            images: Vec::with_capacity(samples * channels * voxels(&[1; 3])),
            targets: strides.iter().map(|stride| Vec::with_capacity(samples * voxels(stride))).collect(),
        }
    }

    /// Copies the samples, which end here.
    pub fn fill(mut self, samples: Vec<Sample>, strides: &[[usize; 3]], settings: &StepSettings) -> Inputs {
        let (channels, z, y, x) = samples.first().map_or((0, 0, 0, 0), |sample| sample.image.dim());
        for sample in samples {
            match sample.image.as_slice() {
                Some(all) => self.images.extend_from_slice(all),
                None => self.images.extend(sample.image.iter()),
            }
            for (target, stride) in self.targets.iter_mut().zip(strides) {
                add_target(target, &sample, *stride);
            }
        }
        let data = TensorData::new(self.images, [self.samples, channels, z, y, x]);
        let image = Tensor::<5>::from_data(data, &settings.device).cast(settings.activations);
        Inputs { image, targets: self.targets.into_iter().map(Arc::new).collect() }
    }
}

/// Labels `[z, y, x]` at a head's resolution: the first voxel of every `stride` (nearest, as
/// `torch.nn.functional.interpolate` has it).
pub fn add_target(target: &mut Vec<u16>, sample: &Sample, [z, y, x]: [usize; 3]) {
    match sample.label.as_slice() {
        Some(all) if [z, y, x] == [1; 3] => target.extend_from_slice(all),
        _ => target.extend(sample.label.slice(ndarray::s![..;z as isize, ..;y as isize, ..;x as isize]).iter()),
    }
}
