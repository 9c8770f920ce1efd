//! What a convolution reads and what its input gradient writes: one tensor, or several whose channels stand behind each
//! other as if they had been concatenated.
//!
//! A part may be kept as it was before its normalisation: the norm, the affine map and the LeakyReLU are then applied to
//! every row as it is read, and rounded to the stored type, so that the values are those a separate pass would have
//! written, bit for bit.
use crate::ops::cpu::element::Element;
use crate::ops::cpu::isa::{Isa, Kernel, LANES, Lanes, dispatch};
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
    pub values: &'a [E],
    pub map: Option<RowMap>,
}

/// Channel `channel` of sample `sample` of the concatenated parts.
pub(super) fn channel<'a, E>(parts: &[Part<'a, E>], voxels: usize, sample: usize, channel: usize) -> Channel<'a, E> {
    let mut index = channel;
    for part in parts {
        if index < part.channels {
            let row = sample * part.channels + index;
            return Channel { values: &part.values[row * voxels..][..voxels], map: part.maps.map(|maps| maps[row]) };
        }
        index -= part.channels;
    }
    panic!("channel {channel} of a convolution's input that has fewer");
}

impl<E: Element> Channel<'_, E> {
    /// Widens `self.values[from..from + to.len()]` into `to`, normalised and activated where that is due.
    pub fn read(&self, isa: Isa, from: usize, to: &mut [f32]) {
        dispatch(isa, Read { from: &self.values[from..from + to.len()], map: self.map, to });
    }
}

struct Read<'a, E> {
    from: &'a [E],
    map: Option<RowMap>,
    to: &'a mut [f32],
}

impl<E: Element> Kernel for Read<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (from, from_tail) = self.from.as_chunks::<LANES>();
        let (to, to_tail) = self.to.as_chunks_mut::<LANES>();
        let Some(map) = self.map else {
            for (from, to) in from.iter().zip(to) {
                E::load::<L>(from).store(to);
            }
            for (from, to) in from_tail.iter().zip(to_tail) {
                *to = from.to_f32();
            }
            return;
        };
        let lanes = Map::<L>::new(map);
        for (from, to) in from.iter().zip(to) {
            E::round(lanes.forward(E::load::<L>(from))).store(to);
        }
        if !from_tail.is_empty() {
            // One lane at a time would round the same; whole lanes are quicker.
            let mut values = [0.0; LANES];
            for (value, from) in values.iter_mut().zip(from_tail) {
                *value = from.to_f32();
            }
            E::round(lanes.forward(L::load(&values))).store(&mut values);
            to_tail.copy_from_slice(&values[..to_tail.len()]);
        }
    }
}

/// The parts of a result, written row by row from several threads.
pub(super) struct Targets<'a, E>(Vec<(usize, SharedSlice<'a, E>)>);

impl<'a, E> Targets<'a, E> {
    pub fn new(parts: &'a mut [PartMut<'_, E>]) -> Self {
        Self(parts.iter_mut().map(|part| (part.channels, SharedSlice::new(part.values))).collect())
    }

    /// `length` elements from `start` of channel `channel` of sample `sample`.
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
