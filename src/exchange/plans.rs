//! `plans.json` as nnU-Net 2.8.1 reads it, so that its predictor prepares a case as voxfit does, and the files beside it.
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::ExchangeError;
use super::dataset_file::DatasetFile;
use crate::config::Config;
use crate::files::{read_at_most, write_bytes};
use crate::network::plan::{Kind, NetworkPlan, Norm};
use crate::train::LoadedRun;
use crate::volume::normalise::Normalisation;

/// Says in either file who wrote it: only such a file is written over.
const MARK: &str = "written_by";
/// Bytes of a file that is looked at for it.
const MAX_LOOKED_AT: u64 = 16 << 20;

/// The class that nnU-Net is told to build group norms with, which PyTorch's own cannot stand in for: nnU-Net gives the
/// number of channels first.
pub const GROUP_NORM_MODULE: &str = "\
\"\"\"The norm of voxfit's networks for nnU-Net's plans.json: put the folder of this file on PYTHONPATH.\"\"\"
import torch


class GroupNorm(torch.nn.GroupNorm):
    def __init__(self, channels, most=8, eps=1e-5, affine=True):
        groups = max(n for n in range(1, most + 1) if channels % n == 0)
        super().__init__(groups, channels, eps=eps, affine=affine)
";

/// What of a run is in neither its plan nor its weights, for a person who trains on in nnU-Net.
struct Training {
    effective: usize,
    batch_dice: bool,
}

impl Training {
    /// From the run's own configuration; where it cannot be read, what nnU-Net plans most often.
    fn of(run: &Path) -> Self {
        match Config::load(&run.join("config.toml"), &[]) {
            Ok(config) => {
                Self { effective: config.experiment.batch.effective, batch_dice: config.experiment.train.batch_dice }
            }
            Err(_) => Self { effective: 2, batch_dice: false },
        }
    }
}

/// Writes the files that go with exported weights into `folder`; their paths.
///
/// # Errors
/// A file of that name which voxfit did not write; those of the file system.
pub fn write(folder: &Path, run: &Path, plan: &LoadedRun) -> Result<Vec<PathBuf>, ExchangeError> {
    let mut texts = vec![
        ("plans.json", pretty(&plans(plan, &Training::of(run)))),
        ("dataset.json", pretty(&DatasetFile::of(plan))),
    ];
    if groups(&plan.network).is_some() {
        texts.push(("voxfit_norm.py", Ok(GROUP_NORM_MODULE.to_owned())));
    }
    for (name, _) in &texts {
        refuse_others(&folder.join(name))?;
    }
    let mut written = Vec::new();
    for (name, text) in texts {
        let path = folder.join(name);
        let text = text.map_err(|error| ExchangeError::io(&path)(error.into()))?;
        write_bytes(&path, text.as_bytes()).map_err(ExchangeError::io(&path))?;
        written.push(path);
    }
    Ok(written)
}

fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n")
}

/// A plans.json in the way is most likely nnU-Net's own.
fn refuse_others(path: &Path) -> Result<(), ExchangeError> {
    if !path.exists() {
        return Ok(());
    }
    let bytes = read_at_most(path, MAX_LOOKED_AT).unwrap_or_default();
    let marked = serde_json::from_slice::<Map<String, Value>>(&bytes).is_ok_and(|file| file.contains_key(MARK));
    if marked || bytes == GROUP_NORM_MODULE.as_bytes() {
        return Ok(());
    }
    Err(ExchangeError::file(path, "another program's file is there", "give -o a file in another folder"))
}

/// The value of the mark.
pub fn written_by() -> String {
    format!("voxfit {}", crate::VERSION)
}

/// The most groups of the network's group norms.
pub fn groups(network: &NetworkPlan) -> Option<usize> {
    let groups = network.stages.iter().filter_map(|stage| match stage.norm {
        Norm::Group { groups } => Some(groups),
        Norm::Batch | Norm::Instance => None,
    });
    groups.max()
}

/// Whether every stage has as many groups as [`GROUP_NORM_MODULE`] gives it.
pub fn groups_follow_the_rule(network: &NetworkPlan) -> bool {
    let most = groups(network).unwrap_or(1);
    let chosen = |channels: usize| (1..=most).rev().find(|groups| channels.is_multiple_of(*groups));
    network.stages.iter().all(|stage| match stage.norm {
        Norm::Group { groups } => chosen(stage.features) == Some(groups),
        Norm::Batch | Norm::Instance => true,
    })
}

