//! `voxfit devices`: what this build can compute on, and why it cannot on the rest.
use clap::Args;
use serde::Serialize;
use voxfit::config::Activations;
use voxfit::device::{Card, Cards};
use voxfit::memory::machine::{self, MemoryOfMachine};
use voxfit::ops::cpu::isa::{Isa, isa};

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
    device: String,
    usable: bool,
    /// What a card's driver calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
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

impl Entry {
    fn of(device: String, usable: bool) -> Self {
        Self {
            device,
            usable,
            name: None,
            reason: None,
            threads: None,
            memory_bytes: None,
            available_bytes: None,
            cgroup_limit_bytes: None,
            features: Vec::new(),
            precisions: Vec::new(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Precision {
    name: String,
    /// False: the type is stored and computed with through f32.
    native: bool,
}

pub fn run(args: &DevicesArgs) -> anyhow::Result<Exit> {
    let mut entries = vec![cpu()];
    entries.extend([Cards::Vulkan, Cards::Cuda].into_iter().flat_map(cards));
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
    // bf16 is multiplied two by two in f32, by the processor's own instruction where that is the faster way; f16 is
    // stored, and computed with in f32.
    let precisions =
        [(Activations::F32, true), (Activations::Bf16, isa() == Isa::Avx512Bf16), (Activations::F16, false)]
            .map(|(precision, native)| Precision { name: precision.to_string(), native });
    Entry {
        threads: Some(std::thread::available_parallelism().map_or(1, usize::from)),
        memory_bytes: total,
        available_bytes: available,
        cgroup_limit_bytes: cgroup_limit,
        features: machine::features(),
        precisions: precisions.into(),
        ..Entry::of("cpu".to_owned(), true)
    }
}

/// The cards of a kind, each as `--device` counts it, or why there is none.
fn cards(kind: Cards) -> Vec<Entry> {
    let found = kind.found();
    if found.is_empty() {
        let reason = match kind.built() {
            true => "no driver of this machine shows a card".to_owned(),
            false => format!("not in this build; build with --features {}", kind.name()),
        };
        return vec![Entry { reason: Some(reason), ..Entry::of(kind.name().to_owned(), false) }];
    }
    let entry = |(number, card): (usize, Card)| Entry {
        name: Some(card.name),
        precisions: card
            .precisions
            .iter()
            .map(|precision| Precision { name: precision.to_string(), native: true })
            .collect(),
        ..Entry::of(format!("{}:{number}", kind.name()), true)
    };
    found.into_iter().enumerate().map(entry).collect()
}

fn line(entry: &Entry) -> String {
    let mut parts: Vec<String> = entry.name.iter().cloned().collect();
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
            .map(|Precision { name, native }| if *native { name.clone() } else { format!("{name} (computed in f32)") })
            .collect();
        parts.push(names.join(", "));
    }
    parts.extend(entry.reason.clone());
    let mark = if entry.usable { "usable" } else { "absent" };
    format!("{:8} {mark}  {}", entry.device, parts.join("; "))
}
