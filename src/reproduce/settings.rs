//! What two runs were told, key by key.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Serialize;

use super::{Record, ReproduceError};
use crate::config::NormName;
use crate::train::Manifest;

/// Keys that change memory, speed or looks, and not the weights; `batch.micro` is one but with BatchNorm.
const WITHOUT_EFFECT: [&str; 7] = [
    "data.dataset",
    "memory.budget",
    "memory.recompute",
    "train.validate_every",
    "train.validate_cases",
    "train.checkpoint_every",
    "threads",
];

/// One thing that is not the same in both; empty where a run has no such thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Dotted, as in the configuration, or a name of the manifest's.
    pub key: String,
    /// Of the first and the second run.
    pub values: [String; 2],
    /// Whether the weights may depend on it.
    pub matters: bool,
}

/// What is not the same, in order of keys: the configuration's, then what the manifests say.
///
/// # Errors
/// A `config.toml` that cannot be read.
pub(super) fn differences(records: [&Record; 2]) -> Result<Vec<Setting>, ReproduceError> {
    let [a, b] = [configuration(records[0])?, configuration(records[1])?];
    let batch_norm = records.iter().any(|record| record.manifest.norm.used == NormName::Batch);
    let mut found = unequal(&a, &b, |key| key != "batch.micro" || batch_norm);
    let [a, b] = records.map(|record| of_manifest(&record.manifest));
    found.extend(unequal(&a, &b, |key| key != "instruction_set"));
    Ok(found)
}

fn unequal(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>, matters: impl Fn(&str) -> bool) -> Vec<Setting> {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let value = |of: &BTreeMap<String, String>, key: &String| of.get(key).cloned().unwrap_or_default();
    keys.into_iter()
        .map(|key| Setting {
            values: [value(a, key), value(b, key)],
            matters: matters(key) && !WITHOUT_EFFECT.contains(&key.as_str()),
            key: key.clone(),
        })
        .filter(|setting| setting.values[0] != setting.values[1])
        .collect()
}

/// `config.toml` by dotted keys.
fn configuration(record: &Record) -> Result<BTreeMap<String, String>, ReproduceError> {
    let path = record.folder.join("config.toml");
    let failed =
        |problem: String| ReproduceError::run(&path, problem, "train again, or restore the file from a backup");
    let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| failed(error.message().to_owned()))?;
    let mut keys = BTreeMap::new();
    flatten("", &table, &mut keys);
    Ok(keys)
}

fn flatten(prefix: &str, table: &toml::Table, keys: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&path, inner, keys),
            value => drop(keys.insert(path, value.to_string())),
        }
    }
}

/// Version, machine, data and split; what the configuration says too is left to it.
fn of_manifest(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut put = |key: &str, value: &str| drop(keys.insert(key.to_owned(), value.to_owned()));
    put("voxfit", &manifest.voxfit);
    put("git_revision", &manifest.git_revision);
    put("device", &manifest.device);
    put("instruction_set", &manifest.instruction_set);
    put("threads", &manifest.threads.to_string());
    put("data_sha256", &manifest.data_sha256);
    put("split_sha256", &manifest.split_sha256);
    put("start_weights_sha256", manifest.start_weights_sha256.as_deref().unwrap_or_default());
    for (case, volumes) in &manifest.volumes_sha256 {
        volumes.iter().for_each(|(volume, sha256)| put(&format!("volumes_sha256.{case}.{volume}"), sha256));
    }
    keys
}
