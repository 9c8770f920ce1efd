//! The schema of the effective-batch configuration file, as written; the defaults are the contract's.
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

use super::{Auto, ByteSize, SplitBy};
use crate::dataset::Remap;
use crate::dataset::split::SEED;
use crate::network::plan::Kind;
use crate::patch::augment::AugmentConfig;

/// One experiment. A key not given is its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Experiment {
    /// Which cases, and which of them are held out.
    pub data: Data,
    /// How many samples a step takes, and how many are in memory at once.
    pub batch: Batch,
    /// What may be held, and what is computed again to hold less.
    pub memory: Memory,
    /// In which types is computed and stored.
    pub precision: Precision,
    /// Patch and U-Net.
    pub network: Network,
    /// Steps, optimizer, loss and looks at held-out cases.
    pub train: Train,
    /// Where patches are taken from.
    pub sampling: Sampling,
    /// How samples are changed before they are learnt from.
    pub augment: AugmentConfig,
    /// How the trained network is used.
    pub predict: Predict,
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// As written: relative to the file, `${NAME}` unexpanded ([`super::Config::dataset`] gives the path).
    pub dataset: String,
    /// Parts that the cases are dealt into; one is held out.
    pub folds: usize,
    /// The part that is held out.
    pub fold: Fold,
    /// What cases are dealt into folds by; a file is relative to this one ([`super::Config::split_file`] gives the path).
    pub split: SplitBy,
    /// Of the shuffle that deals cases into folds; auto: nnU-Net's, 12345.
    pub split_seed: Auto<u64>,
    /// A regular expression over ids, whose first group or else whole match is the patient; empty: what dataset.json says.
    pub group: String,
    /// mm, x, y, z, that all cases are resampled to; auto: nnU-Net's rule.
    pub spacing: Auto<[f64; 3]>,
    /// Whether a case at fault ends the training or is left out.
    pub on_bad_case: OnBadCase,
    /// What values of label maps become as they are read.
    #[serde(skip_serializing_if = "Remap::is_empty")]
    pub remap: Remap,
}

/// What to do about a case that cannot be read or does not fit the dataset's description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadCase {
    /// Name every fault and train nothing.
    #[default]
    Stop,
    /// Name it, and train as if it were not there.
    Skip,
}

/// Which cases are held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Fold 0..folds.
    One(usize),
    /// None: all are trained on, without validation.
    All,
}

/// `[batch]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// Samples per optimizer step.
    pub effective: usize,
    /// Samples in memory at once; -1 is auto too. Auto is min(effective, 2): group and instance normalisation give the
    /// same result for any number.
    #[serde(deserialize_with = "micro")]
    pub micro: Auto<usize>,
}

/// `[memory]`: what `memory::planner` plans by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// The most the process may hold.
    pub budget: Auto<ByteSize>,
    /// What is computed again in the backward pass; auto is the least that fits the budget.
    pub recompute: Auto<Recompute>,
}

/// What is computed again in the backward pass instead of kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Nothing beyond norms: on the processor the same as `Norms`.
    None,
    /// Norms and activations, which are never kept.
    Norms,
    /// The insides of encoder stages and decoder levels, too, for about a fifth more time.
    Blocks,
    /// As `Blocks`; what stays of the forward pass waits in the host's memory. For graphics cards.
    Parked,
}

impl Recompute {
    /// Whether the insides of blocks are computed again.
    pub fn blocks(self) -> bool {
        matches!(self, Self::Blocks | Self::Parked)
    }
}

/// `[precision]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Precision {
    /// Auto is bf16. Master weights, sums and the loss are f32 always.
    pub activations: Auto<Activations>,
    /// f16 only. Auto starts at 65536, doubles after 2000 clean steps, halves and skips on overflow.
    pub loss_scale: Auto<f64>,
}

/// Type of what passes between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activations {
    /// IEEE single precision, 4 bytes.
    F32,
    /// The upper half of an f32, 2 bytes: its range with 8 bits of mantissa.
    Bf16,
    /// IEEE half precision, 2 bytes: 11 bits of mantissa, largest 65504, hence the loss scale.
    F16,
}

impl fmt::Display for Activations {
    /// As a configuration writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Of nnU-Net's two networks.
    pub kind: Kind,
    /// Memory of the card that `auto` below is designed for.
    pub design: ByteSize,
    /// Voxels x, y, z.
    pub patch: Auto<[usize; 3]>,
    /// Resolutions of the encoder; auto is nnU-Net's rule.
    pub stages: Auto<usize>,
    /// Per stage, x, y, z, each 1 or 3.
    pub kernels: Auto<Vec<[usize; 3]>>,
    /// Per stage, x, y, z, each 1 or 2, all 1 in the first.
    pub strides: Auto<Vec<[usize; 3]>>,
    /// Channels of the first stage.
    pub features: usize,
    /// Channels double from stage to stage up to this.
    pub features_max: usize,
    /// Auto is BatchNorm where the written micro-batch is large enough for it, else GroupNorm.
    pub norm: Auto<NormName>,
    /// Groups of GroupNorm; the largest number up to this that divides the channels is used.
    pub norm_groups: usize,
    /// Smallest written micro-batch that BatchNorm holds with; 1 trusts any.
    pub batch_norm_min: usize,
    /// Whether the loss looks at coarser resolutions of the decoder too.
    pub deep_supervision: bool,
}

