//! Ranges: what a value of the right type may still not be.
use super::keys::{MAX_EDGE, MAX_EMA_DECAY, MAX_FEATURES, MAX_FOLDS, MAX_SAMPLES, MAX_STAGES, MAX_STEPS};
use super::{Auto, ConfigError, Experiment, Fold, SplitBy};
use crate::dataset::split::{MAX_SEED, compile_group};

/// What is wrong.
pub(super) enum Fault {
    /// The value of one key.
    Value { key: &'static str },
    /// A key of `augment`, whose ranges are the transforms' own; the sentence names it.
    Augment { key: String, problem: String },
    /// Several keys together.
    Rule(ConfigError),
}

/// Whether `value`, where one is written, is right.
fn written<T>(value: &Auto<T>, right: impl FnOnce(&T) -> bool) -> bool {
    value.value().is_none_or(right)
}

/// Looks at every key; the first fault in the order of the file is returned.
pub(super) fn validate(experiment: &Experiment) -> Result<(), Fault> {
    let Experiment { data, batch, memory: _, precision, network, train, sampling, augment, predict: _ } = experiment;
    let steps = |count: u64| (1..=MAX_STEPS).contains(&count);
    let only = |stages: &Vec<[usize; 3]>, allowed: [usize; 2]| {
        (2..=MAX_STAGES).contains(&stages.len()) && stages.iter().flatten().all(|entry| allowed.contains(entry))
    };
    // A file has folds of its own, which are counted when it is read.
    let folds = if matches!(data.split, SplitBy::File(_)) { MAX_FOLDS } else { data.folds };
    for (key, right) in [
        ("data.dataset", !data.dataset.trim().is_empty() && !data.dataset.contains('\0')),
        ("data.folds", (2..=MAX_FOLDS).contains(&data.folds)),
        ("data.fold", matches!(data.fold, Fold::All) || matches!(data.fold, Fold::One(fold) if fold < folds)),
        ("data.split_seed", written(&data.split_seed, |seed| *seed <= MAX_SEED)),
        ("data.group", compile_group(&data.group).is_some()),
        ("data.spacing", written(&data.spacing, |mm| mm.iter().all(|mm| (0.01..=100.0).contains(mm)))),
        ("batch.effective", (1..=MAX_SAMPLES).contains(&batch.effective)),
        ("batch.micro", written(&batch.micro, |samples| (1..=MAX_SAMPLES).contains(samples))),
        ("precision.loss_scale", written(&precision.loss_scale, |scale| (1.0..=16_777_216.0).contains(scale))),
        ("network.patch", written(&network.patch, |patch| patch.iter().all(|edge| (1..=MAX_EDGE).contains(edge)))),
        ("network.stages", written(&network.stages, |stages| (2..=MAX_STAGES).contains(stages))),
        ("network.kernels", written(&network.kernels, |kernels| only(kernels, [1, 3]))),
        (
            "network.strides",
            written(&network.strides, |strides| only(strides, [1, 2]) && strides.first() == Some(&[1; 3])),
        ),
        ("network.features", (1..=MAX_FEATURES).contains(&network.features)),
        ("network.features_max", (network.features..=MAX_FEATURES).contains(&network.features_max)),
        ("network.norm_groups", (1..=MAX_FEATURES).contains(&network.norm_groups)),
        ("network.batch_norm_min", (1..=MAX_SAMPLES).contains(&network.batch_norm_min)),
        ("train.steps", steps(train.steps)),
        ("train.learning_rate", train.learning_rate > 0.0 && train.learning_rate <= 100.0),
        ("train.warmup", train.warmup <= MAX_STEPS),
        ("train.ema_decay", (0.0..=MAX_EMA_DECAY).contains(&train.ema_decay)),
        ("train.weight_decay", (0.0..=1.0).contains(&train.weight_decay)),
        ("train.clip_norm", train.clip_norm > 0.0 && train.clip_norm.is_finite()),
        ("train.validate_every", steps(train.validate_every)),
        ("train.validate_cases", steps(train.validate_cases as u64)),
        ("train.checkpoint_every", steps(train.checkpoint_every)),
        ("train.seed", i64::try_from(train.seed).is_ok()),
        ("sampling.foreground", (0.0..=1.0).contains(&sampling.foreground)),
    ] {
        if !right {
            return Err(Fault::Value { key });
        }
    }
    augment.validate().map_err(|problem| {
        let key = problem.split(' ').next().unwrap_or_default().to_owned();
        Fault::Augment { key, problem }
    })?;
    stages_agree(experiment).map_err(Fault::Rule)
}

/// Stages, kernels and strides that are written must be of one length.
fn stages_agree(experiment: &Experiment) -> Result<(), ConfigError> {
    let network = &experiment.network;
    let lengths = [
        ("network.stages", network.stages.value().copied()),
        ("network.kernels", network.kernels.value().map(Vec::len)),
        ("network.strides", network.strides.value().map(Vec::len)),
    ];
    let mut first: Option<(&str, usize)> = None;
    for (key, length) in lengths {
        match (first, length) {
            (Some((other, stages)), Some(length)) if stages != length => {
                return Err(ConfigError::Rule {
                    key,
                    problem: format!("{length} stages, but {other} has {stages}"),
                    cure: "write the same number in both, or \"auto\" in one".into(),
                });
            }
            (None, Some(length)) => first = Some((key, length)),
            _ => {}
        }
    }
    if network.strides.value().is_some() && network.patch.value().is_none() {
        return Err(ConfigError::Rule {
            key: "network.strides",
            problem: "written, but network.patch is \"auto\"".into(),
            cure: "write network.patch too".into(),
        });
    }
    Ok(())
}
