//! What a convolution reads and what its input gradient writes: one tensor, or several whose channels stand behind each
//! other as if they had been concatenated.
//!
//! A part may be kept as it was before its normalisation: the norm, the affine map and the LeakyReLU are then applied to
//! every row as it is read, and rounded to the stored type, so that the values are those a separate pass would have
//! written, bit for bit.
use crate::ops::cpu::element::{Element, load_tail};
use crate::ops::cpu::isa::{LANES, Lanes};
use crate::ops::cpu::norm::{Map, RowMap};
use crate::ops::cpu::shared::SharedSlice;

/// Some of the channels that a convolution reads.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a, E> {
    /// `[batch, channel, z, y, x]`.
    pub values: &'a [E],
    /// How many.
    pub channels: usize,
    /// What is applied while reading, `[batch, channel]`; `None` reads the values as they are.
    pub maps: Option<&'a [RowMap]>,
}

/// Some of the channels whose gradient is written.
#[derive(Debug)]
pub struct PartMut<'a, E> {
    /// `[batch, channel, z, y, x]`.
    pub values: &'a mut [E],
    /// How many.
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
    /// Asks for the voxels `from..from + width` to be brought near: they will be read soon.
    fn prefetch(&self, from: usize, width: usize);
    /// Writes the voxels `from..from + width` to the start of `to`, whole vectors of them: `to` has room for 15 more.
    fn read<L: Lanes>(&self, from: usize, width: usize, to: &mut [T]);
}

/// `$store` for every sixteen of `$width` values of some channels, `$to` being sixteen of the target. A macro, because a
/// closure is not sure to be compiled into the function whose vector instructions it needs.
macro_rules! by_lanes {
    ([$($channel:ident = $source:expr),+], $from:ident, $width:ident, $target:ident, $to:ident => $store:expr) => {{
        let whole = $width.next_multiple_of(LANES);
        let target = $target[..whole].as_chunks_mut::<LANES>().0;
        $(let $channel = &$source.values[$from..];)+
        if $($channel.len() >= whole)&&+ {
            $(let $channel = $channel[..whole].as_chunks::<LANES>().0;)+
            for (index, $to) in target.iter_mut().enumerate() {
                $(let $channel: L = E::load(&$channel[index]);)+
                $store;
            }
        } else {
            for (index, $to) in target.iter_mut().enumerate() {
                $(let $channel: L = up_to_the_end::<E, L>($channel, index);)+
                $store;
            }
        }
    }};
}

/// The sixteen values of that index, zeros beyond the end of the part.
#[inline(always)]
fn up_to_the_end<E: Element, L: Lanes>(values: &[E], index: usize) -> L {
    let values = &values[(index * LANES).min(values.len())..];
    load_tail(&values[..values.len().min(LANES)], 0.0)
}

impl<E> Channel<'_, E> {
    /// What the values are normalised and activated by, in all lanes.
    #[allow(clippy::manual_map, reason = "a closure may stay outside the vector code")]
    #[inline(always)]
    fn lanes_map<L: Lanes>(&self) -> Option<Map<L>> {
        match self.map {
            Some(map) => Some(Map::new(map)),
            None => None,
        }
    }
}

#[inline(always)]
fn mapped<E: Element, L: Lanes>(map: Map<L>, raw: L) -> L {
    E::round(map.forward(raw))
}

impl<E> Channel<'_, E> {
    #[inline(always)]
    fn bring_near(&self, from: usize, width: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in (from..self.values.len().min(from + width)).step_by(64 / size_of::<E>()) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: within the slice; and a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.values.as_ptr().add(line).cast()) };
        }
    }
}

/// In f32.
impl<E: Element> Row<f32> for Channel<'_, E> {
    #[inline(always)]
    fn prefetch(&self, from: usize, width: usize) {
        self.bring_near(from, width);
    }
    #[inline(always)]
    fn read<L: Lanes>(&self, from: usize, width: usize, target: &mut [f32]) {
        match self.lanes_map::<L>() {
            None => by_lanes!([a = self], from, width, target, to => a.store(to)),
            Some(map) => by_lanes!([a = self], from, width, target, to => mapped::<E, L>(map, a).store(to)),
        }
    }
}

/// The bits of bf16.
impl<E: Element> Row<u16> for Channel<'_, E> {
    #[inline(always)]
    fn prefetch(&self, from: usize, width: usize) {
        self.bring_near(from, width);
    }
    #[inline(always)]
    fn read<L: Lanes>(&self, from: usize, width: usize, target: &mut [u16]) {
        match self.lanes_map::<L>() {
            None => {
                let bits: &[u16] = bytemuck::cast_slice(&self.values[from..]);
                let whole = width.next_multiple_of(LANES);
                if bits.len() >= whole {
                    let (bits, target) = (bits[..whole].as_chunks::<LANES>().0, target.as_chunks_mut::<LANES>().0);
                    for (from, to) in bits.iter().zip(target) {
                        *to = *from;
                    }
                } else {
                    target[..bits.len()].copy_from_slice(bits);
                    target[bits.len()..whole].fill(0);
                }
            }
            Some(map) => by_lanes!([a = self], from, width, target, to => map.forward(a).store_bf16(to)),
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
    fn prefetch(&self, from: usize, width: usize) {
        self.even.bring_near(from, width);
        if let Some(odd) = &self.odd {
            odd.bring_near(from, width);
        }
    }
    #[inline(always)]
    fn read<L: Lanes>(&self, from: usize, width: usize, target: &mut [f32]) {
        let (even, zero) = (self.even.lanes_map::<L>(), L::splat(0.0));
        let Some(other) = &self.odd else {
            return match even {
                None => by_lanes!([a = self.even], from, width, target, to => L::pair_bf16(a, zero).store(to)),
                Some(even) => by_lanes!([a = self.even], from, width, target, to => {
                    L::pair_rounded(even.forward(a), zero).store(to)
                }),
            };
        };
        match (even, other.lanes_map::<L>()) {
            (None, None) => {
                by_lanes!([a = self.even, b = other], from, width, target, to => L::pair_bf16(a, b).store(to))
            }
            (Some(even), Some(odd)) => by_lanes!([a = self.even, b = other], from, width, target, to => {
                L::pair_rounded(even.forward(a), odd.forward(b)).store(to)
            }),
            // Values that are not mapped are bf16, which rounding leaves alone.
            (None, Some(odd)) => by_lanes!([a = self.even, b = other], from, width, target, to => {
                L::pair_rounded(a, odd.forward(b)).store(to)
            }),
            (Some(even), None) => by_lanes!([a = self.even, b = other], from, width, target, to => {
                L::pair_rounded(even.forward(a), b).store(to)
            }),
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