/// The normalisation asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormName {
    /// Statistics over the micro-batch: it becomes part of the result.
    Batch,
    /// Statistics over groups of a sample's channels.
    Group,
    /// Statistics over each of a sample's channels, as nnU-Net has it.
    Instance,
}

/// `[train]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Optimizer steps of the run; the learning rate falls to 0 over them.
    pub steps: u64,
    /// The rule that an update follows.
    pub optimizer: OptimizerName,
    /// After `warmup` steps; always times what `schedule` says.
    pub learning_rate: f64,
    /// How the learning rate changes over the steps.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises from nearly 0.
    pub warmup: u64,
    /// Share of the weights' moving average that stays at a step; 0 for no average.
    pub ema_decay: f64,
    /// Added to the gradient with SGD, decoupled with AdamW.
    pub weight_decay: f64,
    /// Largest norm of the gradient of a step.
    pub clip_norm: f64,
    /// Steps between looks at held-out cases.
    pub validate_every: u64,
    /// The first cases of the held-out list, looked at during training.
    pub validate_cases: usize,
    /// Steps between checkpoints that a resumed run can go on from.
    pub checkpoint_every: u64,
    /// One Dice over the whole effective batch in place of one for each sample.
    pub batch_dice: bool,
    /// Everything that is drawn follows from it: weights, patches, augmentation.
    pub seed: u64,
}

/// The rule that an update follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// Nesterov momentum 0.99.
    Sgd,
    /// Betas 0.9 and 0.999, weight decay decoupled (Loshchilov and Hutter, 2019).
    Adamw,
}

/// How the learning rate changes over the steps; `t` is the share of them that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// `(1 - t)^0.9`, nnU-Net's.
    Poly,
    /// `(1 + cos(pi t)) / 2` (Loshchilov and Hutter, 2017, without restarts).
    Cosine,
    /// 1.
    Constant,
}

impl Train {
    /// Numbers that are remembered of every weight from step to step.
    pub fn remembered(&self) -> usize {
        let by_rule = match self.optimizer {
            OptimizerName::Sgd => 1,
            OptimizerName::Adamw => 2,
        };
        by_rule + usize::from(self.ema_decay > 0.0)
    }
}

/// `[sampling]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Share of samples centred on a foreground voxel.
    pub foreground: f64,
}

/// `[predict]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Predict {
    /// Average over all mirrorings along the axes that training mirrored, in validation and afterwards.
    pub mirror: bool,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            dataset: "../volumes/phantom".into(),
            folds: 5,
            fold: Fold::One(0),
            split: SplitBy::Nnunet,
            split_seed: Auto::Auto,
            group: String::new(),
            spacing: Auto::Auto,
            on_bad_case: OnBadCase::Stop,
            remap: Remap::default(),
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { effective: 8, micro: Auto::Auto }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            kind: Kind::Plain,
            design: ByteSize(8 << 30),
            patch: Auto::Auto,
            stages: Auto::Auto,
            kernels: Auto::Auto,
            strides: Auto::Auto,
            features: 32,
            features_max: 320,
            norm: Auto::Auto,
            norm_groups: 8,
            // docs/evidence.md, rows "batch norm": 1 is below 8 for each of three seeds, 2 and 4 lie between.
            batch_norm_min: 8,
            deep_supervision: true,
        }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            steps: 1000,
            optimizer: OptimizerName::Sgd,
            learning_rate: 0.01,
            schedule: Schedule::Poly,
            warmup: 0,
            ema_decay: 0.0,
            weight_decay: 3e-5,
            clip_norm: 12.0,
            validate_every: 250,
            validate_cases: 8,
            checkpoint_every: 250,
            batch_dice: false,
            seed: 0,
        }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { foreground: 0.33 }
    }
}

impl Experiment {
    /// The seed that deals cases into folds.
    pub fn split_seed(&self) -> u64 {
        self.data.split_seed.value().copied().unwrap_or(SEED)
    }

    /// Axes along which validation averages mirrorings, z, y, x.
    pub fn mirrored(&self) -> [bool; 3] {
        self.augment.mirrors().map(|mirrors| mirrors && self.predict.mirror)
    }

    /// The file that reads back as this experiment, floats exactly.
    ///
    /// # Errors
    /// None for values that [`super::Config::load`] accepts; a seed above 2^63 - 1 cannot be written.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// A number of samples, "auto", or -1 for auto.
fn micro<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Auto<usize>, D::Error> {
    match Auto::<i64>::deserialize(deserializer)? {
        Auto::Auto | Auto::Value(-1) => Ok(Auto::Auto),
        Auto::Value(samples) => usize::try_from(samples).map(Auto::Value).map_err(D::Error::custom),
    }
}

impl Serialize for Fold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(fold) => fold.serialize(serializer),
            Self::All => serializer.serialize_str("all"),
        }
    }
}

impl<'de> Deserialize<'de> for Fold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FoldVisitor;
        impl Visitor<'_> for FoldVisitor {
            type Value = Fold;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number or \"all\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Fold, E> {
                if text == "all" { Ok(Fold::All) } else { Err(E::custom("not \"all\"")) }
            }

            fn visit_i64<E: Error>(self, fold: i64) -> Result<Fold, E> {
                usize::try_from(fold).map(Fold::One).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, fold: u64) -> Result<Fold, E> {
                usize::try_from(fold).map(Fold::One).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(FoldVisitor)
    }
}
