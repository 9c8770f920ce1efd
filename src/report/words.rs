//! What a run was told, in sentences. All of it is HTML.
use super::html::escape;
use super::record::RunRecord;
use crate::config::{Activations, NormName, OptimizerName, Schedule};
use crate::network::plan::Kind;
use crate::patch::augment::AugmentConfig;
use crate::xyz;

pub fn count(count: usize, what: &str) -> String {
    let plural = if what.ends_with(['s', 'h']) { "es" } else { "s" };
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}{plural}") }
}

pub fn times<T: ToString>(values: [T; 3]) -> String {
    values.map(|value| value.to_string()).join(" × ")
}

/// Up to four decimals, without zeros at the end.
pub fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A time for a person.
pub fn time(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{seconds:.2} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

pub fn data(run: &RunRecord) -> Vec<(&'static str, String)> {
    let (manifest, plan) = (&run.manifest, &run.plan);
    let held_out = match manifest.validation_on_training_cases {
        true => "validation: on training cases, since there are fewer cases than folds".to_owned(),
        false => format!("{} held out", manifest.validation_cases.len()),
    };
    let fold = match run.experiment.data.fold {
        crate::config::Fold::One(fold) => format!("fold {fold} of {}", run.experiment.data.folds),
        crate::config::Fold::All => "all folds trained on".to_owned(),
    };
    let dataset = match manifest.dataset_name.as_str() {
        "" => escape(&run.experiment.data.dataset),
        name => format!("{} <span class=\"soft\">({})</span>", escape(name), escape(&run.experiment.data.dataset)),
    };
    let mut entries = vec![
        ("dataset", dataset),
        ("cases", format!("{} to train on, {held_out} ({fold})", manifest.train_cases.len())),
        ("channels", names(plan.channels.iter().map(String::as_str))),
    ];
    match plan.regions.is_empty() {
        true => entries.push(("classes", names(plan.classes.iter().skip(1).map(String::as_str)))),
        false => {
            let regions = plan.regions.iter().map(|region| {
                let values: Vec<String> = region.values.iter().map(ToString::to_string).collect();
                format!("{} <span class=\"soft\">(labels {})</span>", escape(&region.name), values.join(", "))
            });
            entries.push(("regions", regions.collect::<Vec<_>>().join(", ")));
        }
    }
    if let Some(ignore) = plan.ignore {
        entries.push(("ignored", format!("voxels labelled {ignore} count for nothing")));
    }
    if !manifest.left_out_cases.is_empty() {
        let left = manifest.left_out_cases.iter().take(50);
        let left: Vec<String> = left.map(|left| format!("{}: {}", escape(&left.case), escape(&left.reason))).collect();
        entries
            .push(("left out", format!("{}<br>{}", count(manifest.left_out_cases.len(), "case"), left.join("<br>"))));
    }
    entries
}

fn names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const MOST: usize = 40;
    let more = names.len().saturating_sub(MOST);
    let shown: Vec<String> = names.take(MOST).map(escape).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
}

pub fn network(run: &RunRecord) -> Vec<(&'static str, String)> {
    let (manifest, plan) = (&run.manifest, &run.plan);
    let kind = match plan.network.kind {
        Kind::Plain => "plain 3D U-Net",
        Kind::ResEnc => "3D U-Net with a residual encoder",
    };
    let features: Vec<String> = plan.network.stages.iter().map(|stage| stage.features.to_string()).collect();
    let spacing = run.plan.preparation.spacing;
    let start = match &manifest.start_weights_sha256 {
        Some(digest) => format!("weights of a file ({}…)", escape(&digest.chars().take(12).collect::<String>())),
        None => format!("weights drawn by seed {}", manifest.seed),
    };
    vec![
        (
            "network",
            format!(
                "{kind}, {} with {} features, {:.2} million parameters",
                count(plan.network.stages.len(), "stage"),
                features.join(", "),
                manifest.parameters as f64 / 1e6
            ),
        ),
        ("patch", format!("{} voxels (x, y, z)", times(xyz(plan.patch)))),
        ("spacing", format!("{} mm", times(spacing.map(short)))),
        ("precision", precision(plan.activations).to_owned()),
        ("started from", start),
    ]
}

fn precision(activations: Activations) -> &'static str {
    match activations {
        Activations::F32 => "all in f32",
        Activations::Bf16 => "activations in bf16; weights, sums and the loss in f32",
        Activations::F16 => "activations in f16; weights, sums and the loss in f32",
    }
}

pub fn training(run: &RunRecord) -> Vec<(&'static str, String)> {
    let train = &run.experiment.train;
    let optimizer = match train.optimizer {
        OptimizerName::Sgd => "SGD with Nesterov momentum 0.99",
        OptimizerName::Adamw => "AdamW",
    };
    let per = if train.batch_dice { "one Dice over the whole effective batch" } else { "a Dice for each sample" };
    let warmup = match train.warmup {
        0 => String::new(),
        steps => format!(" after {} of warm-up,", count(steps as usize, "step")),
    };
    let schedule = match train.schedule {
        Schedule::Poly => "falling to 0 (power 0.9)",
        Schedule::Cosine => "falling to 0 (half a cosine)",
        Schedule::Constant => "from beginning to end",
    };
    let weights = match train.ema_decay {
        0.0 => "those of the last step".to_owned(),
        decay => format!("a moving average over the steps (decay {decay})"),
    };
    let supervision =
        if run.plan.network.deep_supervision { ", at several resolutions (deep supervision)" } else { "" };
    vec![
        ("steps", format!("{}, each of {}", train.steps, count(run.manifest.effective_batch, "sample"))),
        (
            "optimizer",
            format!(
                "{optimizer}, learning rate {}{warmup} {schedule}, weight decay {}, gradient clipped at {}",
                train.learning_rate, train.weight_decay, train.clip_norm
            ),
        ),
        ("weights", weights),
        ("loss", format!("cross-entropy and {per}{supervision}")),
        ("samples", format!("{:.0} % centred on a foreground voxel", 100.0 * run.experiment.sampling.foreground)),
        ("augmentation", augmentation(&run.experiment.augment)),
        ("prediction", prediction(run.experiment.mirrored())),
        ("seed", train.seed.to_string()),
    ]
}

