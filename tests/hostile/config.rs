//! Configuration files and `--set`.
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use voxfit::config::{Config, Experiment, Override, resolve};
use voxfit::dataset::fingerprint::{Fingerprint, Intensities};
use voxfit::dataset::{Case, Channel, Dataset};

use crate::allocation::{alone, measured};
use crate::damage::{fuzz, run};

/// Bytes that a configuration of some kilobytes may take.
const MOST: usize = 64 << 20;

const WORDS: &[&str] = &[
    "[data]\n",
    "[network]\n",
    "[augment.blur]\n",
    "\"\"\"",
    "'''",
    "[[",
    "{",
    "=",
    ".",
    "a.a.a.a.",
    "\\u001b",
    "\\U0010ffff",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e308",
    "1e-308",
    "9223372036854775807",
    "18446744073709551616",
    "0x7fffffffffffffff",
    "1979-05-27",
    "true",
    "\"auto\"",
    "\"9e99TiB\"",
    "${",
    "${HOME}",
    "}",
    "\n",
    "#",
    "[4096, 4096, 4096]",
    "[1, 1, 1]",
];

fn dataset() -> (Dataset, Fingerprint) {
    let case = |id: &str| Case { id: id.into(), images: vec!["a".into()], label: "b".into() };
    let dataset = Dataset {
        root: "data".into(),
        name: "x".into(),
        channels: vec![Channel { name: "CT".into(), is_ct: true }],
        classes: ["background", "a", "b"].map(String::from).to_vec(),
        ignore: None,
        regions: Vec::new(),
        cases: vec![case("1"), case("2")],
        groups: Default::default(),
        remap: Default::default(),
    };
    let intensities = Intensities {
        mean: 1.0,
        median: 1.0,
        deviation: 1.0,
        min: 0.0,
        max: 9.0,
        percentile_00_5: 0.0,
        percentile_99_5: 9.0,
    };
    let fingerprint = Fingerprint {
        spacings: vec![[1.0, 1.5, 2.0], [0.01, 100.0, 3.0]],
        sizes: vec![[100, 120, 80], [1, 3000, 7]],
        median_relative_size_after_crop: 1.0,
        classes: vec![vec![1]; 2],
        intensities: vec![intensities],
    };
    (dataset, fingerprint)
}

fn look(
    read: impl FnOnce() -> Result<Config, String>,
    (dataset, fingerprint): &(Dataset, Fingerprint),
) -> TestCaseResult {
    let (result, peak) = measured(|| {
        let said = match read() {
            Ok(config) => {
                let _ = config.dataset();
                prop_assert!(config.experiment.to_toml().is_ok());
                match resolve(&config.experiment, fingerprint, dataset) {
                    Ok(resolved) => {
                        let divisor = resolved.plan.divisor();
                        prop_assert!((0..3).all(|axis| resolved.patch[axis] % divisor[axis] == 0));
                        return Ok(());
                    }
                    Err(error) => error.to_string(),
                }
            }
            Err(said) => said,
        };
        prop_assert!(said.len() < 2000 && said.chars().all(|letter| !letter.is_control()), "{said:?}");
        Ok(())
    });
    result?;
    prop_assert!(peak <= MOST, "{peak} bytes were held");
    Ok(())
}

fn whole() -> String {
    Experiment::default().to_toml().unwrap()
}

#[test]
fn damaged_configurations_are_read_or_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let known = dataset();
    let quickstart = include_bytes!("../../configs/quickstart.toml").to_vec();
    let written = br#"[data]
dataset = "x"
spacing = [1.0, 1.0, 1.0]
[network]
patch = [64, 64, 32]
kernels = [[3, 3, 3], [3, 3, 3], [3, 3, 3]]
strides = [[1, 1, 1], [2, 2, 2], [2, 2, 1]]
stages = 3
[batch]
micro = 2
"#;
    fuzz(1500, vec![quickstart, whole().into_bytes(), written.to_vec()], WORDS, |bytes| {
        std::fs::write(&path, bytes)?;
        look(|| Config::load(&path, &[]).map_err(|error| error.to_string()), &known)
    });
}

