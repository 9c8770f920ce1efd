//! From a file and `--set` arguments to an [`Experiment`], with errors that name line, key, found and expected.
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::environment::checked;
use super::validate::{Fault, validate};
use super::{ConfigError, Experiment, Place, SplitBy, expand, keys};
use crate::files::read_at_most;
use crate::shown;
use crate::stack::with_room;

/// A configuration file is text a person writes; more is a mistake. One with every value in it has 4 KiB.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// Bytes of a dotted path and tables in each other, beyond which a key is none of ours: where it stands is not kept.
const MAX_PATH: usize = 200;
const MAX_DEPTH: usize = 8;

/// An experiment and the file it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Paths in it are relative to the folder of this file.
    pub path: PathBuf,
    /// As written, overrides included.
    pub experiment: Experiment,
}

/// A key set by an argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// The argument as typed, for messages.
    pub origin: String,
    /// Dotted, as in `train.steps`.
    pub key: String,
    /// As TOML reads it, else a string.
    pub value: toml::Value,
}

impl Override {
    /// From `key=value`; what does not parse as a TOML value is a string.
    ///
    /// # Errors
    /// A sentence, where there is no `=` or no key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) =
            text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; write it as in train.steps=500"))?;
        let key = key.trim();
        if key.is_empty() || key.split('.').any(|part| part.trim().is_empty()) {
            return Err(format!("`{text}` has no key; write it as in train.steps=500"));
        }
        let value = toml::de::ValueDeserializer::parse(value.trim())
            .and_then(toml::Value::deserialize)
            .unwrap_or_else(|_| toml::Value::String(value.to_owned()));
        let key = key.split('.').map(str::trim).collect::<Vec<_>>().join(".");
        Ok(Self { origin: format!("--set {text}"), key, value })
    }

    /// What an argument of its own, as in `--steps 500`, sets.
    pub fn new(origin: impl Into<String>, key: &str, value: impl Into<toml::Value>) -> Self {
        Self { origin: origin.into(), key: key.to_owned(), value: value.into() }
    }

    fn covers(&self, key: &str) -> bool {
        key.strip_prefix(&self.key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl Config {
    /// Reads `path` and sets `overrides` over it, in order.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, a wrong type, a value out of range.
    pub fn load(path: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        let refused = |problem: String| ConfigError::Read { path: path.to_owned(), problem };
        let metadata = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?;
        if !metadata.is_file() {
            return Err(refused("not a file".into()));
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(refused(format!("{} bytes are too many for a configuration", metadata.len())));
        }
        let bytes = read_at_most(path, MAX_FILE_BYTES).map_err(|error| refused(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| refused("not UTF-8 text".into()))?;
        Self::parse(&text, path, overrides)
    }

    /// Reads `text` as the content of `path` (which is not opened).
    ///
    /// # Errors
    /// As [`Config::load`], without those of reading.
    pub fn parse(text: &str, path: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        with_room(text.len(), || Self::parse_here(text, path, overrides))
            .map_err(|error| ConfigError::Read { path: path.to_owned(), problem: error.to_string() })?
    }

    fn parse_here(text: &str, path: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        let source = Source::new(text, path)?;
        let mut experiment: Experiment = toml::from_str(text).map_err(|error| source.explain(&error))?;
        let mut table: toml::Table = toml::from_str(text).map_err(|error| source.explain(&error))?;
        for change in overrides {
            insert(&mut table, change)?;
            experiment = Experiment::deserialize(table.clone()).map_err(|error| explain_override(&error, change))?;
        }
        let place = |key: &str| match overrides.iter().rev().find(|change| change.covers(key)) {
            Some(change) => Place::Argument(change.origin.clone()),
            None => source.place(key),
        };
        validate(&experiment).map_err(|fault| match fault {
            Fault::Value { key } => {
                let place = place(key);
                let found = key
                    .split_once('.')
                    .and_then(|(group, name)| table.get(group)?.get(name))
                    .map_or_else(|| "not given".into(), |value| shortened(&value.to_string()));
                let expected = keys::expected(key).unwrap_or("a value in range").to_owned();
                ConfigError::Value { place, key: key.to_owned(), found, expected }
            }
            Fault::Augment { key, problem } => ConfigError::Augment { place: place(&key), problem },
            Fault::Rule(error) => error,
        })?;
        Ok(Self { path: path.to_owned(), experiment })
    }

    /// The file's name without ending, as in `quickstart`.
    pub fn name(&self) -> String {
        self.path.file_stem().map_or_else(|| "config".into(), |stem| stem.to_string_lossy().into_owned())
    }

    /// The dataset's folder: environment variables expanded, relative to the file.
    ///
    /// # Errors
    /// A variable that is not set.
    pub fn dataset(&self) -> Result<PathBuf, ConfigError> {
        let expanded = expand(&self.experiment.data.dataset, |name| std::env::var(name).ok())?;
        let dataset = checked(&expanded).map_err(|(problem, cure)| ConfigError::Environment {
            text: shortened(&self.experiment.data.dataset),
            problem: problem.into(),
            cure: format!("{cure}, or pass --data DIR"),
        })?;
        Ok(self.path.parent().unwrap_or(Path::new("")).join(dataset))
    }

    /// The file of `data.split`, where it is one: environment variables expanded, relative to the configuration.
    ///
    /// # Errors
    /// A variable that is not set.
    pub fn split_file(&self) -> Result<Option<PathBuf>, ConfigError> {
        let SplitBy::File(written) = &self.experiment.data.split else { return Ok(None) };
        let expanded = expand(written, |name| std::env::var(name).ok()).map_err(|error| match error {
            ConfigError::Environment { problem, .. } => {
                let cure = "set it, or write the path of the file".into();
                ConfigError::Rule { key: "data.split", problem, cure }
            }
            other => other,
        })?;
        let file = checked(&expanded).map_err(|(problem, cure)| ConfigError::Rule {
            key: "data.split",
            problem: problem.into(),
            cure: cure.into(),
        })?;
        Ok(Some(self.path.parent().unwrap_or(Path::new("")).join(file)))
    }
}

/// Sets one key, making the tables on its way.
fn insert(table: &mut toml::Table, change: &Override) -> Result<(), ConfigError> {
    let mut parts: Vec<&str> = change.key.split('.').collect();
    let Some(last) = parts.pop() else { return Ok(()) };
    let mut at = table;
    for (depth, part) in parts.iter().enumerate() {
        let entry = at.entry((*part).to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = match entry {
            toml::Value::Table(inner) => inner,
            other => {
                return Err(ConfigError::Value {
                    place: Place::Argument(change.origin.clone()),
                    key: parts[..=depth].join("."),
                    found: shortened(&other.to_string()),
                    expected: format!("a table, for {} to be in it", change.key),
                });
            }
        };
    }
    at.insert(last.to_owned(), change.value.clone());
    Ok(())
}

fn explain_override(error: &toml::de::Error, change: &Override) -> ConfigError {
    let place = Place::Argument(change.origin.clone());
    let message = error.message();
    if let Some((name, siblings)) = unknown_field(message) {
        // The unknown part may be a table on the way to the key, or inside a table that was given as the value.
        let parts: Vec<&str> = change.key.split('.').collect();
        let key = match parts.iter().position(|part| *part == name) {
            Some(at) => parts[..=at].join("."),
            None => format!("{}.{name}", change.key),
        };
        let key = shortened(&key);
        let nearest = keys::nearest(&key, &siblings);
        return ConfigError::UnknownKey { place, key, nearest };
    }
    let found = shortened(&change.value.to_string());
    ConfigError::Value { place, key: change.key.clone(), found, expected: expectation(&change.key, message) }
}

/// Where each key stands in a file.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
    /// By dotted path: key and value as byte ranges.
    spans: BTreeMap<String, (Range<usize>, Range<usize>)>,
}

impl<'a> Source<'a> {
    fn new(text: &'a str, path: &'a Path) -> Result<Self, ConfigError> {
        let mut source = Self { text, path, spans: BTreeMap::new() };
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            place: source.line(error.span().map_or(0, |span| span.start)),
            problem: match shortened(error.message()) {
                // What is written after a `\` in double quotes, as people paste paths of Windows.
                message if message.starts_with("missing escaped value") || message.contains("unicode") => {
                    format!(r"{message}; in double quotes a `\` begins a special character: use single quotes, as in dataset = 'C:\data\set'")
                }
                message => message,
            },
        })?;
        collect("", table.get_ref(), 0, &mut source.spans);
        Ok(source)
    }

    fn line(&self, at: usize) -> Place {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        Place::File { path: self.path.to_owned(), line }
    }

    fn place(&self, key: &str) -> Place {
        self.line(self.spans.get(key).map_or(0, |(name, _)| name.start))
    }

    fn explain(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message();
        if let Some((name, siblings)) = unknown_field(message) {
            let here = |(path, (key, _)): &(&String, &(Range<usize>, Range<usize>))| {
                key.contains(&at) && path.rsplit('.').next() == Some(name.as_str())
            };
            let key = self.spans.iter().find(here).map_or(name.clone(), |(path, _)| path.clone());
            let key = shortened(&key);
            let nearest = keys::nearest(&key, &siblings);
            return ConfigError::UnknownKey { place: self.line(at), key, nearest };
        }
        let deepest = self
            .spans
            .iter()
            .filter(|(_, (_, value))| value.contains(&at) || (value.start..=value.end).contains(&at))
            .max_by_key(|(path, (_, value))| (value.start, path.matches('.').count()));
        let (key, found) = match deepest {
            Some((path, (_, value))) => (path.clone(), self.text.get(value.clone()).unwrap_or_default()),
            None => (String::from("the file"), ""),
        };
        let expected = expectation(&key, message);
        ConfigError::Value { place: self.line(at), key: shortened(&key), found: shortened(found), expected }
    }
}

/// Where every key of `table` stands that could be one of ours: under a long name there may be many, and a file of a
/// small file would take a great deal of memory for their paths.
fn collect(
    prefix: &str,
    table: &DeTable<'_>,
    depth: usize,
    spans: &mut BTreeMap<String, (Range<usize>, Range<usize>)>,
) {
    for (key, value) in table {
        let name = key.get_ref();
        if depth >= MAX_DEPTH || prefix.len() + name.len() > MAX_PATH {
            continue;
        }
        let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
        if let DeValue::Table(inner) = value.get_ref() {
            collect(&path, inner, depth + 1, spans);
        }
        spans.insert(path, (key.span(), value.span()));
    }
}

/// The name and the names it could be, from serde's message.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (name, rest) = rest.split_once("`, ").unwrap_or((rest.trim_end_matches('`'), ""));
    let siblings = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((name.to_owned(), siblings))
}

/// What should stand at `key`: from the table of keys, else serde's words put plainly.
fn expectation(key: &str, message: &str) -> String {
    if let Some(expected) = keys::expected(key) {
        return expected.to_owned();
    }
    let Some((_, expected)) = message.rsplit_once("expected ") else { return shortened(message) };
    match expected {
        "f64" | "f32" => "a number".into(),
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number, 0 or more".into(),
        "i64" | "i32" => "a whole number".into(),
        "a boolean" => "true or false".into(),
        other if other.starts_with("struct ") => format!("a table, [{key}]"),
        other => shortened(other),
    }
}

/// On one line, at most 80 characters, none that a terminal obeys: in a key, TOML allows any.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    shown::line(&shown::short(&line, 80))
}
