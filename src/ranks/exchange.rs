//! The gradient of a step from everybody's parts of it.
//!
//! The gradient is cut into chunks of at most 256 KiB, from the last parameters to the first, which is about the order in
//! which a backward pass has done with them. Chunks go in rounds of one for each rank: every rank sends each its parts of
//! the chunk that one adds up, and what it adds up is sent back to all in the next round. So each rank sends and gets about
//! twice the gradient's bytes however many there are (times the parts it has: one, where its samples are 2, 4, 8, ... of
//! as many), and holds a few chunks at a time beside the gradient itself. The rounds run on a thread of their own while
//! the last micro-batch goes on.
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use burn::tensor::{Device, Tensor, TensorData};

use super::{Link, Ranks, wait};
use crate::network::{Parameter, host, is_head, little_endian};
use crate::ops::tree::{Stretch, join};

/// Most values of a chunk.
const CHUNK: usize = 64 << 10;
/// Rounds that are packed and wait to be sent.
const AHEAD: usize = 1;
/// Until it is tried again to hand over a round for which there was no room.
const PAUSE: Duration = Duration::from_micros(200);

/// A stretch of a parameter's values.
type Piece = (usize, Range<usize>);
/// Pieces that are added up by one rank together.
type Chunk = Vec<Piece>;
/// A message for, or from, each rank.
type Messages = Vec<Vec<u8>>;

/// A step's exchange.
pub struct Exchange {
    /// Of each round, for each rank the chunk that it adds up; those of the last round may be empty.
    rounds: Arc<Vec<Vec<Chunk>>>,
    /// Parts that this rank has of every parameter.
    own: usize,
    /// Rounds that are handed over.
    packed: usize,
    /// Of a parameter that is partly handed over, its parts.
    taken: Vec<Option<Vec<Tensor<1>>>>,
    /// A round that found no room.
    ready: Option<Messages>,
    hand_over: SyncSender<Messages>,
    sums: Receiver<(Chunk, Vec<f32>)>,
}

impl Exchange {
    /// For a step whose samples the ranks share as `stretches` say; `None` for a process by itself.
    pub fn new(ranks: &Ranks, parameters: &[Parameter], stretches: &[Stretch]) -> Option<Self> {
        let link = ranks.link()?.clone();
        let place = link.place();
        let lengths: Vec<usize> = order(parameters).iter().map(|number| parameters[*number].value.dims()[0]).collect();
        let rounds = Arc::new(rounds(&order(parameters), &lengths, place.count));
        let on_processor = parameters.first().is_some_and(|parameter| parameter.value.device() == Device::flex());
        // Other devices add up as it comes: a rank has one part.
        let parts = |stretch: &Stretch| match on_processor {
            true => stretch.parts(),
            false if stretch.samples.is_empty() => Vec::new(),
            false => vec![stretch.samples.clone()],
        };
        let parts: Vec<Vec<Range<usize>>> = stretches.iter().map(parts).collect();
        let own = parts.get(place.index).map_or(0, Vec::len);
        let samples = stretches.first().map_or(0, |stretch| stretch.of);
        let (hand_over, handed_over) = mpsc::sync_channel(AHEAD);
        let (out, sums) = mpsc::channel();
        let adder = Adder { link, rounds: rounds.clone(), parts, samples, in_tree: on_processor };
        std::thread::spawn(move || adder.run(&handed_over, &out));
        let taken = (0..parameters.len()).map(|_| None).collect();
        Some(Self { rounds, own, packed: 0, taken, ready: None, hand_over, sums })
    }

    /// Whether anything was handed over: the others count on the rest from then on.
    pub fn has_begun(&self) -> bool {
        self.packed > 0
    }

    /// Hands over what the backward pass has done with, as far as there is room.
    pub fn offer(&mut self, parameters: &[Parameter]) {
        loop {
            if self.ready.is_none() {
                let done =
                    |(number, _): &Piece| self.taken[*number].is_some() || parameters[*number].sink.is_complete();
                match self.rounds.get(self.packed) {
                    Some(round) if round.iter().flatten().all(done) => self.ready = Some(self.pack(parameters)),
                    _ => return,
                }
            }
            let handed_over = self.ready.take().map(|messages| self.hand_over.try_send(messages));
            // An adder that is gone is found out when its sums are waited for.
            if let Some(Err(TrySendError::Full(messages))) = handed_over {
                self.ready = Some(messages);
                return;
            }
        }
    }

