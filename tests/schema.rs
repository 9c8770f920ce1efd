//! What editors and readers are told of the configuration file is what the program takes.
//!
//! `docs/voxfit.schema.json` and the tables of `docs/configuration.md` are made from the program's own table of keys. To make
//! them anew: `VOXFIT_WRITE_DOCS=1 cargo test --release --test schema`.
//!
//! That the schema is one was checked from outside, with Python's `jsonschema` 4.26:
//! `jsonschema.Draft7Validator.check_schema(schema)`, and `Draft7Validator(schema).validate(tomllib.load(...))` over `configs/`.
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use voxfit::config::{self, Config, Experiment};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The file as it should be, written where that is asked for.
fn same(path: &Path, expected: &str) {
    if std::env::var_os("VOXFIT_WRITE_DOCS").is_some() {
        fs::write(path, expected).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{} is not what the program says; see the head of this test", path.display());
}

#[test]
fn the_schema_beside_the_docs_is_the_programs() {
    let text = serde_json::to_string_pretty(&config::schema()).unwrap() + "\n";
    same(&root().join("docs/voxfit.schema.json"), &text);
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_voxfit")).arg("schema").output().unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), text);
}

#[test]
fn the_reference_page_has_the_tables_of_the_program() {
    let path = root().join("docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let mut expected = String::new();
    let mut lines = page.lines().peekable();
    let mut sections = 0;
    while let Some(line) = lines.next() {
        expected += &format!("{line}\n");
        let Some(section) = line.strip_prefix("## `[").and_then(|rest| rest.strip_suffix("]`")) else { continue };
        while let Some(line) = lines.next_if(|line| !line.starts_with('|') && !line.starts_with('#')) {
            expected += &format!("{line}\n");
        }
        expected += &config::reference(section);
        while lines.next_if(|line| line.starts_with('|')).is_some() {}
        sections += 1;
    }
    assert_eq!(sections, toml::Table::try_from(Experiment::default()).unwrap().len(), "a section without a heading");
    same(&path, &expected);
}

#[test]
fn the_configurations_that_come_along_are_valid_and_name_the_schema() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#:schema ../docs/voxfit.schema.json\n"), "{}", path.display());
        assert_eq!(faults(&toml::from_str(&text).unwrap()), Vec::<String>::new(), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3);
}

/// An editor shows what a key means wherever the cursor is.
#[test]
fn every_table_and_key_says_what_it_means() {
    fn silent(entry: &Value, at: &str, found: &mut Vec<String>) {
        for (name, inner) in entry["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            if inner["description"].as_str().is_none_or(str::is_empty) {
                found.push(at.clone());
            }
            silent(inner, &at, found);
        }
    }
    let mut found = Vec::new();
    silent(&config::schema(), "", &mut found);
    assert_eq!(found, Vec::<String>::new());
}

/// Both ways: what the program writes is valid, and what it refuses for a single key is not.
#[test]
fn the_schema_agrees_with_what_is_read() {
    let written = Experiment::default().to_toml().unwrap();
    assert_eq!(faults(&toml::from_str(&written).unwrap()), Vec::<String>::new());
    for (text, valid) in [
        ("[batch]\nmicro = -1", true),
        ("[batch]\nmicro = 0", false),
        ("[batch]\nmicro = \"some\"", false),
        ("[batch]\neffective = 65537", false),
        ("[batch]\nefective = 4", false),
        ("[bach]\neffective = 4", false),
        ("[memory]\nbudget = \"1.5GiB\"", true),
        ("[memory]\nbudget = \"lots\"", false),
        ("[memory]\nbudget = \"auto\"\nrecompute = \"parked\"", true),
        ("[network]\ndesign = \"auto\"", false),
        ("[network]\npatch = [64, 64, 32]\nstages = 3", true),
        ("[network]\npatch = [64, 64]", false),
        ("[network]\npatch = [64, 64, 0]", false),
        ("[network]\nkernels = [[3, 3, 1], [3, 3, 3]]", true),
        ("[network]\nkernels = [[3, 3, 2], [3, 3, 3]]", false),
        ("[network]\nnorm = \"layer\"", false),
        ("[data]\nfold = \"all\"", true),
        ("[data]\nfold = \"none\"", false),
        ("[data]\nfolds = 1", false),
        ("[data]\nremap = { 255 = 1 }", true),
        ("[data]\nremap = { 255 = 65536 }", false),
        ("[data]\nspacing = [1, 1.5, 3]", true),
        ("[data]\nspacing = [0, 1, 1]", false),
        ("[train]\nlearning_rate = 0", false),
        ("[train]\nlearning_rate = 1", true),
        ("[train]\ndeep_supervision = true", false),
        ("[train]\nbatch_dice = 1", false),
        ("[precision]\nloss_scale = 1024", true),
        ("[precision]\nloss_scale = 0.5", false),
        ("[augment]\nenabled = false", true),
        ("[augment.noise]\nprobability = 1.5", false),
        ("[augment.noise]\nsigma = [0, 0.2]", true),
        ("[augment.noise]\nsigma = 0.2", false),
        ("[augment.mirror]\naxes = [\"y\", \"w\"]", false),
        ("[augment.spatial.rotation]\ndegrees = [-10, 10]", true),
    ] {
        let read = Config::parse(text, Path::new("a.toml"), &[]);
        assert_eq!(read.is_ok(), valid, "read: {text}: {read:?}");
        assert_eq!(faults(&toml::from_str(text).unwrap()).is_empty(), valid, "schema: {text}");
    }
}

