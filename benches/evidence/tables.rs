//! Which trainings make which table. Every row says all it changes; what it does not say is the configuration's.

pub struct Table {
    pub name: &'static str,
    pub about: &'static str,
    pub config: &'static str,
    /// Trainings of each row, with seeds 0, 1, ...
    pub seeds: u64,
    /// For all rows.
    pub settings: &'static [&'static str],
    pub rows: &'static [Row],
}

pub struct Row {
    pub name: &'static str,
    pub settings: &'static [&'static str],
}

const fn row(name: &'static str, settings: &'static [&'static str]) -> Row {
    Row { name, settings }
}

/// nnU-Net's mirroring.
const ALL_AXES: &str = "augment.mirror.axes=[\"x\",\"y\",\"z\"]";
const LEFT_AND_RIGHT: &str = "augment.mirror.axes=[\"x\"]";

/// What rows of several tables have in common, written out: configs/hippocampus.toml may change, and these rows stay.
macro_rules! common {
    ($($more:literal),* $(,)?) => {
        &[
            "network.features=16",
            "network.norm=group",
            "train.optimizer=adamw",
            "train.learning_rate=0.002",
            "train.schedule=poly",
            "train.warmup=0",
            "train.ema_decay=0",
            "train.validate_cases=8",
            "sampling.foreground=0.33",
            "augment.spatial.rotation.probability=0",
            "augment.spatial.scale.probability=0",
            "augment.blur.probability=0",
            "augment.low_resolution.probability=0",
            "augment.gamma.probability=0",
            "augment.gamma_inverted.probability=0",
            "augment.contrast.probability=0",
            "augment.brightness.probability=0",
            ALL_AXES,
            "predict.mirror=false",
            $($more),*
        ]
    };
}

/// Short trainings of a small patch, to be made many times: 1600 samples each.
const SHORT: &[&str] =
    common!["network.patch=[24,32,24]", "batch.effective=8", "train.steps=200", "train.validate_every=200"];

/// Those that choices are compared in: 3200 samples each where a row does not say otherwise.
const CHOICE: &[&str] =
    common!["network.patch=[32,48,32]", "batch.effective=2", "train.steps=1600", "train.validate_every=1600"];

/// nnU-Net's own transforms, as they are without a word.
macro_rules! all_transforms {
    ($($more:expr),* $(,)?) => {
        &[
            "augment.spatial.rotation.probability=0.2",
            "augment.spatial.scale.probability=0.2",
            "augment.blur.probability=0.2",
            "augment.low_resolution.probability=0.25",
            "augment.gamma.probability=0.3",
            "augment.gamma_inverted.probability=0.1",
            "augment.contrast.probability=0.15",
            "augment.brightness.probability=0.15",
            $($more),*
        ]
    };
}

pub const TABLES: &[Table] = &[
    Table {
        name: "accuracy",
        about: "Whole trainings as their configurations have them, nnU-Net's fold 0 held out.",
        config: "hippocampus.toml",
        seeds: 1,
        settings: &[],
        rows: &[row("hippocampus", &[])],
    },
    Table {
        name: "lengths",
        about: "Whole trainings mirrored along all axes.",
        config: "hippocampus.toml",
        seeds: 1,
        settings: &[ALL_AXES],
        rows: &[
            row("3000 steps", &[]),
            row("3000 steps, fold 1", &["data.fold=1"]),
            row("3000 steps, fold 2", &["data.fold=2"]),
            row("4500 steps", &["train.steps=4500", "train.warmup=450", "train.validate_every=1500"]),
            row(
                "4500 steps, group norm",
                &["network.norm=group", "train.steps=4500", "train.warmup=450", "train.validate_every=1500"],
            ),
            row(
                "3600 steps, three stages",
                &["network.stages=3", "train.steps=3600", "train.warmup=360", "train.validate_every=1200"],
            ),
            row(
                "3000 steps, constant rate, weights averaged at 0.997",
                &["train.schedule=constant", "train.ema_decay=0.997"],
            ),
            row(
                "16000 steps, all transforms of nnU-Net, group norm",
                all_transforms![
                    "network.norm=group",
                    "train.steps=16000",
                    "train.warmup=1000",
                    "train.validate_every=4000"
                ],
            ),
        ],
    },
    Table {
        name: "long",
        about: "The longer one, in the same way.",
        config: "hippocampus-long.toml",
        seeds: 1,
        settings: &[],
        rows: &[row("hippocampus-long", &[])],
    },
    Table {
        name: "folds",
        about: "The shorter one with each of the other folds held out.",
        config: "hippocampus.toml",
        seeds: 1,
        settings: &[],
        rows: &[
            row("fold 1", &["data.fold=1"]),
            row("fold 2", &["data.fold=2"]),
            row("fold 3", &["data.fold=3"]),
            row("fold 4", &["data.fold=4"]),
        ],
    },
    Table {
        name: "choices",
        about: "One choice at a time made otherwise: 3200 samples of 32 x 48 x 32 voxels where a row does not say otherwise.",
        config: "hippocampus.toml",
        seeds: 1,
        settings: CHOICE,
        rows: &[
            row("as it is", &[]),
            row(
                "effective batch 1, twice the steps",
                &["batch.effective=1", "train.steps=3200", "train.validate_every=3200"],
            ),
            row(
                "effective batch 4, half the steps",
                &["batch.effective=4", "train.steps=800", "train.validate_every=800"],
            ),
            row("learning rate 0.001", &["train.learning_rate=0.001"]),
            row("warm-up over 160 steps", &["train.warmup=160"]),
            row(
                "features 8, twice the steps",
                &["network.features=8", "train.steps=3200", "train.validate_every=3200"],
            ),
            row(
                "features 32, a quarter of the steps",
                &["network.features=32", "train.steps=400", "train.validate_every=400"],
            ),
            row("foreground 0.67", &["sampling.foreground=0.67"]),
            row("sgd at 0.01", &["train.optimizer=sgd", "train.learning_rate=0.01"]),
            row("instance norm", &["network.norm=instance"]),
            row("no deep supervision", &["network.deep_supervision=false"]),
            row("all transforms of nnU-Net", all_transforms![]),
            row("left and right mirrored alone", &[LEFT_AND_RIGHT]),
            row("instance norm, left and right mirrored alone", &["network.norm=instance", LEFT_AND_RIGHT]),
            row("instance norm, nothing mirrored", &["network.norm=instance", "augment.mirror.probability=0"]),
            row("mirroring alone, without noise", &["augment.noise.probability=0"]),
            row("mirrorings averaged", &["predict.mirror=true"]),
            row("cosine schedule", &["train.schedule=cosine"]),
            row("weights averaged at 0.99", &["train.ema_decay=0.99"]),
            row("constant rate, weights averaged at 0.99", &["train.schedule=constant", "train.ema_decay=0.99"]),
            row("three stages", &["network.stages=3"]),
            row(
                "residual encoder, half the steps",
                &["network.kind=resenc", "train.steps=800", "train.validate_every=800"],
            ),
        ],
    },
    Table {
        name: "batch",
        about: "Norm and micro-batch at an effective batch of 8, then effective batches; 1600 samples each, three seeds.",
        config: "hippocampus.toml",
        seeds: 3,
        settings: SHORT,
        rows: &[
            row("batch norm, micro-batch 1", &["network.norm=batch", "network.batch_norm_min=1", "batch.micro=1"]),
            row("batch norm, micro-batch 2", &["network.norm=batch", "network.batch_norm_min=1", "batch.micro=2"]),
            row("batch norm, micro-batch 4", &["network.norm=batch", "network.batch_norm_min=1", "batch.micro=4"]),
            row("batch norm, micro-batch 8", &["network.norm=batch", "network.batch_norm_min=1", "batch.micro=8"]),
            row("group norm, 8 groups", &["network.norm=group", "network.norm_groups=8"]),
            row("group norm, 16 groups", &["network.norm=group", "network.norm_groups=16"]),
            row("group norm, 32 groups", &["network.norm=group", "network.norm_groups=32"]),
            row("instance norm", &["network.norm=instance"]),
            row("effective batch 1", &["batch.effective=1", "train.steps=1600", "train.validate_every=1600"]),
            row("effective batch 2", &["batch.effective=2", "train.steps=800", "train.validate_every=800"]),
            row("effective batch 4", &["batch.effective=4", "train.steps=400", "train.validate_every=400"]),
            row("effective batch 8", &[]),
            row("effective batch 16", &["batch.effective=16", "train.steps=100", "train.validate_every=100"]),
        ],
    },
    Table {
        name: "equivalence",
        about: "An effective batch of 8 as 8x1, 4x2, 2x4 and 1x8: the digests are the same.",
        config: "hippocampus.toml",
        seeds: 1,
        settings: common!["network.patch=[24,32,24]", "train.steps=100", "batch.effective=8"],
        rows: &[
            row("group norm, 8 x 1", &["batch.micro=1"]),
            row("group norm, 4 x 2", &["batch.micro=2"]),
            row("group norm, 2 x 4", &["batch.micro=4"]),
            row("group norm, 1 x 8", &["batch.micro=8"]),
            row("instance norm, 8 x 1", &["network.norm=instance", "batch.micro=1"]),
            row("instance norm, 1 x 8", &["network.norm=instance", "batch.micro=8"]),
        ],
    },
    Table {
        name: "precision",
        about: "The type of what passes between layers; 1600 samples, three seeds.",
        config: "hippocampus.toml",
        seeds: 3,
        settings: SHORT,
        rows: &[
            row("f32", &["precision.activations=f32"]),
            row("bf16", &["precision.activations=bf16"]),
            row("f16", &["precision.activations=f16"]),
        ],
    },
    Table {
        name: "budgets",
        about: "One configuration in three budgets: the same patch, the same weights.",
        config: "hippocampus.toml",
        seeds: 1,
        settings: common!["network.patch=[32,48,32]", "network.features=32", "batch.effective=8", "train.steps=50"],
        rows: &[
            row("1 GiB", &["memory.budget=1GiB"]),
            row("256 MiB", &["memory.budget=256MiB"]),
            row("176 MiB", &["memory.budget=176MiB"]),
        ],
    },
];