    /// Hands over the rest and gives the sums of all, by parameter; `go_on` is asked while the others are waited for.
    ///
    /// # Errors
    /// The first of `go_on`.
    pub fn finish<E>(
        mut self,
        parameters: &[Parameter],
        go_on: impl Fn() -> Result<(), E>,
    ) -> Result<Vec<Tensor<1>>, E> {
        // Taken as sums come in: by then the parts they are made of are gone.
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); parameters.len()];
        let mut left: usize = self.rounds.iter().flatten().filter(|chunk| !chunk.is_empty()).count();
        while left > 0 {
            if self.ready.is_none() && self.packed < self.rounds.len() {
                self.ready = Some(self.pack(parameters));
            }
            if let Some(Err(TrySendError::Full(messages))) =
                self.ready.take().map(|ready| self.hand_over.try_send(ready))
            {
                self.ready = Some(messages);
            } else if self.packed < self.rounds.len() {
                continue;
            }
            // Of the first round no sum comes before the second is handed over.
            let (chunk, sum) = match &self.ready {
                None => wait(&self.sums, &go_on)?,
                Some(_) => match self.sums.recv_timeout(PAUSE) {
                    Ok(found) => found,
                    Err(_) => {
                        go_on()?;
                        continue;
                    }
                },
            };
            left -= 1;
            let mut sum = &sum[..];
            for (number, range) in chunk {
                let (piece, rest) = sum.split_at(range.len().min(sum.len()));
                values[number].resize(parameters[number].value.dims()[0], 0.0);
                values[number][range].copy_from_slice(piece);
                sum = rest;
            }
        }
        let tensor = |(parameter, values): (&Parameter, Vec<f32>)| {
            let length = values.len();
            Tensor::from_data(TensorData::new(values, [length]), &parameter.value.device())
        };
        Ok(parameters.iter().zip(values).map(tensor).collect())
    }

    /// This rank's parts of the next round.
    fn pack(&mut self, parameters: &[Parameter]) -> Messages {
        let rounds = self.rounds.clone();
        let messages = rounds[self.packed].iter().map(|chunk| self.parts_of(chunk, parameters)).collect();
        self.packed += 1;
        messages
    }

    /// Part after part, of each the chunk's pieces.
    fn parts_of(&mut self, chunk: &Chunk, parameters: &[Parameter]) -> Vec<u8> {
        let mut parts = vec![Vec::new(); self.own];
        for (number, range) in chunk {
            let parameter = &parameters[*number];
            let tensors = self.taken[*number].get_or_insert_with(|| parameter.take_parts());
            for (place, part) in parts.iter_mut().enumerate() {
                match tensors.get(place) {
                    Some(tensor) => part.extend_from_slice(&little_endian(&host(tensor)[range.clone()])),
                    // No backward pass reached it.
                    None => part.resize(part.len() + 4 * range.len(), 0),
                }
            }
            if range.end == parameter.value.dims()[0] {
                self.taken[*number] = Some(Vec::new());
            }
        }
        parts.concat()
    }
}

/// Parameters in about the order in which backward passes have done with them. Those of heads are few values, and some are
/// not reached at all: they come last.
fn order(parameters: &[Parameter]) -> Vec<usize> {
    let (heads, others): (Vec<usize>, Vec<usize>) =
        (0..parameters.len()).rev().partition(|number| is_head(&parameters[*number].name));
    [others, heads].concat()
}

