//! Instance, group and batch normalisation with the LeakyReLU behind it, forward and backward, in one sweep each.
//!
//! `z = (x - mean) * rstd * gamma + beta`, `y = z > 0 ? z : slope * z`, with the mean and the biased variance of x
//! over a group (Wu and He 2018, "Group Normalization"; Ioffe and Szegedy 2015 for the batch). Only x and the
//! statistics are needed on the way back: z is recomputed from them, the same bits as on the way there.
//!
//! Sums: sixteen-lane `f32` within blocks of 4096 voxels, `f64` across blocks, blocks in order. So neither threads
//! nor, except for [`Groups::Batch`], the other samples of the batch touch a bit of the result.
mod kernels;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub use self::kernels::Map;
use self::kernels::{Apply, GradientSums, Moments, MomentsOf, WriteGradient};
use super::element::Element;
use super::isa::{Isa, dispatch, isa};

/// Voxels that one task treats: 16 blocks of sums.
const CHUNK: usize = 65_536;

/// Which values share a mean and a variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Groups {
    /// Each channel of each sample alone.
    Instance,
    /// So many groups of neighbouring channels of each sample; must divide the channels.
    Group(usize),
    /// Each channel over all samples.
    Batch,
}

/// The shape of the activations, `[batch, channel, voxel]`, and what is normalised together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormShape {
    /// Samples.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Voxels of one channel, z * y * x.
    pub voxels: usize,
    /// Which values share statistics.
    pub groups: Groups,
}

impl NormShape {
    /// Groups per sample; for the batch norm, groups in all.
    fn groups_per_sample(&self) -> usize {
        match self.groups {
            Groups::Instance | Groups::Batch => self.channels,
            Groups::Group(groups) => groups,
        }
    }

    /// Values in [`Statistics::mean`]: `[batch, group]`, or `[channel]` for the batch norm.
    pub fn statistics_len(&self) -> usize {
        match self.groups {
            Groups::Batch => self.channels,
            _ => self.batch * self.groups_per_sample(),
        }
    }

    /// Values that share one mean. PyTorch's running variance is the biased one times `count / (count - 1)`.
    pub fn count(&self) -> usize {
        match self.groups {
            Groups::Instance => self.voxels,
            Groups::Group(groups) => self.channels / groups * self.voxels,
            Groups::Batch => self.batch * self.voxels,
        }
    }

    /// Rows of voxels, `batch * channels`.
    fn rows(&self) -> usize {
        self.batch * self.channels
    }

    /// Where the statistics of a row stand.
    fn slot(&self, row: usize) -> usize {
        match self.groups {
            Groups::Instance => row,
            Groups::Group(groups) => row / (self.channels / groups),
            Groups::Batch => row % self.channels,
        }
    }

    /// The rows that share the statistics of a slot, in the order they are summed in.
    fn rows_of(&self, slot: usize) -> impl Iterator<Item = usize> {
        let (first, step, rows) = match self.groups {
            Groups::Instance => (slot, 1, 1),
            Groups::Group(groups) => (slot * (self.channels / groups), 1, self.channels / groups),
            Groups::Batch => (slot, self.channels, self.batch),
        };
        (0..rows).map(move |i| first + i * step)
    }

    fn check(&self, len: usize) {
        assert!(self.voxels > 0 && self.channels > 0, "norm: an empty shape, {self:?}");
        if let Groups::Group(groups) = self.groups {
            assert!(groups > 0 && self.channels.is_multiple_of(groups), "norm: groups must divide channels, {self:?}");
        }
        assert_eq!(len, self.rows() * self.voxels, "norm: the values are not of shape {self:?}");
    }

    /// So many rows to a task that small volumes do not drown in tasks.
    fn rows_per_task(&self) -> usize {
        (CHUNK / 4 / self.voxels).max(1)
    }
}

/// What a group is normalised by: `[batch, group]`, or `[channel]` for the batch norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The mean.
    pub mean: Vec<f32>,
    /// `1 / sqrt(variance + eps)`.
    pub rstd: Vec<f32>,
    /// The biased variance (divided by [`NormShape::count`]), for running statistics; nothing here reads it.
    pub variance: Vec<f32>,
}

impl Statistics {
    /// The statistics that a batch norm has learnt, `[channel]` each, for use with [`Groups::Batch`] in evaluation.
    pub fn from_running(mean: &[f32], variance: &[f32], eps: f32) -> Self {
        let rstd = variance.iter().map(|&variance| rstd(f64::from(variance), eps)).collect();
        Self { mean: mean.to_vec(), rstd, variance: variance.to_vec() }
    }
}