/// Where `file` is not what the schema says: as much of JSON Schema as the schema has. A word that it has not is a panic.
fn faults(file: &toml::Value) -> Vec<String> {
    let mut found = Vec::new();
    check(&serde_json::to_value(file).unwrap(), &config::schema(), "", &mut found);
    found
}

fn check(value: &Value, schema: &Value, at: &str, found: &mut Vec<String>) {
    let mut wrong: Vec<&str> = Vec::new();
    let mut want = |right: bool, what: &'static str| wrong.extend((!right).then_some(what));
    let number = value.as_f64();
    let count = |bound: &Value| bound.as_u64().unwrap() as usize;
    for (word, says) in schema.as_object().unwrap() {
        match word.as_str() {
            "$schema" | "title" | "description" | "default" => {}
            "type" => want(
                match says.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    other => panic!("type {other}"),
                },
                "type",
            ),
            "minimum" => want(number.is_none_or(|number| number >= says.as_f64().unwrap()), "minimum"),
            "maximum" => want(number.is_none_or(|number| number <= says.as_f64().unwrap()), "maximum"),
            "exclusiveMinimum" => want(number.is_none_or(|number| number > says.as_f64().unwrap()), "exclusiveMinimum"),
            "const" => want(value == says, "const"),
            "enum" => want(says.as_array().unwrap().contains(value), "enum"),
            "pattern" => want(value.as_str().is_none_or(|text| matches(says, text)), "pattern"),
            "minItems" => want(value.as_array().is_none_or(|items| items.len() >= count(says)), "minItems"),
            "maxItems" => want(value.as_array().is_none_or(|items| items.len() <= count(says)), "maxItems"),
            "anyOf" => want(
                says.as_array().unwrap().iter().any(|schema| {
                    let mut inner = Vec::new();
                    check(value, schema, at, &mut inner);
                    inner.is_empty()
                }),
                "anyOf",
            ),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    check(item, says, at, found);
                }
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = says.get(name) {
                        check(inner, schema, &format!("{at}.{name}"), found);
                    }
                }
            }
            "propertyNames" => {
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    check(&json!(name), says, at, found);
                }
            }
            "additionalProperties" => {
                let known = |name: &str| schema.get("properties").is_some_and(|known| known.get(name).is_some());
                for (name, inner) in value.as_object().into_iter().flatten().filter(|(name, _)| !known(name)) {
                    match says {
                        Value::Bool(false) => found.push(format!("{at}.{name}: unknown")),
                        schema => check(inner, schema, &format!("{at}.{name}"), found),
                    }
                }
            }
            other => panic!("the schema has a word that this test does not know: {other}"),
        }
    }
    found.extend(wrong.into_iter().map(|what| format!("{at}: {what}")));
}

fn matches(pattern: &Value, text: &str) -> bool {
    regex::Regex::new(pattern.as_str().unwrap()).unwrap().is_match(text)
}
