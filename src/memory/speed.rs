//! How long a step takes on this machine, from its arithmetic and the measured speed of one convolution per stage.
use half::{bf16, f16};

use super::step::{StepShape, work};
use crate::config::Activations;
use crate::ops::cpu::conv::ConvShape;
use crate::ops::cpu::conv::speed::{Seconds, measure};
use crate::ops::cpu::pool::Keep;
use crate::ops::cpu::worker::on_worker;

/// Runs of which the best counts.
const REPEATS: usize = 2;
/// Most voxels along each axis of the volume that is measured on: a larger one is as fast.
const EDGE: usize = 32;
/// Seconds of a step for each of its convolutions: norms, loss, samples and the update take the rest. Measured
/// (docs/performance.md).
const BESIDE: f64 = 1.25;

/// A step's arithmetic and its time.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Speed {
    /// Floating-point operations of a step.
    pub flop: f64,
    /// Operations per second of the step's convolutions.
    pub flop_per_second: f64,
    /// Of a step, expected.
    pub seconds: f64,
}

/// Measures one convolution per stage, some tenths of a second in all. `ahead`: as of [`work::flop`].
pub fn speed(shape: &StepShape<'_>, ahead: bool) -> Speed {
    let _keep = Keep::new();
    let flop = work::flop(shape, ahead);
    let mut size = shape.patch;
    let mut seconds = 0.0;
    for (stage, flop) in shape.plan.stages.iter().zip(&flop) {
        size = std::array::from_fn(|axis| size[axis].div_ceil(stage.stride[axis]));
        let conv = ConvShape {
            batch: 1,
            in_channels: stage.features,
            out_channels: stage.features,
            size: size.map(|edge| edge.min(EDGE)),
            kernel: stage.kernel,
            stride: [1; 3],
        };
        let once = 2.0 * conv.weights() as f64 * conv.out_voxels() as f64;
        let measured = on_worker(|| seconds_of(shape, &conv));
        seconds += flop / (3.0 * once) * measured.total();
    }
    let flop = flop.iter().sum::<f64>();
    Speed { flop, flop_per_second: flop / seconds, seconds: seconds * BESIDE }
}

fn seconds_of(shape: &StepShape<'_>, conv: &ConvShape) -> Seconds {
    match shape.activations {
        Activations::F32 => measure::<f32>(shape.isa, conv, REPEATS),
        Activations::Bf16 => measure::<bf16>(shape.isa, conv, REPEATS),
        Activations::F16 => measure::<f16>(shape.isa, conv, REPEATS),
    }
}
