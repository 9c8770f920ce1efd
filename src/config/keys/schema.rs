//! The JSON Schema (draft 7) of the configuration file, for editors that complete and check TOML by one.
use serde_json::{Map, Value, json};

use super::reference::{defaults, of_transform, plain};
use super::table::KEYS;
use super::{Key, Kind, MAX_SAMPLES, MAX_STAGES};

/// A size as [`crate::config::ByteSize`] reads it.
const SIZE: &str = r"^\s*[0-9]+(\.[0-9]+)?\s*([KMGTkmgt][Ii]?)?[Bb]?\s*$";

/// What each table of the file is about; `[augment]` has its own words.
const TABLES: &[(&str, &str)] = &[
    ("data", "What is trained on, and which cases are held out"),
    ("batch", "Samples per optimizer step, and how many of them are in memory at once"),
    ("memory", "How much a run may hold, and what it may do for it; changes no result"),
    ("precision", "In which type activations are stored, and the loss scale of f16"),
    ("network", "Patch, depth, width and norm of the network; what is auto follows nnU-Net's planner"),
    ("train", "Steps, optimizer, learning rate, loss, and how often is validated and saved"),
    ("sampling", "Where in a case patches are taken"),
    ("predict", "How trained weights are used on whole cases"),
];

/// Of the whole file. What hangs on several keys at once, as a fold below `folds`, is left to voxfit.
pub fn schema() -> Value {
    let written = defaults();
    let mut tables = Map::new();
    for key in KEYS {
        let Some((table, name)) = key.name.split_once('.') else { continue };
        let default =
            written.get(table).and_then(|keys| keys.get(name)).and_then(|value| serde_json::to_value(value).ok());
        let entry = tables.entry(table).or_insert_with(|| of_table(table));
        entry["properties"][name] = described(key, default);
    }
    let augment = written.get("augment").map_or(Value::Null, |table| of_augment("augment", table));
    tables.insert("augment".into(), augment);
    let mut whole = closed(tables);
    whole["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    whole["title"] = json!("voxfit, the effective-batch configuration file");
    whole["description"] = json!(format!("Of voxfit {}. A key that is not given is its default.", crate::VERSION));
    whole
}

/// A table of these keys and no others.
fn closed(properties: Map<String, Value>) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn of_table(name: &str) -> Value {
    let mut entry = closed(Map::new());
    if let Some((_, meaning)) = TABLES.iter().find(|(table, _)| *table == name) {
        entry["description"] = json!(meaning);
    }
    entry
}

fn described(key: &Key, default: Option<Value>) -> Value {
    let mut entry = of_kind(key.kind);
    entry["description"] = json!(format!(
        "{}. Expected: {}. Changes the result: {}.",
        plain(key.meaning),
        key.expected,
        plain(key.result)
    ));
    if let Some(default) = default {
        entry["default"] = default;
    }
    entry
}

fn of_kind(kind: Kind) -> Value {
    let whole = |from: u64, to: u64| json!({ "type": "integer", "minimum": from, "maximum": to });
    let number = |from: f64, to: f64| json!({ "type": "number", "minimum": from, "maximum": to });
    let or = |word: &str, other: Value| json!({ "anyOf": [{ "const": word }, other] });
    let size = || json!({ "type": "string", "pattern": SIZE });
    let three = |items: Value| json!({ "type": "array", "items": items, "minItems": 3, "maxItems": 3 });
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Whole(from, to) => whole(from, to),
        Kind::WholeOr(from, to, word) => or(word, whole(from, to)),
        Kind::MicroBatch => json!({ "anyOf": [{ "enum": ["auto", -1] }, whole(1, MAX_SAMPLES as u64)] }),
        Kind::Number(from, to) => number(from, to),
        Kind::NumberOrAuto(from, to) => or("auto", number(from, to)),
        Kind::Above0(to) if to < f64::MAX => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": to }),
        Kind::Above0(_) => json!({ "type": "number", "exclusiveMinimum": 0 }),
        Kind::Size => size(),
        Kind::SizeOrAuto => or("auto", size()),
        Kind::OneOf(words) => json!({ "enum": words }),
        Kind::Triple(from, to) => or("auto", three(number(from, to))),
        Kind::WholeTriple(from, to) => or("auto", three(whole(from, to))),
        Kind::PerStage(allowed) => {
            let stages = json!({ "type": "array", "items": three(json!({ "enum": allowed })), "minItems": 2, "maxItems": MAX_STAGES });
            or("auto", stages)
        }
        Kind::Exchange => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[0-9]+$" },
            "additionalProperties": whole(0, u64::from(u16::MAX)),
        }),
    }
}

/// From the defaults: the tables of transforms have few kinds of keys.
fn of_augment(path: &str, default: &toml::Value) -> Value {
    let mut entry = match default {
        toml::Value::Table(keys) => closed(
            keys.iter().map(|(name, value)| (name.clone(), of_augment(&format!("{path}.{name}"), value))).collect(),
        ),
        toml::Value::Boolean(_) => json!({ "type": "boolean" }),
        toml::Value::Array(values) if values.iter().all(toml::Value::is_str) => {
            json!({ "type": "array", "items": { "enum": values } })
        }
        toml::Value::Array(_) => {
            json!({ "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2 })
        }
        _ => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
    };
    if let Some(meaning) = of_transform(path) {
        entry["description"] = json!(meaning);
    }
    if !default.is_table() {
        entry["default"] = json!(default);
    }
    entry
}