fn rstd(variance: f64, eps: f32) -> f32 {
    (1.0 / (variance + f64::from(eps)).sqrt()) as f32
}

/// Gradients of gamma and beta, per sample: `[batch, channel]`. Add them up in the order of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct AffineGradients {
    /// Of gamma.
    pub gamma: Vec<f32>,
    /// Of beta.
    pub beta: Vec<f32>,
}

/// The affine map and the activation behind the normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// Factor per channel.
    pub gamma: &'a [f32],
    /// Term per channel.
    pub beta: &'a [f32],
    /// LeakyReLU's slope below zero; 1 is no activation.
    pub slope: f32,
}

/// What one row of voxels is mapped by: `z = (x - mean) * scale + beta`, then LeakyReLU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowMap {
    /// Of the row's statistics; taken away first.
    pub mean: f32,
    /// `rstd * gamma`.
    pub scale: f32,
    /// Added last.
    pub beta: f32,
    /// LeakyReLU's slope below zero.
    pub slope: f32,
}

/// What every row of a norm's input is mapped by, `[batch, channel]`.
pub fn row_maps(shape: &NormShape, statistics: &Statistics, affine: &Affine) -> Vec<RowMap> {
    affine.check(shape, statistics);
    (0..shape.rows()).map(|row| affine.row(shape, statistics, row)).collect()
}

impl Affine<'_> {
    fn row(&self, shape: &NormShape, statistics: &Statistics, row: usize) -> RowMap {
        let (slot, channel) = (shape.slot(row), row % shape.channels);
        RowMap {
            mean: statistics.mean[slot],
            scale: statistics.rstd[slot] * self.gamma[channel],
            beta: self.beta[channel],
            slope: self.slope,
        }
    }

    fn check(&self, shape: &NormShape, statistics: &Statistics) {
        assert_eq!((self.gamma.len(), self.beta.len()), (shape.channels, shape.channels), "norm: gamma and beta");
        let len = shape.statistics_len();
        assert_eq!((statistics.mean.len(), statistics.rstd.len()), (len, len), "norm: statistics of another shape");
    }
}

/// Mean and variance of `x`, `[batch, channel, voxel]`, from the values as stored.
///
/// Stable where the mean is large beside the deviation: squares are taken of the distance to the mean of a block.
pub fn statistics<E: Element>(x: &[E], shape: &NormShape, eps: f32) -> Statistics {
    statistics_on(isa(), x, shape, eps)
}

/// `y = leaky(norm(x))`; `y` is `[batch, channel, voxel]` like `x` and is written whole.
pub fn apply<E: Element>(x: &[E], shape: &NormShape, statistics: &Statistics, affine: &Affine, y: &mut [E]) {
    apply_on(isa(), Some(x), shape, statistics, affine, y);
}

/// [`apply`], written over its input.
pub fn apply_in_place<E: Element>(x: &mut [E], shape: &NormShape, statistics: &Statistics, affine: &Affine) {
    apply_on(isa(), None, shape, statistics, affine, x);
}

/// The gradient of `x` from that of `y`, both `[batch, channel, voxel]`, through statistics that depend on `x`.
/// `gx` is written whole.
pub fn backward<E: Element>(
    x: &[E],
    shape: &NormShape,
    statistics: &Statistics,
    affine: &Affine,
    gy: &[E],
    gx: &mut [E],
) -> AffineGradients {
    backward_on(isa(), x, shape, statistics, affine, Some(gy), gx)
}

/// [`backward`] with the gradient of `x` written over that of `y`.
pub fn backward_in_place<E: Element>(
    x: &[E],
    shape: &NormShape,
    statistics: &Statistics,
    affine: &Affine,
    gradient: &mut [E],
) -> AffineGradients {
    backward_on(isa(), x, shape, statistics, affine, None, gradient)
}

/// `work` on every chunk of every row, in parallel; the results of a row stand together, in order.
fn by_chunk<T: Send>(shape: &NormShape, work: impl Fn(usize, std::ops::Range<usize>) -> T + Sync) -> Vec<T> {
    let chunks = shape.voxels.div_ceil(CHUNK);
    (0..shape.rows() * chunks)
        .into_par_iter()
        .with_min_len(shape.rows_per_task())
        .map(|task| {
            let (row, start) = (task / chunks, task % chunks * CHUNK);
            let end = shape.voxels.min(start + CHUNK);
            work(row, row * shape.voxels + start..row * shape.voxels + end)
        })
        .collect()
}

