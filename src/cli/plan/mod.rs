//! `voxfit plan`: what a dataset and a budget lead to.
mod json;
mod ranks;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use voxfit::config::{Auto, Config, Device, Override, SplitBy};
use voxfit::train::{Plan, PlanOptions};

use super::{Exit, arguments, interrupt, terminal};

/// Show what a dataset and a memory budget lead to: network, batch, bytes and time
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit plan volumes/phantom --memory 1GiB
  voxfit plan volumes/phantom --config configs/quickstart.toml --probe -o planned.toml
  voxfit plan Task03_Liver --low-resolution -o coarse.toml

What changes the result (patch, features) is changed only where nothing else fits, and then it is said; `train` never
changes it.")]
pub struct PlanArgs {
    /// Dataset folder in MSD or nnU-Net v2 layout
    dataset: PathBuf,
    /// Configuration to start from [default: every key at its default]
    #[arg(long, value_name = "BASE.toml")]
    config: Option<PathBuf>,
    /// The most memory to hold, as in 4GiB, instead of memory.budget
    #[arg(long, value_name = "M", value_parser = arguments::memory)]
    memory: Option<String>,
    /// The device to plan for; plans are made for the cpu
    #[arg(long, value_name = "D", default_value_t = Device::Cpu)]
    device: Device,
    /// Samples per optimizer step, instead of batch.effective
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=65_536))]
    effective_batch: Option<i64>,
    /// Run two real steps and show predicted beside measured
    #[arg(long)]
    probe: bool,
    /// Show what 1, 2, ... R processes would hold, send and take that share the samples of a step by MPI
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u16).range(1..=256))]
    ranks: Option<u16>,
    /// Plan the network for a coarser grid that nnU-Net trains where a patch shows less than a quarter of a case
    #[arg(long)]
    low_resolution: bool,
    /// Write the configuration with every value explicit
    #[arg(short, long, value_name = "FILE.toml")]
    output: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N", value_parser = arguments::threads)]
    threads: Option<usize>,
    /// Set any key of the configuration, as in --set network.norm=group
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Override::parse)]
    overrides: Vec<Override>,
}

impl PlanArgs {
    /// The arguments, validated.
    ///
    /// # Errors
    /// A configuration that is wrong, a dataset folder that is not there, another device than the processor.
    fn options(&self) -> anyhow::Result<PlanOptions> {
        let shown = self.dataset.display();
        ensure!(self.dataset.is_dir(), "{shown}: no such folder; give the one that holds dataset.json");
        if !matches!(self.device, Device::Cpu | Device::Auto) {
            bail!(
                "--device {}: memory is planned for the processor only in this version; use --device cpu",
                self.device
            );
        }
        let mut overrides = self.overrides.clone();
        if let Some(memory) = &self.memory {
            overrides.push(Override::new(format!("--memory {memory}"), "memory.budget", memory.as_str()));
        }
        if let Some(samples) = self.effective_batch {
            overrides.push(Override::new(format!("--effective-batch {samples}"), "batch.effective", samples));
        }
        let mut config = match &self.config {
            Some(path) => Config::load(path, &overrides)?,
            None => Config::parse("", Path::new("plan.toml"), &overrides)?,
        };
        // Where the configuration already names this dataset, its own words stay.
        let folder = self.dataset.canonicalize().with_context(|| format!("{shown}: cannot be opened"))?;
        let named = self.config.is_some()
            && config.dataset().is_ok_and(|named| named.canonicalize().ok() == Some(folder.clone()));
        let absolute = Path::new(&config.experiment.data.dataset).is_absolute();
        if !named || !(absolute || config.experiment.data.dataset.starts_with("${")) {
            config.experiment.data.dataset = folder.to_string_lossy().into_owned();
        }
        // What is written by -o stands elsewhere.
        if let (Some(file), SplitBy::File(written)) = (config.split_file()?, &config.experiment.data.split)
            && !written.starts_with("${")
        {
            let file = file.canonicalize().with_context(|| format!("{}: cannot be opened", file.display()))?;
            config.experiment.data.split = SplitBy::File(file.to_string_lossy().into_owned());
        }
        Ok(PlanOptions {
            config,
            dataset: self.dataset.clone(),
            probe: self.probe,
            low_resolution: self.low_resolution,
        })
    }
}

pub fn run(args: &PlanArgs) -> anyhow::Result<Exit> {
    arguments::set_threads(args.threads)?;
    let options = args.options()?;
    let stop = interrupt::on_first_interrupt();
    let plan = voxfit::train::plan(&options, stop)?;
    match args.json {
        true => {
            let mut page = json::page(&plan);
            if let Some(most) = args.ranks {
                page["ranks"] = ranks::rows(&plan, most.into()).into();
            }
            terminal::say_json(&page)?;
        }
        false => {
            terminal::say(&table::page(&plan))?;
            if let Some(most) = args.ranks {
                terminal::say(&format!("\n{}", ranks::page(&plan, most.into())))?;
            }
        }
    }
    if let Some(path) = &args.output {
        write(path, &plan)?;
        if !args.json {
            terminal::say(&format!("\nwritten to {0}; train it with `voxfit train {0}`", path.display()))?;
        }
    }
    Ok(Exit::Done)
}

fn write(path: &Path, plan: &Plan) -> anyhow::Result<()> {
    let resolved = &plan.planned.resolved;
    let body = resolved.experiment.to_toml()?;
    let version = env!("CARGO_PKG_VERSION");
    let budget = match resolved.experiment.memory.budget {
        Auto::Value(budget) => format!(" within {budget}"),
        Auto::Auto => String::new(),
    };
    let text = format!("# Planned{budget} by voxfit {version}; `voxfit train` with this file trains it.\n{body}");
    voxfit::files::write_bytes(path, text.as_bytes())
        .with_context(|| format!("{}: cannot be written; choose another place with -o", path.display()))
}
