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
    /// Another than the table's.
    pub config: Option<&'static str>,
    pub settings: &'static [&'static str],
}

const fn row(name: &'static str, settings: &'static [&'static str]) -> Row {
    Row { name, config: None, settings }
}

/// Short trainings of a small patch, to be made many times: 2400 samples each.
const SHORT: &[&str] = &[
    "network.patch=[32,48,32]",
    "train.steps=300",
    "batch.effective=8",
    "train.learning_rate=0.002",
    "train.validate_every=300",
];

pub const TABLES: &[Table] = &[
    Table {
        name: "accuracy",
        about: "Whole trainings as their configurations have them, nnU-Net's fold 0 held out.",
        config: "hippocampus.toml",
        seeds: 1,
        settings: &[],
        rows: &[
            row("hippocampus", &[]),
            Row { name: "hippocampus-long", config: Some("hippocampus-long.toml"), settings: &[] },
        ],
    },
    Table {
        name: "choices",
        about: "configs/hippocampus.toml with a quarter of its steps, and one choice at a time made otherwise.",
        config: "hippocampus.toml",
        seeds: 1,
        settings: &["train.steps=1600"],
        rows: &[
            row("as it is", &[]),
            row("features 8", &["network.features=8"]),
            row("features 32", &["network.features=32"]),
            row("effective batch 2, twice the steps", &["batch.effective=2", "train.steps=3200"]),
            row("effective batch 8, half the steps", &["batch.effective=8", "train.steps=800"]),
            row("learning rate 0.001", &["train.learning_rate=0.001"]),
            row("learning rate 0.004", &["train.learning_rate=0.004"]),
            row("sgd at 0.01", &["train.optimizer=sgd", "train.learning_rate=0.01"]),
            row("instance norm", &["network.norm=instance"]),
            row("no deep supervision", &["network.deep_supervision=false"]),
            row("foreground 0.67", &["sampling.foreground=0.67"]),
            row("no augmentation", &["augment.enabled=false"]),
            row("residual encoder", &["network.kind=resenc"]),
        ],
    },
    Table {
        name: "batch",
        about: "Norm and micro-batch at an effective batch of 8, then effective batches; 2400 samples each, three seeds.",
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
            row("effective batch 1", &["batch.effective=1", "train.steps=2400", "train.validate_every=2400"]),
            row("effective batch 2", &["batch.effective=2", "train.steps=1200", "train.validate_every=1200"]),
            row("effective batch 4", &["batch.effective=4", "train.steps=600", "train.validate_every=600"]),
            row("effective batch 8", &[]),
            row("effective batch 16", &["batch.effective=16", "train.steps=150"]),
        ],
    },
    Table {
        name: "equivalence",
        about: "An effective batch of 8 as 8x1, 4x2, 2x4 and 1x8: the digests are the same.",
        config: "hippocampus.toml",
        seeds: 1,
        settings: &["network.patch=[32,48,32]", "train.steps=100", "batch.effective=8"],
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
        about: "The type of what passes between layers; 2400 samples, three seeds.",
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
        settings: &["network.features=32", "batch.effective=8", "train.steps=100"],
        rows: &[
            row("1 GiB", &["memory.budget=1GiB"]),
            row("256 MiB", &["memory.budget=256MiB"]),
            row("160 MiB", &["memory.budget=160MiB"]),
        ],
    },
];