/// The chunks of parameters `order` with these numbers of values, in rounds of `count`.
fn rounds(order: &[usize], lengths: &[usize], count: usize) -> Vec<Vec<Chunk>> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut room = 0;
    for (number, length) in order.iter().zip(lengths) {
        let mut start = 0;
        while start < *length {
            if room == 0 {
                chunks.push(Vec::new());
                room = CHUNK;
            }
            let end = (start + room).min(*length);
            room -= end - start;
            if let Some(chunk) = chunks.last_mut() {
                chunk.push((*number, start..end));
            }
            start = end;
        }
    }
    let full = |round: &[Chunk]| (0..count).map(|rank| round.get(rank).cloned().unwrap_or_default()).collect();
    chunks.chunks(count).map(full).collect()
}

fn length(chunk: &Chunk) -> usize {
    chunk.iter().map(|(_, range)| range.len()).sum()
}

/// What runs the rounds.
struct Adder {
    link: Arc<dyn Link>,
    rounds: Arc<Vec<Vec<Chunk>>>,
    /// By rank.
    parts: Vec<Vec<Range<usize>>>,
    /// Of the step.
    samples: usize,
    /// Whether parts are those of the tree.
    in_tree: bool,
}

impl Adder {
    /// Ends when all is done, or when nobody hands over or takes what comes out any more.
    fn run(self, handed_over: &Receiver<Messages>, out: &mpsc::Sender<(Chunk, Vec<f32>)>) {
        let index = self.link.place().index;
        let mut sum = Vec::new();
        for number in 0..=self.rounds.len() {
            let parts = match self.rounds.get(number) {
                Some(_) => handed_over.recv().ok(),
                None => Some(vec![Vec::new(); self.parts.len()]),
            };
            let Some(parts) = parts else { return };
            let messages = parts.into_iter().map(|parts| [little_endian(&sum).into_owned(), parts].concat()).collect();
            let Ok(found) = self.link.swap(messages).recv() else { return };
            let before = number.checked_sub(1).and_then(|before| self.rounds.get(before));
            let mut parts = Vec::new();
            for (rank, message) in found.into_iter().enumerate() {
                let summed = before.and_then(|round| round.get(rank));
                let (of_before, rest) = message.split_at((4 * summed.map_or(0, length)).min(message.len()));
                if let Some(chunk) = summed.filter(|chunk| !chunk.is_empty())
                    && out.send((chunk.clone(), floats(of_before))).is_err()
                {
                    return;
                }
                parts.push(floats(rest));
            }
            let own = self.rounds.get(number).and_then(|round| round.get(index)).map_or(0, length);
            sum = self.add(parts, own);
        }
    }

    /// The sum of every rank's parts of a chunk of `length` values.
    fn add(&self, messages: Vec<Vec<f32>>, length: usize) -> Vec<f32> {
        if length == 0 {
            return Vec::new();
        }
        let parts =
            messages.iter().zip(&self.parts).flat_map(|(message, ranges)| ranges.iter().zip(message.chunks(length)));
        let parts = parts.map(|(range, part)| (range.clone(), part.to_vec()));
        let add = |into: &mut Vec<f32>, from: Vec<f32>| into.iter_mut().zip(from).for_each(|(sum, part)| *sum += part);
        let sum = match self.in_tree {
            true => join(parts, self.samples, add),
            false => parts.map(|(_, part)| part).reduce(|mut sum, part| {
                add(&mut sum, part);
                sum
            }),
        };
        // What is no sum of all samples must not pass for one.
        sum.unwrap_or_else(|| vec![f32::NAN; length])
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}

/// Bytes that an exchange holds beside the gradient, on a rank of `count` that each have at most `parts` parts: a round
/// that waits, one that is packed, one under way (sent and got), and one that is added up.
pub fn room(count: usize, parts: usize) -> u64 {
    let round = (4 * CHUNK * count) as u64;
    match count {
        0 | 1 => 0,
        _ => round * (2 + AHEAD as u64) * parts as u64 + round * (2 * parts as u64 + 4),
    }
}

/// Bytes that each rank sends in a step, and gets, for a gradient of `values` f32 values: its parts of what the others add
/// up, and what it has added up to each of the others.
pub fn traffic(values: u64, count: usize, parts: usize) -> u64 {
    let count = count.max(1) as u64;
    4 * values * (count - 1) * (parts as u64 + 1) / count
}
