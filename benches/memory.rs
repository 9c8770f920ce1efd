//! Predicted beside measured peak memory of the process for plans of many kinds: `cargo bench --bench memory -- [WORDS]`,
//! where WORDS narrow it down, as in `-- f32 blocks`. Each plan is probed by a process of its own: two real steps.
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Patch x, y, z; micro-batch and effective batch; activations; recomputation; channels; norm; features of the first stage;
/// optimizer.
type Plan = ([usize; 3], usize, usize, &'static str, &'static str, usize, &'static str, usize, &'static str);

const PLANS: [Plan; 20] = [
    ([32, 32, 32], 1, 2, "bf16", "none", 1, "group", 32, "sgd"),
    ([32, 32, 32], 4, 4, "f32", "none", 1, "instance", 32, "sgd"),
    ([32, 32, 32], 2, 4, "f16", "blocks", 4, "group", 32, "sgd"),
    ([64, 64, 16], 1, 2, "bf16", "none", 2, "instance", 32, "sgd"),
    ([40, 56, 40], 3, 9, "bf16", "none", 1, "group", 32, "sgd"),
    ([48, 48, 48], 3, 3, "f16", "norms", 2, "group", 32, "sgd"),
    ([64, 64, 64], 1, 1, "bf16", "none", 1, "group", 32, "sgd"),
    ([64, 64, 64], 2, 2, "bf16", "norms", 1, "instance", 32, "adamw"),
    ([64, 64, 64], 4, 4, "bf16", "blocks", 1, "group", 32, "sgd"),
    ([64, 64, 64], 2, 4, "f32", "norms", 1, "batch", 32, "sgd"),
    ([64, 64, 64], 4, 4, "f32", "blocks", 3, "batch", 16, "adamw"),
    ([96, 96, 24], 2, 2, "f16", "none", 3, "instance", 32, "sgd"),
    ([96, 96, 24], 4, 4, "bf16", "blocks", 1, "batch", 32, "sgd"),
    ([80, 96, 80], 2, 2, "bf16", "blocks", 1, "instance", 32, "sgd"),
    ([96, 96, 96], 1, 2, "bf16", "blocks", 1, "group", 32, "sgd"),
    ([96, 96, 96], 1, 1, "f32", "none", 2, "group", 32, "sgd"),
    ([112, 112, 112], 1, 2, "f16", "none", 1, "group", 16, "sgd"),
    ([128, 128, 32], 2, 2, "bf16", "none", 1, "batch", 32, "sgd"),
    ([128, 128, 128], 1, 2, "bf16", "blocks", 1, "group", 32, "sgd"),
    ([128, 128, 128], 1, 1, "f32", "none", 4, "instance", 32, "sgd"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo bench` adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let folder = tempfile::tempdir()?;
    println!(
        "| patch | at once, in all | activations | recompute | channels | norm | features | optimizer | predicted MiB | measured MiB | off |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for plan in &PLANS {
        let (patch, micro, effective, activations, recompute, channels, norm, features, optimizer) = *plan;
        let [x, y, z] = patch;
        let name = format!(
            "| {x}x{y}x{z} | {micro}, {effective} | {activations} | {recompute} | {channels} | {norm} | {features} | {optimizer} |"
        );
        if !words.iter().all(|word| name.split([' ', ',']).any(|part| part == word)) {
            continue;
        }
        let dataset = folder.path().join(format!("channels_{channels}"));
        if !dataset.exists() {
            make(&dataset, channels)?;
        }
        let settings = [
            format!("network.patch=[{x},{y},{z}]"),
            format!("network.features={features}"),
            format!("network.norm={norm}"),
            "network.batch_norm_min=1".to_owned(),
            format!("batch.effective={effective}"),
            format!("batch.micro={micro}"),
            format!("precision.activations={activations}"),
            format!("memory.recompute={recompute}"),
            format!("train.optimizer={optimizer}"),
        ];
        let mut command = voxfit(folder.path());
        command.arg("plan").arg(&dataset).args(["--memory", "1TiB", "--probe", "--json"]);
        for setting in &settings {
            command.args(["--set", setting]);
        }
        let page: Value = serde_json::from_slice(&run(&mut command)?)?;
        let bytes = |key: &str| page["probe"][key].as_f64().unwrap_or(f64::NAN);
        let (predicted, measured) = (bytes("predicted_bytes"), bytes("measured_bytes"));
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        println!(
            "{name} {:.1} | {:.1} | {:+.1} % |",
            mib(predicted),
            mib(measured),
            100.0 * (predicted / measured - 1.0)
        );
    }
    Ok(())
}

fn voxfit(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voxfit"));
    command.env("VOXFIT_CACHE", folder.join("cache"));
    command
}

fn run(command: &mut Command) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
}

/// Two cases in nnU-Net's layout, every channel the same image.
fn make(dataset: &Path, channels: usize) -> Result<(), Box<dyn std::error::Error>> {
    let folder = dataset.parent().ok_or("no folder")?;
    let phantom = folder.join("phantom");
    if !phantom.exists() {
        run(voxfit(folder).arg("phantom").arg(&phantom).args([
            "--cases",
            "2",
            "--size",
            "48,48,48",
            "--classes",
            "2",
        ]))?;
    }
    fs::create_dir_all(dataset.join("imagesTr"))?;
    fs::create_dir_all(dataset.join("labelsTr"))?;
    for entry in fs::read_dir(phantom.join("imagesTr"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let case = name.trim_end_matches(".nii.gz");
        for channel in 0..channels {
            fs::copy(entry.path(), dataset.join(format!("imagesTr/{case}_{channel:04}.nii.gz")))?;
        }
        fs::copy(phantom.join("labelsTr").join(&name), dataset.join("labelsTr").join(&name))?;
    }
    let names: serde_json::Map<String, Value> =
        (0..channels).map(|channel| (channel.to_string(), json!(format!("mri{channel}")))).collect();
    let described: Value = serde_json::from_slice(&fs::read(phantom.join("dataset.json"))?)?;
    let classes = described["labels"].as_object().map_or(0, serde_json::Map::len);
    let labels: serde_json::Map<String, Value> = (0..classes)
        .map(|class| (if class == 0 { "background".into() } else { format!("class{class}") }, json!(class)))
        .collect();
    let page = json!({ "channel_names": names, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz" });
    fs::write(dataset.join("dataset.json"), page.to_string())?;
    Ok(())
}
