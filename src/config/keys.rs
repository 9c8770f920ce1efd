//! Every key with what is expected of it, for messages; and the key nearest to one that is none.

/// Limits that keep sums of sizes far from overflow; all are beyond what is useful.
pub(super) const MAX_SAMPLES: usize = 65_536;
pub(super) const MAX_EDGE: usize = 4_096;
pub(super) const MAX_FEATURES: usize = 4_096;
pub(super) const MAX_STAGES: usize = 12;
pub(super) const MAX_STEPS: u64 = 1_000_000_000;
pub(super) const MAX_FOLDS: usize = 1_000;

/// Keys in the order of the file, with what may stand there.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("data.dataset", "a path in quotes, in which ${NAME} is an environment variable"),
    ("data.folds", "a whole number from 2 to 1000"),
    ("data.fold", "a whole number from 0 to folds - 1, or \"all\" to train on all cases"),
    ("data.split", "\"nnunet\", \"stratified\" or the path of a .json file that lists the folds"),
    ("data.split_seed", "\"auto\" (12345, as nnU-Net) or a whole number from 0 to 4294967295"),
    ("data.group", "a regular expression over ids whose first group is the patient, as in \"^([^_]+)_\", or \"\""),
    ("data.spacing", "\"auto\" or [x, y, z] in mm, each from 0.01 to 100"),
    ("data.remap", "a table from label values to label values, each from 0 to 65535, as in { 255 = 1 }"),
    ("data.on_bad_case", "\"stop\" or \"skip\""),
    ("batch.effective", "a whole number from 1 to 65536"),
    ("batch.micro", "\"auto\" (or -1) or a whole number from 1 to 65536"),
    ("memory.budget", "\"auto\" or a size as in \"4GiB\" or \"512MiB\""),
    ("memory.recompute", "\"auto\", \"none\", \"norms\", \"blocks\" or \"parked\""),
    ("precision.activations", "\"auto\", \"f32\", \"bf16\" or \"f16\""),
    ("precision.loss_scale", "\"auto\" or a number from 1 to 16777216"),
    ("network.kind", "\"plain\" or \"resenc\""),
    ("network.design", "a size as in \"8GiB\" or \"512MiB\""),
    ("network.patch", "\"auto\" or [x, y, z] in voxels, each from 1 to 4096"),
    ("network.stages", "\"auto\" or a whole number from 2 to 12"),
    ("network.kernels", "\"auto\" or one [x, y, z] per stage, each number 1 or 3"),
    ("network.strides", "\"auto\" or one [x, y, z] per stage, each number 1 or 2, the first [1, 1, 1]"),
    ("network.features", "a whole number from 1 to 4096"),
    ("network.features_max", "a whole number from features to 4096"),
    ("network.norm", "\"auto\", \"batch\", \"group\" or \"instance\""),
    ("network.norm_groups", "a whole number from 1 to 4096"),
    ("network.batch_norm_min", "a whole number from 1 to 65536"),
    ("network.deep_supervision", "true or false"),
    ("train.steps", "a whole number from 1 to 1000000000"),
    ("train.optimizer", "\"sgd\" or \"adamw\""),
    ("train.learning_rate", "a number above 0, at most 100"),
    ("train.weight_decay", "a number from 0 to 1"),
    ("train.clip_norm", "a finite number above 0"),
    ("train.validate_every", "a whole number from 1 to 1000000000"),
    ("train.validate_cases", "a whole number from 1 to 1000000000"),
    ("train.checkpoint_every", "a whole number from 1 to 1000000000"),
    ("train.batch_dice", "true or false"),
    ("train.seed", "a whole number from 0 to 9223372036854775807"),
    ("sampling.foreground", "a number from 0 to 1"),
];

/// What may stand at `key`, where the schema is ours (not `augment`'s).
pub(super) fn expected(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|(known, _)| *known == key).map(|(_, expected)| *expected)
}

/// The known key nearest to `key`; `siblings` are names that may stand in the same table.
pub(super) fn nearest(key: &str, siblings: &[String]) -> String {
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let beside = siblings.iter().map(|sibling| match table {
        "" => format!("[{sibling}]"),
        _ => format!("{table}.{sibling}"),
    });
    let elsewhere = KEYS.iter().map(|(known, _)| (*known).to_owned());
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
        let mut table: Vec<_> = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
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
