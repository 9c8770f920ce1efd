//! Every key with what is expected of it: for messages, for editors and for the reference page; and the key nearest to one
//! that is none.
mod reference;
mod schema;
mod table;

pub use reference::reference;
pub use schema::schema;
use table::KEYS;

/// Limits that keep sums of sizes far from overflow; all are beyond what is useful.
pub(super) const MAX_SAMPLES: usize = 65_536;
pub(super) const MAX_EDGE: usize = 4_096;
pub(super) const MAX_FEATURES: usize = 4_096;
pub(super) const MAX_STAGES: usize = 12;
pub(super) const MAX_STEPS: u64 = 1_000_000_000;
/// An average over a million steps; with 1 nothing would ever be taken into it.
pub(super) const MAX_EMA_DECAY: f64 = 0.999_999;
pub(super) const MAX_FOLDS: usize = 1_000;

/// What may stand at a key, for programs; [`Key::expected`] says it to people, and `validate` looks at more than this.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Bool,
    /// From, to.
    Whole(u64, u64),
    /// From, to, or a word.
    WholeOr(u64, u64, &'static str),
    /// A number of samples, `"auto"`, or -1 for it.
    MicroBatch,
    /// From, to.
    Number(f64, f64),
    NumberOrAuto(f64, f64),
    /// Above 0, at most this.
    Above0(f64),
    /// As in `"4GiB"`.
    Size,
    SizeOrAuto,
    OneOf(&'static [&'static str]),
    /// Three numbers or `"auto"`.
    Triple(f64, f64),
    /// Three whole numbers or `"auto"`.
    WholeTriple(u64, u64),
    /// Three of these whole numbers for each stage, or `"auto"`.
    PerStage(&'static [u64]),
    /// Label values to label values.
    Exchange,
}

/// A key of the file.
pub(super) struct Key {
    /// Dotted.
    pub name: &'static str,
    pub kind: Kind,
    /// What may stand there, in an error.
    pub expected: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Whether it can change the trained weights.
    pub result: &'static str,
}

/// What may stand at `key`, where the schema is ours (not `augment`'s).
pub(super) fn expected(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|known| known.name == key).map(|known| known.expected)
}

/// The known key nearest to `key`; `siblings` are names that may stand in the same table.
pub(super) fn nearest(key: &str, siblings: &[String]) -> String {
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let beside = siblings.iter().map(|sibling| match table {
        "" => format!("[{sibling}]"),
        _ => format!("{table}.{sibling}"),
    });
    let elsewhere = KEYS.iter().map(|known| known.name.to_owned());
    let mut best = (f64::NEG_INFINITY, String::new());
    for (candidate, bonus) in beside.map(|key| (key, 0.15)).chain(elsewhere.map(|key| (key, 0.0))) {
        let last = candidate.rsplit('.').next().unwrap_or_default().trim_matches(['[', ']']);
        let score = strsim::normalized_damerau_levenshtein(&name.to_lowercase(), last)
            .max(strsim::jaro_winkler(&name.to_lowercase(), last) - 0.1)
            + bonus;
        if score > best.0 {
            best = (score, candidate);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Experiment;

    /// A key that the schema has and the table has not would be found by nobody, and the other way round.
    #[test]
    fn the_table_and_the_schema_have_the_same_keys() {
        // An exchange of nothing is not written.
        let mut experiment = Experiment::default();
        experiment.data.remap = "255=1".parse().unwrap();
        let written = toml::Table::try_from(experiment).unwrap();
        let mut schema = Vec::new();
        for (table, keys) in written.iter().filter(|(table, _)| *table != "augment") {
            schema.extend(keys.as_table().unwrap().keys().map(|key| format!("{table}.{key}")));
        }
        let mut table: Vec<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        schema.sort();
        table.sort();
        assert_eq!(schema, table);
    }

    #[test]
    fn the_nearest_key_is_found_here_or_elsewhere() {
        let train = ["steps", "learning_rate", "seed"].map(String::from);
        assert_eq!(nearest("train.learning_rat", &train), "train.learning_rate");
        assert_eq!(nearest("train.foreground", &train), "sampling.foreground");
        assert_eq!(nearest("trian", &["data", "train"].map(String::from)), "[train]");
        assert_eq!(nearest("steps", &["data", "train"].map(String::from)), "train.steps");
        assert_eq!(nearest("batch.Effective", &["effective", "micro"].map(String::from)), "batch.effective");
    }
}
