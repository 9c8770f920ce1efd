//! Ranks that are threads of one process: what several processes do, tried without any.
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{Link, Peer, Place, Ranks};

/// A message for, or from, each rank.
type Messages = Vec<Vec<u8>>;
/// What a rank hands in, and where it waits.
type Swap = (Messages, Sender<Messages>);

struct Post {
    count: usize,
    /// By number of the swap, of each rank that has come so far; kept for the late ones.
    swaps: Mutex<Vec<Vec<Option<Messages>>>>,
    arrived: Condvar,
}

struct Desk {
    place: Place,
    swaps: Mutex<Sender<Swap>>,
}

/// So many ranks, of which each is to be used by a thread of its own.
pub fn ranks(count: usize) -> Vec<Ranks> {
    let post = Arc::new(Post { count, swaps: Mutex::default(), arrived: Condvar::new() });
    let desk = |index| {
        let (hand_in, handed_in) = mpsc::channel();
        let post = post.clone();
        std::thread::spawn(move || clerk(&post, index, &handed_in));
        Ranks::of(Arc::new(Desk { place: Place { index, count }, swaps: Mutex::new(hand_in) }))
    };
    (0..count).map(desk).collect()
}

fn clerk(post: &Post, index: usize, handed_in: &Receiver<Swap>) {
    for (number, (messages, out)) in handed_in.iter().enumerate() {
        let mut swaps = post.swaps.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = swaps.len().max(number + 1);
        swaps.resize_with(wanted, || vec![None; post.count]);
        swaps[number][index] = Some(messages);
        post.arrived.notify_all();
        while swaps[number].iter().any(Option::is_none) {
            swaps = post.arrived.wait(swaps).unwrap_or_else(PoisonError::into_inner);
        }
        let found = swaps[number].iter().flatten().map(|messages| messages[index].clone()).collect();
        let _ = out.send(found);
    }
}

impl Link for Desk {
    fn place(&self) -> Place {
        self.place
    }

    fn swap(&self, messages: Messages) -> Receiver<Messages> {
        let (out, coming) = mpsc::channel();
        let _ = self.swaps.lock().unwrap_or_else(PoisonError::into_inner).send((messages, out));
        coming
    }

    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }
}