fn prediction(mirrored: [bool; 3]) -> String {
    match 1 << mirrored.iter().filter(|axis| **axis).count() {
        1 => "tiles that overlap by half".to_owned(),
        passes => format!("tiles that overlap by half, averaged over {passes} mirrorings"),
    }
}

fn augmentation(augment: &AugmentConfig) -> String {
    if !augment.enabled {
        return "none".to_owned();
    }
    let share = |probability: f64| format!("{:.0} %", 100.0 * probability);
    let all = [
        ("rotation", augment.spatial.rotation.probability),
        ("scaling", augment.spatial.scale.probability),
        ("noise", augment.noise.probability),
        ("blur", augment.blur.probability),
        ("brightness", augment.brightness.probability),
        ("contrast", augment.contrast.probability),
        ("low resolution", augment.low_resolution.probability),
        ("inverted gamma", augment.gamma_inverted.probability),
        ("gamma", augment.gamma.probability),
    ];
    let mut said: Vec<String> =
        all.iter().filter(|(_, of)| *of > 0.0).map(|(name, of)| format!("{name} ({})", share(*of))).collect();
    let [z, y, x] = augment.mirror.allowed();
    let axes: Vec<&str> = [(x, "x"), (y, "y"), (z, "z")].iter().filter(|axis| axis.0).map(|axis| axis.1).collect();
    if augment.mirror.probability > 0.0 && !axes.is_empty() {
        said.push(format!("mirroring along {} ({} each)", axes.join(", "), share(augment.mirror.probability)));
    }
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

/// Batch and norm, in sentences.
pub fn decisions(run: &RunRecord) -> String {
    let manifest = &run.manifest;
    let (effective, micro) = (manifest.effective_batch, manifest.micro_batch.max(1));
    let pieces = effective.div_ceil(micro);
    let batch = match manifest.norm.used {
        NormName::Batch => {
            "BatchNorm takes its statistics from the micro-batch: here the micro-batch is part of the result."
        }
        NormName::Group | NormName::Instance if manifest.determinism == "bitwise" => {
            "On the processor the micro-batch changes memory and time and not one bit of the weights."
        }
        NormName::Group | NormName::Instance => "The micro-batch changes memory and time, not the result.",
    };
    let norm = &manifest.norm;
    let mut text = format!(
        "<p><strong>Batch.</strong> Every step learns from {} ({}), taken {micro} at a time in {}. {batch}</p>\n\
         <p><strong>Norm.</strong> Asked for: {}; used: {}. {}.</p>\n",
        count(effective, "sample"),
        "the effective batch",
        count(pieces, "micro-batch"),
        escape(&norm.requested),
        norm.used,
        escape(norm.reason.trim_end_matches('.')),
    );
    if !norm.swaps.is_empty() {
        let swaps: Vec<String> = norm.swaps.iter().take(20).map(|swap| format!("<li>{}</li>", escape(swap))).collect();
        text += &format!("<ul>{}</ul>\n", swaps.join("\n"));
    }
    text
}

/// How to make the run again, and what to hold it against.
pub fn repeat(run: &RunRecord) -> String {
    let manifest = &run.manifest;
    let last = run.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    let folder = if !last.is_empty() && last.chars().all(plain) { last } else { "RUN".to_owned() };
    let folder = escape(&folder);
    let weights = if manifest.start_weights_sha256.is_some() { " --weights FILE" } else { "" };
    let numbers = if manifest.anonymous_cases { " --anonymous-cases" } else { "" };
    let digest = |text: &str| match text {
        "" => "<span class=\"soft\">not yet</span>".to_owned(),
        text => format!("<code class=\"digest\">{}</code>", escape(text)),
    };
    let mut entries = vec![
        (
            "made by",
            format!(
                "voxfit {} <span class=\"soft\">(revision {})</span> on {}, {}, {}",
                escape(&manifest.voxfit),
                escape(&manifest.git_revision.chars().take(12).collect::<String>()),
                escape(&manifest.device),
                escape(&manifest.instruction_set),
                count(manifest.threads, "thread")
            ),
        ),
        ("weights", digest(&manifest.weights_sha256)),
        ("configuration", digest(&manifest.config_sha256)),
        ("data", digest(&manifest.data_sha256)),
        ("split", digest(&manifest.split_sha256)),
    ];
    if let Some(start) = &manifest.start_weights_sha256 {
        entries.push(("weights at the start", digest(start)));
    }
    let promise = match manifest.determinism.as_str() {
        "bitwise" => "The same version, configuration and data give the same weights, bit for bit, on the processor.",
        _ => "The same bits are not promised on this device.",
    };
    format!(
        "<p>From the folder around the run's:</p>\n\
         <pre>voxfit reproduce {folder}\nvoxfit train {folder}/config.toml --data DATASET --run again{weights}{numbers}\n\
         voxfit compare {folder} again</pre>\n<p>{promise}</p>\n{}",
        super::html::list(&entries)
    )
}