fn statistics_on<E: Element>(isa: Isa, x: &[E], shape: &NormShape, eps: f32) -> Statistics {
    shape.check(x.len());
    let moments = by_chunk(shape, |_, range| dispatch(isa, MomentsOf(&x[range])));
    let chunks = shape.voxels.div_ceil(CHUNK);
    let slots = shape.statistics_len();
    let mut statistics =
        Statistics { mean: Vec::with_capacity(slots), rstd: Vec::with_capacity(slots), variance: Vec::new() };
    for slot in 0..slots {
        let mut all = Moments::default();
        for row in shape.rows_of(slot) {
            moments[row * chunks..][..chunks].iter().for_each(|&part| all.merge(part));
        }
        let variance = all.variance();
        statistics.mean.push(all.mean as f32);
        statistics.rstd.push(rstd(variance, eps));
        statistics.variance.push(variance as f32);
    }
    statistics
}

/// `work(row, start of the chunk in the whole, chunk)` on every chunk of every row of `out`, in parallel.
fn for_each_chunk<E: Element>(out: &mut [E], shape: &NormShape, work: impl Fn(usize, usize, &mut [E]) + Sync) {
    out.par_chunks_mut(shape.voxels).with_min_len(shape.rows_per_task()).enumerate().for_each(|(row, out)| {
        let chunks = out.par_chunks_mut(CHUNK).enumerate();
        chunks.for_each(|(chunk, out)| work(row, row * shape.voxels + chunk * CHUNK, out));
    });
}

fn apply_on<E: Element>(
    isa: Isa,
    x: Option<&[E]>,
    shape: &NormShape,
    statistics: &Statistics,
    affine: &Affine,
    y: &mut [E],
) {
    shape.check(y.len());
    shape.check(x.map_or(y.len(), <[E]>::len));
    affine.check(shape, statistics);
    for_each_chunk(y, shape, |row, start, y| {
        let map = affine.row(shape, statistics, row);
        let x = x.map(|x| &x[start..start + y.len()]);
        dispatch(isa, Apply { x, y, map });
    });
}

/// With `gy` absent, `gx` holds it.
fn backward_on<E: Element>(
    isa: Isa,
    x: &[E],
    shape: &NormShape,
    statistics: &Statistics,
    affine: &Affine,
    gy: Option<&[E]>,
    gx: &mut [E],
) -> AffineGradients {
    shape.check(x.len());
    shape.check(gx.len());
    shape.check(gy.map_or(gx.len(), <[E]>::len));
    affine.check(shape, statistics);
    let source = gy.unwrap_or(gx);
    // Per row: the sums of gz, and of gz * (x - mean), where gz is the gradient of z.
    let parts = by_chunk(shape, |row, range| {
        let map = affine.row(shape, statistics, row);
        dispatch(isa, GradientSums { x: &x[range.clone()], gy: &source[range], map })
    });
    let chunks = shape.voxels.div_ceil(CHUNK);
    let rows: Vec<(f64, f64)> = parts
        .chunks(chunks)
        .zip(0..)
        .map(|(parts, row)| {
            let sums = parts.iter().fold((0.0, 0.0), |sums, part| (sums.0 + part.0, sums.1 + part.1));
            (sums.0, sums.1 * f64::from(statistics.rstd[shape.slot(row)]))
        })
        .collect();

    // gx = rstd * (gamma gz - mean(gamma gz) - xhat * mean(gamma gz xhat)), means over the group.
    let count = shape.count() as f64;
    let means: Vec<(f32, f32)> = (0..shape.statistics_len())
        .map(|slot| {
            let (mut plain, mut with_xhat) = (0.0, 0.0);
            for row in shape.rows_of(slot) {
                let gamma = f64::from(affine.gamma[row % shape.channels]);
                plain += gamma * rows[row].0;
                with_xhat += gamma * rows[row].1;
            }
            let rstd = f64::from(statistics.rstd[slot]);
            ((-rstd * plain / count) as f32, (-rstd * rstd * with_xhat / count) as f32)
        })
        .collect();
    for_each_chunk(gx, shape, |row, start, gx| {
        let map = affine.row(shape, statistics, row);
        let range = start..start + gx.len();
        let (constant, linear) = means[shape.slot(row)];
        let gy = gy.map(|gy| &gy[range.clone()]);
        dispatch(isa, WriteGradient { x: &x[range], gy, gx, map, constant, linear });
    });
    AffineGradients {
        gamma: rows.iter().map(|row| row.1 as f32).collect(),
        beta: rows.iter().map(|row| row.0 as f32).collect(),
    }
}
