//! The numbers of one convolution, and how each of its three directions becomes a *gather*.
//!
//! A gather computes `out[o, g] = sum over channels i and taps t of w[t][i][o] * source[i, g + offset(t)]` on a grid of
//! positions `g`. Forward with stride 1 is one gather. With stride 2 the source is split by the parity of its index
//! (its *phases*), after which every tap is again a plain offset. The input gradient with stride 2 is one gather for
//! each phase of its result. So one driver and one inner loop serve all of them, and no patch matrix (im2col) of the
//! volume is ever made.

/// Sizes of a 3D convolution; triples are z, y, x; padding is `(kernel - 1) / 2`, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Samples.
    pub batch: usize,
    /// Channels read.
    pub in_channels: usize,
    /// Channels written.
    pub out_channels: usize,
    /// Voxels of the input.
    pub size: [usize; 3],
    /// Each 1 or 3, or 2 where the stride is 2 and the size even.
    pub kernel: [usize; 3],
    /// Each 1 or 2.
    pub stride: [usize; 3],
}

impl ConvShape {
    /// Voxels of the output: the input's, divided by the stride and rounded up.
    pub fn out_size(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.size[axis].div_ceil(self.stride[axis]))
    }

    /// Weights per pair of channels.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Voxels of an input channel.
    pub fn in_voxels(&self) -> usize {
        self.size.iter().product()
    }

    /// Voxels of an output channel.
    pub fn out_voxels(&self) -> usize {
        self.out_size().iter().product()
    }

    /// Weights of all pairs of channels.
    pub fn weights(&self) -> usize {
        self.out_channels * self.in_channels * self.taps()
    }
}

/// One weight's place in a gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Which weight of the kernel, flat over z, y, x.
    pub weight: usize,
    /// Which parity of the source index is read, per axis (0 where the source is not split).
    pub phase: [usize; 3],
    /// Where it is read, relative to the position.
    pub offset: [isize; 3],
}

/// A set of taps that all write the same phase of the result.
#[derive(Clone, Debug)]
pub struct Gather {
    /// Parity of the result's index that this gather writes (0 where the result is not split).
    pub phase: [usize; 3],
    pub taps: Vec<Tap>,
}

/// The gathers of one direction.
#[derive(Clone, Debug)]
pub struct Direction {
    pub gathers: Vec<Gather>,
    /// 2 where the source is read by parity.
    pub source_step: [usize; 3],
    /// 2 where the result is written by parity.
    pub result_step: [usize; 3],
    /// Positions.
    pub grid: [usize; 3],
    pub source_size: [usize; 3],
    pub result_size: [usize; 3],
}

/// Taps of one axis: `(weight index, phase, offset)`.
type AxisTaps = Vec<(usize, usize, isize)>;

fn forward_axis(kernel: usize, stride: usize) -> AxisTaps {
    let pad = (kernel as isize - 1) / 2;
    (0..kernel)
        .map(|tap| {
            let index = tap as isize - pad; // input index = stride * position + index
            let phase = index.rem_euclid(stride as isize);
            (tap, phase as usize, (index - phase) / stride as isize)
        })
        .collect()
}

/// For each phase of the input gradient's index: which taps reach it, and from which output position.
fn backward_axis(kernel: usize, stride: usize) -> Vec<AxisTaps> {
    let pad = (kernel as isize - 1) / 2;
    let stride = stride as isize;
    (0..stride)
        .map(|phase| {
            (0..kernel)
                .filter_map(|tap| {
                    let numerator = phase + pad - tap as isize; // output position = position + numerator / stride
                    (numerator.rem_euclid(stride) == 0).then_some((tap, 0, numerator.div_euclid(stride)))
                })
                .collect()
        })
        .collect()
}

fn combine(axes: [&AxisTaps; 3], kernel: [usize; 3]) -> Vec<Tap> {
    let mut taps = Vec::new();
    for &(tz, pz, oz) in axes[0] {
        for &(ty, py, oy) in axes[1] {
            for &(tx, px, ox) in axes[2] {
                let weight = (tz * kernel[1] + ty) * kernel[2] + tx;
                taps.push(Tap { weight, phase: [pz, py, px], offset: [oz, oy, ox] });
            }
        }
    }
    taps
}

impl Direction {
    /// Input to output.
    pub fn forward(shape: &ConvShape) -> Self {
        let axes: [AxisTaps; 3] = std::array::from_fn(|axis| forward_axis(shape.kernel[axis], shape.stride[axis]));
        let taps = combine([&axes[0], &axes[1], &axes[2]], shape.kernel);
        Self {
            gathers: vec![Gather { phase: [0; 3], taps }],
            source_step: shape.stride,
            result_step: [1; 3],
            grid: shape.out_size(),
            source_size: shape.size,
            result_size: shape.out_size(),
        }
    }

    /// Output gradient to input gradient.
    pub fn backward(shape: &ConvShape) -> Self {
        let axes: [Vec<AxisTaps>; 3] =
            std::array::from_fn(|axis| backward_axis(shape.kernel[axis], shape.stride[axis]));
        let mut gathers = Vec::new();
        for (pz, z) in axes[0].iter().enumerate() {
            for (py, y) in axes[1].iter().enumerate() {
                for (px, x) in axes[2].iter().enumerate() {
                    gathers.push(Gather { phase: [pz, py, px], taps: combine([z, y, x], shape.kernel) });
                }
            }
        }
        Self {
            gathers,
            source_step: [1; 3],
            result_step: shape.stride,
            grid: shape.out_size(),
            source_size: shape.out_size(),
            result_size: shape.size,
        }
    }

    /// Phases of the source that some tap reads, in order.
    pub fn source_phases(&self) -> Vec<[usize; 3]> {
        let mut phases: Vec<_> = self.gathers.iter().flat_map(|g| g.taps.iter().map(|tap| tap.phase)).collect();
        phases.sort_unstable();
        phases.dedup();
        phases
    }

    /// Positions read beyond the grid on either side, per axis (0 or 1).
    pub fn halo(&self) -> [usize; 3] {
        std::array::from_fn(|axis| {
            let reach = self.gathers.iter().flat_map(|g| g.taps.iter().map(|tap| tap.offset[axis].unsigned_abs()));
            reach.max().unwrap_or(0)
        })
    }
}
