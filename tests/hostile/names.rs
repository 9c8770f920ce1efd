//! Names that a terminal would obey or a spreadsheet compute.
use std::fs;

use proptest::prelude::*;
use serde_json::Value;
use voxfit::evaluate::{CaseFigures, LabelClass, Summary};
use voxfit::shown;

use crate::allocation::alone;
use crate::common::{Lab, stderr, stdout};
use crate::damage::run;

/// Clears the screen, by C0 and by C1, turns the direction of writing, begins a line of its own.
const ODD: &str = "x\u{1b}[2J\u{9b}31m\u{202e}\nvoxfit: done\r";

fn is_harmless(text: &str) -> bool {
    text.chars().all(|letter| letter == '\n' || !(letter.is_control() || ('\u{202a}'..='\u{202e}').contains(&letter)))
}

/// A data set whose name, classes and channels are odd, and whose cases are where the system lets them.
fn odd() -> Lab {
    let lab = Lab::new();
    let mut description = lab.json("data/dataset.json");
    description["name"] = ODD.into();
    description["modality"]["0"] = ODD.into();
    description["labels"]["1"] = format!("=1+1{ODD}").into();
    for kind in ["image", "label"] {
        let path = format!("data/{kind}sTr/");
        for (old, new) in [("phantom_004", "@a\u{1b}[2J\u{9b}b"), ("phantom_001", "-b\nc"), ("phantom_002", "=c\td")] {
            fs::rename(lab.path(&format!("{path}{old}.nii.gz")), lab.path(&format!("{path}{new}.nii.gz"))).unwrap();
            for entry in description["training"].as_array_mut().unwrap() {
                let renamed = entry[kind].as_str().unwrap().replace(old, new);
                entry[kind] = renamed.into();
            }
        }
    }
    lab.write("data/dataset.json", description.to_string().as_bytes());
    lab
}

#[cfg(unix)]
#[test]
fn no_verb_says_what_a_terminal_obeys() {
    let _alone = alone();
    let lab = odd();
    let train = lab.output(&["train", "c.toml", "--run", "r"]);
    assert_eq!(train.status.code(), Some(0), "{}", stderr(&train));
    let predict = lab.output(&["predict", "r", "data/imagesTr", "-o", "out"]);
    let evaluate = lab.output(&["evaluate", "out", "data/labelsTr", "--csv", "f.csv", "--json", "f.json"]);
    let plan = lab.output(&["plan", "data"]);
    let plan_json = lab.output(&["plan", "data", "--json"]);
    // Now with faults to name.
    for case in ["@a\u{1b}[2J\u{9b}b", "-b\nc"] {
        lab.edit(&format!("data/imagesTr/{case}.nii.gz"), |file| file.truncate(400));
    }
    let check = lab.output(&["check", "data"]);
    let check_json = lab.output(&["check", "data", "--json"]);
    let failed = lab.output(&["train", "c.toml", "--run", "r2"]);
    let logged = lab.output(&["--log-format", "json", "train", "c.toml", "--run", "r3"]);
    for (name, output) in [
        ("train", &train),
        ("predict", &predict),
        ("evaluate", &evaluate),
        ("plan", &plan),
        ("plan --json", &plan_json),
        ("check", &check),
        ("check --json", &check_json),
        ("train fails", &failed),
    ] {
        let said = stdout(output) + &stderr(output);
        assert!(is_harmless(&said), "{name}: {said:?}");
        // No name begins a line that looks like the program's own.
        assert!(!said.lines().any(|line| line.starts_with("voxfit: done")), "{name}: {said:?}");
    }
    assert!(stderr(&logged).lines().all(|line| line.starts_with('{') || line.starts_with("voxfit: ")));
    assert_eq!((evaluate.status.code(), check.status.code()), (Some(0), Some(3)));
    // JSON keeps the names.
    let page: Value = serde_json::from_slice(&check_json.stdout).unwrap();
    let cases: Vec<&str> = page["findings"].as_array().unwrap().iter().map(|f| f["case"].as_str().unwrap()).collect();
    assert!(cases.contains(&"@a\u{1b}[2J\u{9b}b"), "{cases:?}");
    // No cell of the CSV is a formula.
    let csv = fs::read_to_string(lab.path("f.csv")).unwrap();
    assert!(
        csv.contains("'@a") && csv.contains("\"'-b\nc\"") && csv.contains("'=c\td") && csv.contains("'=1+1"),
        "{csv}"
    );
    // Nothing was written but where it was asked for.
    let mut files: Vec<String> = fs::read_dir(lab.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, ["c.toml", "cache", "data", "f.csv", "f.json", "out", "r"]);
}

/// Any names: the table has no more lines for them, and the CSV reads back to the same number of cells, none a formula.
#[test]
fn any_name_is_a_cell() {
    let _alone = alone();
    let letters = || {
        prop::collection::vec(
            prop_oneof![any::<char>(), prop::sample::select("=+-@\t\r\n,\"'\u{1b}\u{9b}".chars().collect::<Vec<_>>())],
            0..12,
        )
    };
    let name = || letters().prop_map(|letters| letters.into_iter().collect::<String>());
    run(1000, &(name(), name()), |(case, class)| {
        let summary = Summary::new(
            vec![CaseFigures { case: case.clone(), classes: Vec::new() }],
            &[LabelClass { class: 1, name: class.clone() }],
            1.0,
        );
        let (table, csv) = (summary.to_table(false, true), summary.to_csv());
        prop_assert!(is_harmless(&table), "{:?}", table);
        let cells = cells(&csv);
        prop_assert_eq!(cells.len(), 20, "{}", csv);
        for cell in &cells {
            prop_assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{:?}", cell);
        }
        let plain = |cell: &str, name: &str| cell == name || cell.strip_prefix('\'') == Some(name);
        prop_assert!(plain(&cells[10], &case) && plain(&cells[12], &class));
        let json = serde_json::to_string(&case).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(&shown::json(&json)).unwrap(), case);
        Ok(())
    });
}

/// The cells of a CSV text by RFC 4180, all rows one after another.
fn cells(csv: &str) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = csv.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' | '\n' if !quoted => cells.push(std::mem::take(&mut cell)),
            other => cell.push(other),
        }
    }
    cells
}
