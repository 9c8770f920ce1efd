//! Where blocks lie, and what is asked of the system for them.
use proptest::prelude::*;

use super::*;

fn table(pieces: &[(usize, usize)]) -> Table {
    let mut table = Table::new();
    pieces.iter().for_each(|(start, size)| assert!(table.insert(*start, *size)));
    table
}

#[test]
fn pieces_that_touch_are_joined() {
    let table = table(&[(10, 5), (20, 5), (15, 5)]);
    assert_eq!(table.as_slice(), [(10, 15)]);
    assert!(table.contains(10) && table.contains(24) && !table.contains(25) && !table.contains(9));
}

#[test]
fn a_cut_leaves_both_ends() {
    let mut table = table(&[(10, 15)]);
    assert!(table.cut(12, 3));
    assert_eq!(table.as_slice(), [(10, 2), (15, 10)]);
}

/// Blocks never overlap and lie in what is owned; what is freed is whole again and goes back.
fn apart(sizes: &[usize], keep: u64) -> Result<(), TestCaseError> {
    let mut spans = Box::new(Spans::new(SYSTEM));
    for _ in 0..2 {
        let mut live: Vec<(usize, usize)> = Vec::new();
        for (number, pages) in sizes.iter().enumerate() {
            let size = pages * PAGE;
            let start = spans.take(size).unwrap();
            let last = start + size - 1;
            prop_assert!(start.is_multiple_of(PAGE) && spans.owned.contains(start) && spans.owned.contains(last));
            prop_assert!(live.iter().all(|(other, length)| last < *other || other + length <= start));
            live.push((start, size));
            if keep >> (number % 64) & 1 == 0 {
                let (start, size) = live.swap_remove(number / 2 % live.len());
                spans.give(start, size);
            }
        }
        live.into_iter().for_each(|(start, size)| spans.give(start, size));
        prop_assert_eq!(spans.used, 0);
        prop_assert_eq!(spans.free.as_slice(), spans.owned.as_slice());
    }
    spans.release();
    prop_assert_eq!(spans.owned.count, 0);
    Ok(())
}

/// A case that once was wrong.
#[test]
fn blocks_of_many_sizes_are_apart() {
    let sizes = [359, 165, 58, 121, 1, 571, 181, 277, 2, 201, 124, 196, 1, 57, 95, 580, 113, 246, 356, 57, 357];
    apart(&sizes, 17_097_519_417_078_583_729).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_are_apart(sizes in prop::collection::vec(1usize..600, 1..60), keep in any::<u64>()) {
        apart(&sizes, keep)?;
    }
}

/// Where the system has not the whole arena to give yet, blocks come to lie where they would in it.
#[test]
fn an_arena_in_pieces_has_the_same_places() {
    let reluctant = Pages { map: |place, size| (size <= 3 * REGION).then_some(place), unmap: |_, _| () };
    let generous = Pages { map: |place, _| Some(place), unmap: |_, _| () };
    let places = |pages| {
        let mut spans = Box::new(Spans::new(pages));
        spans.arena = Arena { bytes: 12 * REGION, border: REGION };
        let sizes = [REGION / 4, 2 * REGION, REGION / 2, REGION, REGION / 2, 3 * REGION, REGION / 4];
        let places = sizes.map(|size| spans.take(size).unwrap());
        (places, spans.owned.total())
    };
    let (whole, owned) = places(generous);
    let (pieces, less) = places(reluctant);
    assert_eq!(pieces, whole);
    assert!(less < owned, "{less} {owned}");
}

/// A step like the last one needs nothing new, and what is larger than any gap only what it lacks, where the system has
/// pages beside those that are there. (Its own may not be: other tests take pages at the same place.)
#[test]
fn the_same_again_needs_no_more() {
    let beside = Pages { map: |place, _| Some(place), unmap: |_, _| () };
    let elsewhere = Pages { map: |place, size| Some(place + size + 1024 * REGION), unmap: |_, _| () };
    for (pages, kept) in [(beside, 0), (elsewhere, 1)] {
        let mut spans = Box::new(Spans::new(pages));
        let mut owned = Vec::new();
        for _ in 0..3 {
            let blocks = [7, 300, 900, 300, 5].map(|pages| (spans.take(pages * PAGE).unwrap(), pages * PAGE));
            blocks.into_iter().for_each(|(start, size)| spans.give(start, size));
            owned.push(spans.owned.total());
        }
        assert_eq!(owned, [owned[0]; 3]);
        let large = owned[0] + REGION;
        let start = spans.take(large).unwrap();
        assert_eq!(spans.owned.total(), kept * owned[0] + large);
        spans.give(start, large);
        spans.release();
        assert_eq!(spans.owned.count, 0);
    }
}
