//! Works through cases several at a time, with a bound on what those under way may hold together.
//!
//! Plain threads rather than rayon jobs: a rayon thread that waits for an inner parallel loop may pick up another case
//! and then wait for the memory that it holds itself.
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct Queue {
    next: usize,
    running: usize,
    held: u64,
    stopped: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives back what an item held, also when its work panics (then nothing further is begun).
struct Turn<'a> {
    shared: &'a Shared,
    cost: u64,
    failed: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.running -= 1;
        queue.held -= self.cost;
        queue.stopped |= self.failed;
        self.shared.changed.notify_all();
    }
}

/// `work(0..costs.len())`, begun in this order, at most `rayon::current_num_threads()` at once and, unless one runs
/// alone, at most `budget` of their `costs` (bytes) together. Results in order.
///
/// # Errors
/// Of the items that failed, the first in order; none is begun after a failure is seen.
pub(crate) fn run<T: Send, E: Send>(
    costs: &[u64],
    budget: u64,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let threads = rayon::current_num_threads().clamp(1, costs.len().max(1));
    let shared =
        Shared { queue: Mutex::new(Queue { next: 0, running: 0, held: 0, stopped: false }), changed: Condvar::new() };
    let done = Mutex::new(Vec::with_capacity(costs.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, mut turn)) = next(&shared, costs, budget) {
                    let result = work(index);
                    turn.failed = result.is_err();
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn next<'a>(shared: &'a Shared, costs: &[u64], budget: u64) -> Option<(usize, Turn<'a>)> {
    let mut queue = shared.lock();
    loop {
        if queue.stopped {
            return None;
        }
        let index = queue.next;
        let cost = *costs.get(index)?;
        let held = queue.held.checked_add(cost);
        if let Some(held) = held.filter(|&held| queue.running == 0 || held <= budget) {
            queue.next += 1;
            queue.running += 1;
            queue.held = held;
            // A panic in the work leaves `failed` as it is here.
            return Some((index, Turn { shared, cost, failed: true }));
        }
        queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use super::run;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn results_are_in_order_and_the_budget_holds() {
        let costs: Vec<u64> = (0..200).map(|index| 1 + index % 7).collect();
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let result: Result<Vec<usize>, ()> = run(&costs, 9, |index| {
            most.fetch_max(held.fetch_add(costs[index], Ordering::SeqCst) + costs[index], Ordering::SeqCst);
            std::thread::yield_now();
            held.fetch_sub(costs[index], Ordering::SeqCst);
            Ok(index)
        });
        assert_eq!(result, Ok((0..200).collect()));
        assert!(most.load(Ordering::SeqCst) <= 9);
    }

    #[test]
    fn an_item_above_the_budget_runs_alone() {
        assert_eq!(run::<_, ()>(&[u64::MAX, 1, u64::MAX], 10, Ok), Ok(vec![0, 1, 2]));
    }

    #[test]
    fn the_first_failure_in_order_is_returned() {
        let result: Result<Vec<()>, usize> = run(&[1; 64], 2, |index| if index % 2 == 1 { Err(index) } else { Ok(()) });
        assert_eq!(result, Err(1));
    }
}