#[test]
fn odd_settings_are_read_or_refused() {
    let _alone = alone();
    let known = dataset();
    let keys: Vec<String> = toml::from_str::<toml::Table>(&whole())
        .unwrap()
        .iter()
        .flat_map(|(table, keys)| keys.as_table().unwrap().keys().map(move |key| format!("{table}.{key}")))
        .collect();
    let values = || {
        prop_oneof![
            prop::sample::select(WORDS).prop_map(String::from),
            "\\PC{0,30}",
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| format!("{n:?}"))
        ]
    };
    let set = (prop_oneof![4 => prop::sample::select(keys), 1 => "[a-z.]{0,40}"], values())
        .prop_map(|(key, value)| format!("{key}={value}"));
    run(1500, &prop::collection::vec(set, 1..4), |settings| {
        let read = || {
            let overrides: Vec<Override> =
                settings.iter().map(|text| Override::parse(text)).collect::<Result<_, _>>()?;
            Config::parse("", Path::new("c.toml"), &overrides).map_err(|error| error.to_string())
        };
        // What is typed is said back as it was typed; the terminal's own screen is in front of it.
        look(|| read().map_err(|said| voxfit::shown::line(&said).chars().take(1000).collect()), &known)
    });
}

/// What a bracket that is not closed looks like among others.
pub const NEVER_CLOSED: &str = "a = [{1, 1, 1], [2, 2, 2], [2, 2, 1]]\ns = 3\n[b]\nm = 2\n, 64, 32]\n";

/// 64 KiB, the most that is read, made to be as dear as possible.
#[test]
fn large_configurations_take_little() {
    let _alone = alone();
    let most = 64 << 10;
    let fill = |head: &str, each: &dyn Fn(usize) -> String| {
        let mut text = head.to_owned();
        for number in 0.. {
            let next = each(number);
            if text.len() + next.len() > most {
                return text;
            }
            text.push_str(&next);
        }
        text
    };
    let long = "x".repeat(most / 2);
    for (name, text) in [
        ("many keys under a long name", fill(&format!("[{long}]\n"), &|number| format!("k{number}=1\n"))),
        ("many keys", fill("", &|number| format!("k{number}=1\n"))),
        ("many tables", fill("", &|number| format!("[t{number}]\n"))),
        ("one long key", format!("{long}=1")),
        ("one long string", format!("[data]\ndataset = \"{long}\"")),
        // Found by damaging files: the reader goes deeper for each, without its bound, until the stack is at its end.
        ("brackets never closed", fill("", &|_| NEVER_CLOSED.into())),
        ("arrays in arrays", format!("a={}", "[".repeat(most - 2))),
        ("tables in tables", format!("a={}", "{a=".repeat(most / 3 - 2))),
        (
            "a long dotted key",
            format!("{}=1", fill("a", &|_| ".a".into()).get(..most - 2).unwrap().trim_end_matches('.')),
        ),
        (
            "a long dotted table",
            format!("[{}]", fill("a", &|_| ".a".into()).get(..most - 3).unwrap().trim_end_matches('.')),
        ),
        ("many dotted keys", fill("", &|number| format!("a{number}.b.c.d.e.f.g.h=1\n"))),
        ("many variables", format!("[data]\ndataset = \"{}\"", "${PATH}".repeat(most / 8))),
    ] {
        assert!(text.len() <= most, "{name}");
        let (said, peak) = measured(|| match Config::parse(&text, Path::new("c.toml"), &[]) {
            Ok(config) => {
                config.dataset().map(|path| path.display().to_string()).unwrap_or_else(|error| error.to_string())
            }
            Err(error) => error.to_string(),
        });
        println!("{name}: {} KiB", peak >> 10);
        assert!(peak < 256 << 20, "{name}: {peak}");
        assert!(said.len() < 2000 || name == "one long string", "{name}: {} letters", said.len());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, vec![b'\n'; most + 1]).unwrap();
    assert!(Config::load(&path, &[]).unwrap_err().to_string().contains("too many for a configuration"));
}
