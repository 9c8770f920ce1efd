//! One effective batch gives one gradient, however many ranks share its samples. Here the ranks are threads of one process;
//! `ranks.rs` starts processes.
mod small_net;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use burn::tensor::FloatDType;
use small_net::{IGNORE, flat, network_of, partly_labelled, plan, settings};
use voxfit::config::Recompute;
use voxfit::network::plan::{NetworkPlan, Norm, Stage};
use voxfit::patch::Sample;
use voxfit::ranks::{Ranks, threads};
use voxfit::train::step::{Known, StepSettings, Supply, gradient_knowing};

/// Gradient, loss and what batch norms remember, as bits.
#[derive(Debug, PartialEq)]
struct Bits(Vec<u32>, u64, Vec<u32>);

/// Refuses once, in the middle of a step, as a budget does that has become too small.
struct Refusing<'a> {
    samples: &'a [Sample],
    blocks: AtomicUsize,
    at: usize,
}

impl Supply for Refusing<'_> {
    type Error = ();

    fn load(&self, range: Range<usize>) -> Result<Vec<Sample>, ()> {
        Ok(self.samples[range].to_vec())
    }

    fn go_on(&self) -> Result<(), ()> {
        if self.blocks.fetch_add(1, Ordering::Relaxed) + 1 == self.at { Err(()) } else { Ok(()) }
    }
}

fn one_rank(plan: &NetworkPlan, settings: &StepSettings, samples: &[Sample], refused_at: usize) -> Bits {
    let mut network = network_of(plan);
    let mut known = Known::default();
    let mut at = refused_at;
    let found = loop {
        let supply = Refusing { samples, blocks: AtomicUsize::new(0), at };
        match gradient_knowing(&network, settings, supply, &mut known) {
            Ok(found) => break found,
            Err(()) => network.parameters.iter().for_each(|parameter| drop(parameter.take_gradient())),
        }
        at = 0;
    };
    network.remember(&found.statistics);
    let buffers = network.buffers.iter().flat_map(|buffer| buffer.values.iter().map(|value| value.to_bits()));
    Bits(flat(&found).iter().map(|value| value.to_bits()).collect(), found.loss.to_bits(), buffers.collect())
}

/// What every one of `count` ranks has in the end; `of` says what each is set to, and at which block it refuses once.
fn shared(
    count: usize,
    plan: &NetworkPlan,
    samples: &[Sample],
    of: impl Fn(Ranks) -> (StepSettings, usize) + Sync,
) -> Vec<Bits> {
    thread::scope(|scope| {
        let rank = |rank: Ranks| {
            let of = &of;
            scope.spawn(move || {
                let (settings, refused_at) = of(rank);
                one_rank(plan, &settings, samples, refused_at)
            })
        };
        let ranks: Vec<_> = threads::ranks(count).into_iter().map(rank).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn is_shared(name: &str, plan: &NetworkPlan, alone: &StepSettings) {
    let samples = partly_labelled(alone.effective);
    let expected = one_rank(plan, alone, &samples, 0);
    assert!(expected.0.iter().any(|bits| *bits != 0));
    for count in [2, 3, 4, 7] {
        let found = shared(count, plan, &samples, |ranks| (StepSettings { ranks, ..alone.clone() }, 0));
        for (rank, found) in found.into_iter().enumerate() {
            assert!(found == expected, "{name}: {} samples, rank {rank} of {count}", alone.effective);
        }
    }
}

fn with_ignore(effective: usize, micro: usize) -> StepSettings {
    StepSettings { ignore: Some(IGNORE), ..settings(effective, micro, FloatDType::BF16) }
}

#[test]
fn ranks_give_the_gradient_of_one() {
    let plan = plan(Norm::Group { groups: 2 });
    for effective in [1, 2, 3, 5, 6, 8] {
        is_shared("group norm", &plan, &with_ignore(effective, 1));
    }
    is_shared("computed again", &plan, &StepSettings { recompute: Recompute::Blocks, ..with_ignore(5, 2) });
}

/// One Dice over all samples is made of sums of all of them.
#[test]
fn ranks_give_the_gradient_of_one_dice_over_the_batch() {
    let batch_dice = StepSettings { batch_dice: true, ..with_ignore(5, 2) };
    is_shared("batch Dice", &plan(Norm::Instance), &batch_dice);
    let regions = Some(Arc::new(vec![vec![1, 2], vec![2], vec![1]]));
    is_shared("batch Dice of regions", &plan(Norm::Instance), &StepSettings { regions, ..batch_dice });
}

/// A micro-batch of a batch norm is one rank's, and statistics are remembered in the order of micro-batches.
#[test]
fn ranks_give_what_a_batch_norm_remembers() {
    for (effective, micro) in [(6, 2), (5, 2), (8, 4), (4, 1)] {
        is_shared("batch norm", &plan(Norm::Batch), &with_ignore(effective, micro));
    }
}

/// A gradient of several rounds, of which the last is not full.
#[test]
fn ranks_give_the_gradient_of_a_wide_network() {
    let wide = |features, stride| Stage { features, kernel: [3; 3], stride, norm: Norm::Instance };
    let stages = vec![wide(16, [1; 3]), wide(64, [2; 3]), wide(96, [2; 3])];
    is_shared("wide", &NetworkPlan { stages, ..plan(Norm::Instance) }, &settings(3, 1, FloatDType::BF16));
}

/// What a rank has in memory at once, and whether it had to begin its step again, is its own affair.
#[test]
fn ranks_may_differ_in_what_changes_no_bit() {
    let plan = plan(Norm::Group { groups: 2 });
    let samples = partly_labelled(7);
    let alone = StepSettings { batch_dice: true, ..with_ignore(7, 2) };
    let expected = one_rank(&plan, &alone, &samples, 0);
    let found = shared(3, &plan, &samples, |ranks| {
        let rank = ranks.place().index;
        let recompute = if rank == 1 { Recompute::Blocks } else { Recompute::None };
        // In the pass over labels and scores, and in the one that counts.
        (StepSettings { micro: 1 + rank, recompute, ranks, ..alone.clone() }, [3, 40, 0][rank])
    });
    for (rank, found) in found.into_iter().enumerate() {
        assert!(found == expected, "rank {rank}");
    }
}
