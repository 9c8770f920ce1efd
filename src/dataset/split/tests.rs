//! What holds of every split, and of the file of one.
use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::{Deal, SEED, Split, SplitFile, TooFewPatients};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("case_{index:03}")).collect()
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn plain<'a>(ids: &'a [&'a str], folds: usize, seed: u64) -> Deal<'a> {
    Deal { ids, patients: None, traits: None, folds, seed }
}

/// The fold that holds out each case; every case must be in exactly one.
fn fold_of(deal: &Deal<'_>) -> Vec<usize> {
    let mut found = vec![None; deal.ids.len()];
    for fold in 0..deal.folds {
        let split = deal.split(Some(fold)).unwrap();
        assert!(!split.validates_on_training_cases && split.train.is_sorted() && split.validation.is_sorted());
        let mut both = [split.train, split.validation.clone()].concat();
        both.sort_unstable();
        assert_eq!(both, (0..deal.ids.len()).collect::<Vec<_>>());
        for case in split.validation {
            assert_eq!(found[case].replace(fold), None, "case {case} is held out twice");
        }
    }
    found.into_iter().map(Option::unwrap).collect()
}

fn sizes(folds: &[usize], count: usize, of: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..count).map(|fold| (0..folds.len()).filter(|&case| folds[case] == fold && of(case)).count()).collect()
}

fn spread(sizes: &[usize]) -> usize {
    sizes.iter().max().unwrap() - sizes.iter().min().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_case_is_held_out_once(count in 2usize..120, folds in 2usize..11, seed: u32) {
        prop_assume!(count >= folds);
        let names = names(count);
        let ids = refs(&names);
        let found = fold_of(&plain(&ids, folds, seed.into()));
        prop_assert!(spread(&sizes(&found, folds, |_| true)) <= 1);
    }

    #[test]
    fn the_order_of_ids_does_not_matter(count in 5usize..60, turn in 0usize..60, stratify: bool, seed: u32) {
        let names = names(count);
        let ids = refs(&names);
        let mut turned = ids.clone();
        turned.rotate_left(turn % count);
        let held = |ids: &[&str]| {
            let traits: Vec<Vec<u16>> = ids.iter().map(|id| vec![u16::from(id.ends_with('3')) + 1]).collect();
            let deal = Deal { traits: stratify.then_some(&traits), ..plain(ids, 5, seed.into()) };
            let held = deal.split(Some(2)).unwrap().validation;
            let mut held: Vec<String> = held.iter().map(|&case| ids[case].to_owned()).collect();
            held.sort();
            held
        };
        prop_assert_eq!(held(&ids), held(&turned));
    }

    /// No patient is torn, no fold is empty, and the greedy deal is within one patient's cases of even.
    #[test]
    fn a_patients_cases_lie_in_one_fold(owners in prop::collection::vec(0u8..40, 10..90), folds in 2usize..6, seed: u32) {
        let names = names(owners.len());
        let ids = refs(&names);
        let patients: Vec<String> = owners.iter().map(|owner| format!("P{owner}")).collect();
        let mut cases: BTreeMap<u8, usize> = BTreeMap::new();
        owners.iter().for_each(|owner| *cases.entry(*owner).or_default() += 1);
        let deal = Deal { patients: Some(&patients), ..plain(&ids, folds, seed.into()) };
        if cases.len() < folds {
            prop_assert_eq!(deal.split(Some(0)), Err(TooFewPatients { patients: cases.len() }));
            return Ok(());
        }
        let found = fold_of(&deal);
        for (a, owner) in owners.iter().enumerate() {
            let b = owners.iter().position(|other| other == owner).unwrap();
            prop_assert_eq!(found[a], found[b]);
        }
        let sizes = sizes(&found, folds, |_| true);
        prop_assert!(sizes.iter().all(|size| *size > 0));
        prop_assert!(spread(&sizes) <= cases.values().copied().max().unwrap());
        // Traits on top of patients tear nobody either.
        let traits: Vec<Vec<u16>> = owners.iter().map(|owner| vec![1 + u16::from(owner % 3)]).collect();
        let found = fold_of(&Deal { traits: Some(&traits), ..deal });
        for (a, owner) in owners.iter().enumerate() {
            let b = owners.iter().position(|other| other == owner).unwrap();
            prop_assert_eq!(found[a], found[b]);
        }
    }

    /// A class is in equally many cases of every fold where cases have one class each, and so are cases.
    #[test]
    fn classes_are_spread_evenly(of_case in prop::collection::vec(0u16..5, 10..90), folds in 2usize..6, seed: u32) {
        let names = names(of_case.len());
        let ids = refs(&names);
        let traits: Vec<Vec<u16>> = of_case.iter().map(|class| if *class == 0 { vec![] } else { vec![*class] }).collect();
        let found = fold_of(&Deal { traits: Some(&traits), ..plain(&ids, folds, seed.into()) });
        for class in 1..5 {
            prop_assert!(spread(&sizes(&found, folds, |case| of_case[case] == class)) <= 1);
        }
        prop_assert!(spread(&sizes(&found, folds, |_| true)) <= 1);
    }
}

