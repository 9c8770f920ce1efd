//! `voxfit devices`: what this build can compute on, and why it cannot on the rest.
use clap::Args;
use serde::Serialize;
use voxfit::memory::machine::{self, MemoryOfMachine};

use super::{Exit, terminal};

/// List the devices this build can use, and why the others cannot be used
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  voxfit devices --json")]
pub struct DevicesArgs {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Entry {
    /// As `--device` takes it.
    device: &'static str,
    usable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    features: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    precisions: Vec<Precision>,
}

#[derive(Debug, Serialize)]
struct Precision {
    name: &'static str,
    /// False: the type is stored and computed with through f32.
    native: bool,
}

pub fn run(args: &DevicesArgs) -> anyhow::Result<Exit> {
    let entries = [cpu(), absent("vulkan", cfg!(feature = "vulkan")), absent("cuda", cfg!(feature = "cuda"))];
    if args.json {
        terminal::say_json(&serde_json::json!({ "devices": entries }))?;
    } else {
        let lines: Vec<String> = entries.iter().map(line).collect();
        terminal::say(&lines.join("\n"))?;
    }
    Ok(Exit::Done)
}

fn cpu() -> Entry {
    let MemoryOfMachine { total, available, cgroup_limit } = machine::memory();
    let features = machine::features();
    let precisions = vec![
        Precision { name: "f32", native: true },
        // The operations of this version store these two and compute in f32, whatever the processor has.
        Precision { name: "bf16", native: false },
        Precision { name: "f16", native: false },
    ];
    Entry {
        device: "cpu",
        usable: true,
        reason: None,
        threads: Some(std::thread::available_parallelism().map_or(1, usize::from)),
        memory_bytes: total,
        available_bytes: available,
        cgroup_limit_bytes: cgroup_limit,
        features,
        precisions,
    }
}

/// A kind of GPU; `built` says whether this build has the code for it.
fn absent(device: &'static str, built: bool) -> Entry {
    let reason = if built {
        "in this build, but looking for its adapters is not in this version".to_owned()
    } else {
        format!("not in this build; build with --features {device}")
    };
    Entry {
        device,
        usable: built,
        reason: Some(reason),
        threads: None,
        memory_bytes: None,
        available_bytes: None,
        cgroup_limit_bytes: None,
        features: Vec::new(),
        precisions: Vec::new(),
    }
}

fn line(entry: &Entry) -> String {
    let mut parts = Vec::new();
    parts.extend(entry.threads.map(|threads| format!("{threads} threads")));
    parts.extend(entry.available_bytes.map(|bytes| match entry.memory_bytes {
        Some(all) => format!("{} of {} available", terminal::size(bytes), terminal::size(all)),
        None => format!("{} available", terminal::size(bytes)),
    }));
    parts.extend(entry.cgroup_limit_bytes.map(|bytes| format!("cgroup limit {}", terminal::size(bytes))));
    if !entry.features.is_empty() {
        parts.push(entry.features.join(" "));
    }
    if !entry.precisions.is_empty() {
        let names: Vec<String> = entry
            .precisions
            .iter()
            .map(
                |Precision { name, native }| if *native { (*name).into() } else { format!("{name} (computed in f32)") },
            )
            .collect();
        parts.push(names.join(", "));
    }
    parts.extend(entry.reason.clone());
    let mark = if entry.usable { "usable" } else { "absent" };
    format!("{:8} {mark}  {}", entry.device, parts.join("; "))
}