/// Everything in order z, y, x: no axes are exchanged.
fn plans(plan: &LoadedRun, training: &Training) -> Value {
    let spacing = crate::zyx(plan.preparation.spacing);
    let schemes: Vec<&str> = plan.preparation.normalisation.iter().map(scheme).collect();
    let masked: Vec<bool> = plan.preparation.normalisation.iter().map(Normalisation::is_masked).collect();
    let resampling = "resample_data_or_seg_to_shape";
    let by =
        |is_seg: bool, order: u8| json!({"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": null});
    json!({
        MARK: written_by(),
        "dataset_name": "Dataset000_voxfit",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": plan.patch,
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": training.effective,
            "patch_size": plan.patch,
            "median_image_size_in_voxels": plan.patch,
            "spacing": spacing,
            "normalization_schemes": schemes,
            "use_mask_for_norm": masked,
            "resampling_fn_data": resampling,
            "resampling_fn_seg": resampling,
            "resampling_fn_data_kwargs": by(false, 3),
            "resampling_fn_seg_kwargs": by(true, 1),
            "resampling_fn_probabilities": resampling,
            "resampling_fn_probabilities_kwargs": by(false, 1),
            "architecture": architecture(&plan.network),
            "batch_dice": training.batch_dice,
        }},
        "experiment_planner_used": "voxfit",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": intensities(plan),
        "inference_allowed_mirroring_axes": mirrored(plan),
    })
}

/// Axes, z first, that training mirrored: nnU-Net keeps them in the checkpoint.
fn mirrored(plan: &LoadedRun) -> Vec<usize> {
    (0..3).filter(|axis| plan.mirror_axes[*axis]).collect()
}

fn scheme(normalisation: &Normalisation) -> &'static str {
    match normalisation {
        Normalisation::Ct { .. } => "CTNormalization",
        Normalisation::ZScore { .. } => "ZScoreNormalization",
    }
}

/// Of CT, what the normalisation itself uses.
fn intensities(plan: &LoadedRun) -> Value {
    let channels = plan.intensities.iter().zip(&plan.preparation.normalisation).enumerate();
    let of = channels.map(|(channel, (found, normalisation))| {
        let (low, high, mean, deviation) = match *normalisation {
            Normalisation::Ct { low, high, mean, deviation } => (low, high, mean, deviation),
            Normalisation::ZScore { .. } => (found.percentile_00_5, found.percentile_99_5, found.mean, found.deviation),
        };
        let properties = json!({"mean": mean, "median": found.median, "std": deviation, "min": found.min,
            "max": found.max, "percentile_00_5": low, "percentile_99_5": high});
        (channel.to_string(), properties)
    });
    Value::Object(of.collect())
}

fn architecture(network: &NetworkPlan) -> Value {
    let stages = &network.stages;
    let of_each = |value: fn(&crate::network::plan::Stage) -> Value| stages.iter().map(value).collect::<Vec<_>>();
    let (norm, norm_arguments) = match (groups(network), stages.first().map(|stage| stage.norm)) {
        (Some(most), _) => ("voxfit_norm.GroupNorm", json!({"most": most, "eps": 1e-5, "affine": true})),
        (None, Some(Norm::Batch)) => ("torch.nn.modules.batchnorm.BatchNorm3d", json!({"eps": 1e-5, "affine": true})),
        (None, _) => ("torch.nn.modules.instancenorm.InstanceNorm3d", json!({"eps": 1e-5, "affine": true})),
    };
    let mut arguments = json!({
        "n_stages": stages.len(),
        "features_per_stage": of_each(|stage| json!(stage.features)),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": of_each(|stage| json!(stage.kernel)),
        "strides": of_each(|stage| json!(stage.stride)),
        "n_conv_per_stage_decoder": vec![network.kind.decoder_convolutions(); stages.len().saturating_sub(1)],
        "conv_bias": true,
        "norm_op": norm,
        "norm_op_kwargs": norm_arguments,
        "dropout_op": null,
        "dropout_op_kwargs": null,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": true},
    });
    let (class, blocks, count): (_, _, Vec<usize>) = match network.kind {
        Kind::Plain => ("PlainConvUNet", "n_conv_per_stage", vec![2; stages.len()]),
        Kind::ResEnc => (
            "ResidualEncoderUNet",
            "n_blocks_per_stage",
            (0..stages.len()).map(|stage| network.kind.blocks(stage)).collect(),
        ),
    };
    arguments[blocks] = json!(count);
    json!({
        "network_class_name": format!("dynamic_network_architectures.architectures.unet.{class}"),
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    })
}