/// A chance split of these would often hold out no case of the rare class at all.
#[test]
fn a_rare_class_is_in_every_fold() {
    let names = names(50);
    let ids = refs(&names);
    let traits: Vec<Vec<u16>> = (0..50).map(|case| if case < 5 { vec![1, 2] } else { vec![1] }).collect();
    let found = fold_of(&Deal { traits: Some(&traits), ..plain(&ids, 5, SEED) });
    assert_eq!(sizes(&found, 5, |case| case < 5), [1; 5]);
    assert_eq!(sizes(&found, 5, |_| true), [10; 5]);
    let chance = fold_of(&plain(&ids, 5, SEED));
    assert!(sizes(&chance, 5, |case| case < 5).contains(&0));
}

/// Where every patient has one case, to know the patients changes nothing.
#[test]
fn patients_of_one_case_are_cases() {
    let names = names(23);
    let ids = refs(&names);
    let patients: Vec<String> = names.iter().map(|name| format!("of {name}")).collect();
    let deal = plain(&ids, 5, SEED);
    assert_eq!(fold_of(&deal), fold_of(&Deal { patients: Some(&patients), ..deal }));
}

/// nnU-Net's fold 0 of the Decathlon's hippocampus task, 260 cases, begins with hippocampus_017, 019, 033, 035 and 037,
/// which are the ids at these places.
#[test]
fn fold_0_of_260_cases_is_nnunets() {
    let names = names(260);
    let held = plain(&refs(&names), 5, SEED).split(Some(0)).unwrap().validation;
    assert_eq!((held.len(), &held[..5]), (52, &[9, 10, 16, 18, 20][..]));
}

#[test]
fn the_seed_matters() {
    let names = names(20);
    let ids = refs(&names);
    assert_ne!(fold_of(&plain(&ids, 5, 0)), fold_of(&plain(&ids, 5, 1)));
}

#[test]
fn too_few_cases_are_validated_on_and_flagged() {
    let result = plain(&["b", "a"], 5, 0).split(Some(3)).unwrap();
    assert_eq!((result.train, result.validation), (vec![0, 1], vec![0, 1]));
    assert!(result.validates_on_training_cases);
}

#[test]
fn no_fold_trains_on_all() {
    let result = plain(&["b", "a", "c"], 5, 0).split(None).unwrap();
    assert_eq!((result.train.len(), result.validation.len()), (3, 0));
    assert!(!result.validates_on_training_cases);
}

fn file(text: &str) -> Result<SplitFile, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("splits_final.json");
    fs::write(&path, text).unwrap();
    SplitFile::read(&path).map_err(|error| error.to_string())
}

#[test]
fn a_file_decides_and_what_does_not_fit_is_named() {
    let ids = ["a", "b", "c", "d"];
    let numbers = ["case_001", "case_002", "case_003", "case_004"];
    let none = |_: &str| false;
    let two = file(r#"[{"train": ["c", "a"], "val": ["b"]}, {"train": ["b", "case_003"], "val": []}]"#).unwrap();
    assert_eq!(two.folds(), 2);
    let split = Split { train: vec![0, 2], validation: vec![1], validates_on_training_cases: false };
    assert_eq!(two.split(Some(0), (&ids, &ids), &none).unwrap(), (split.clone(), vec![3]));
    assert_eq!(two.split(Some(1), (&ids, &numbers), &none).unwrap().0.train, [1, 2]);
    assert_eq!(two.split(None, (&ids, &numbers), &none).unwrap().0.train, [0, 1, 2]);
    let again = file(std::str::from_utf8(&two.renamed(|name| name.replace('a', "case_001"))).unwrap()).unwrap();
    assert_eq!(again.split(Some(0), (&ids, &numbers), &none).unwrap().0, split);

    let said = |text: &str, fold: usize, shown: &[&str]| {
        file(text)
            .and_then(|file| file.split(Some(fold), (&ids, shown), &|name| name == "gone").map_err(|e| e.to_string()))
    };
    assert!(said(r#"[{"train": ["a", "gone"], "val": ["b"]}]"#, 0, &ids).is_ok());
    for (text, fold, shown, part) in [
        (r#"[{"train": ["a"], "val": ["x"]}]"#, 0, &ids, "fold 0, val: \"x\" is no case"),
        (r#"[{"train": ["a"], "val": ["y", "x"]}]"#, 0, &numbers, "fold 0, val: entry 0 is no case"),
        (r#"[{"train": ["a", "b"], "val": ["b"]}]"#, 0, &ids, "fold 0, val: \"b\" is in train already"),
        (r#"[{"train": ["a", "b"], "val": ["b"]}]"#, 0, &numbers, "\"case_002\" is in train already"),
        (r#"[{"train": ["a", "a"], "val": ["b"]}]"#, 0, &ids, "\"a\" is in train already"),
        (r#"[{"train": ["a"], "val": ["b"]}]"#, 1, &ids, "data.fold: is 1, but the file has 1 folds"),
        (r#"[{"train": [], "val": ["b"]}]"#, 0, &ids, "fold 0, train: names no case"),
        ("[]", 0, &ids, "has 0 folds"),
        ("{}", 0, &ids, "give a file as nnU-Net writes it"),
        (r#"[{"train": ["a"]}]"#, 0, &ids, "missing field `val`"),
    ] {
        let said = said(text, fold, shown).unwrap_err();
        assert!(said.contains("splits_final.json: ") && said.contains(part), "{said}");
    }
}
