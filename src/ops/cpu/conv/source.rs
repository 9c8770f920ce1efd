//! What a convolution reads and what its input gradient writes: one tensor, or several whose channels stand behind each
//! other as if they had been concatenated.
//!
//! A part may be kept as it was before its normalisation: the norm, the affine map and the LeakyReLU are then applied to
//! every row as it is read, and rounded to the stored type, so that the values are those a separate pass would have
//! written, bit for bit.
use crate::ops::cpu::element::{Element, load_tail, sixteen};
use crate::ops::cpu::isa::{LANES, Lanes};
use crate::ops::cpu::norm::{Map, RowMap};
use crate::ops::cpu::shared::SharedSlice;

/// Some of the channels that a convolution reads.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a, E> {
    /// `[batch, channel, z, y, x]`.
    pub values: &'a [E],
    pub channels: usize,
    /// What is applied while reading, `[batch, channel]`; `None` reads the values as they are.
    pub maps: Option<&'a [RowMap]>,
}

/// Some of the channels whose gradient is written.
#[derive(Debug)]
pub struct PartMut<'a, E> {
    /// `[batch, channel, z, y, x]`.
    pub values: &'a mut [E],
    pub channels: usize,
}

/// One channel of one sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel<'a, E> {
    /// From the channel's first voxel to the end of the part: vectors may be read beyond the channel.
    values: &'a [E],
    map: Option<RowMap>,
}

/// Channel `channel` of sample `sample` of the concatenated parts.
pub(super) fn channel<'a, E>(parts: &[Part<'a, E>], voxels: usize, sample: usize, channel: usize) -> Channel<'a, E> {
    let mut index = channel;
    for part in parts {
        if index < part.channels {
            let row = sample * part.channels + index;
            return Channel { values: &part.values[row * voxels..], map: part.maps.map(|maps| maps[row]) };
        }
        index -= part.channels;
    }
    panic!("channel {channel} of a convolution's input that has fewer");
}

/// Reads rows of voxels in the form in which a kernel multiplies them.
pub(super) trait Row<T> {
    /// Writes the voxels `from..from + width` to the start of `to`, whole vectors of them: `to` has room for 15 more.
    fn read<L: Lanes>(&self, from: usize, width: usize, to: &mut [T]);
}

impl<E: Element> Channel<'_, E> {
    /// Sixteen voxels from `at`, normalised and activated where that is due.
    #[inline(always)]
    fn lanes<L: Lanes>(&self, at: usize) -> L {
        let values = &self.values[at..];
        let raw: L = if values.len() >= LANES { E::load(sixteen(values)) } else { load_tail(values, 0.0) };
        match self.map {
            Some(map) => E::round(Map::<L>::new(map).forward(raw)),
            None => raw,
        }
    }
}

/// In f32.
impl<E: Element> Row<f32> for Channel<'_, E> {
    #[inline(always)]
    fn read<L: Lanes>(&self, from: usize, width: usize, to: &mut [f32]) {
        for (x, to) in (0..width).step_by(LANES).zip(to.as_chunks_mut::<LANES>().0) {
            self.lanes::<L>(from + x).store(to);
        }
    }
}

/// The bits of bf16.
impl<E: Element> Row<u16> for Channel<'_, E> {
    #[inline(always)]
    fn read<L: Lanes>(&self, from: usize, width: usize, to: &mut [u16]) {
        for (x, to) in (0..width).step_by(LANES).zip(to.as_chunks_mut::<LANES>().0) {
            self.lanes::<L>(from + x).store_bf16(to);
        }
    }
}

/// Two channels, or the last one and zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a, E> {
    pub even: Channel<'a, E>,
    pub odd: Option<Channel<'a, E>>,
}

/// Pairs of bf16 in 32 bits.
impl<E: Element> Row<f32> for Pair<'_, E> {
    #[inline(always)]
    fn read<L: Lanes>(&self, from: usize, width: usize, to: &mut [f32]) {
        for (x, to) in (0..width).step_by(LANES).zip(to.as_chunks_mut::<LANES>().0) {
            let odd = match &self.odd {
                Some(odd) => odd.lanes::<L>(from + x),
                None => L::splat(0.0),
            };
            L::pair_bf16(self.even.lanes(from + x), odd).store(to);
        }
    }
}

/// The parts of a result, written row by row from several threads.
pub(super) struct Targets<'a, E>(Vec<(usize, SharedSlice<'a, E>)>);

impl<'a, E> Targets<'a, E> {
    pub fn new(parts: &'a mut [PartMut<'_, E>]) -> Self {
        Self(parts.iter_mut().map(|part| (part.channels, SharedSlice::new(part.values))).collect())
    }

    /// Channel `channel` of sample `sample`, `voxels` elements of it from `start`.
    ///
    /// # Safety
    /// As [`SharedSlice::slice`].
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, voxels: usize, sample: usize, channel: usize, start: usize, length: usize) -> &mut [E] {
        let mut index = channel;
        for (channels, values) in &self.0 {
            if index < *channels {
                // SAFETY: the caller's promise.
                return unsafe { values.slice((sample * channels + index) * voxels + start, length) };
            }
            index -= channels;
        }
        panic!("channel {channel} of a convolution's result that has fewer");
    }
}
