//! `voxfit init`: looks at a dataset and writes a configuration that says of every key why it is what it is.
mod ask;
mod text;

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use voxfit::config::{Config, Override, parse_duration};
use voxfit::train::{Plan, PlanOptions};

use super::{Exit, arguments, interrupt, terminal};

/// Look at a dataset and write a commented configuration for it
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit init my-dataset
  voxfit init my-dataset --time 8h --memory 4GiB -o liver.toml
  voxfit init my-dataset --yes --steps 5000

On a terminal a few questions are asked that arguments do not answer; --yes takes the defaults. Time and memory of what is
written are estimates: `voxfit plan my-dataset --config FILE --probe` measures them.")]
pub struct InitArgs {
    /// Dataset folder in MSD or nnU-Net v2 layout
    dataset: PathBuf,
    /// Where to write [default: NAME.toml here, by the dataset's name]
    #[arg(short, long, value_name = "FILE.toml")]
    output: Option<PathBuf>,
    /// The most memory that a training may hold, as in 4GiB [default: auto, what the system has left]
    #[arg(long, value_name = "M", value_parser = arguments::memory)]
    memory: Option<String>,
    /// Samples per optimizer step
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=65_536))]
    effective_batch: Option<i64>,
    /// Optimizer steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1_000_000_000), conflicts_with = "time")]
    steps: Option<i64>,
    /// About how long the steps may take on this machine, as in 30m or 8h [default: 2h]
    #[arg(long, value_name = "T", value_parser = parse_duration)]
    time: Option<Duration>,
    /// Ask nothing
    #[arg(short, long)]
    yes: bool,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N", value_parser = arguments::threads)]
    threads: Option<usize>,
}

/// What people are asked, or arguments say.
struct Wishes {
    memory: String,
    effective: i64,
    steps: Steps,
    /// Classes that are each other's mirror image.
    sides: bool,
}

#[derive(Clone, Copy)]
enum Steps {
    Number(u64),
    Within(Duration),
}

/// What a short training takes where nobody says anything.
const TIME: &str = "2h";
/// Of a training that is worth its name, and of nnU-Net's.
const STEPS: [u64; 2] = [100, 250_000];

pub fn run(args: &InitArgs) -> anyhow::Result<Exit> {
    arguments::set_threads(args.threads)?;
    let shown = args.dataset.display();
    ensure!(args.dataset.is_dir(), "{shown}: no such folder; give the one that holds dataset.json");
    let plan = look(args)?;
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(file_name(&plan.dataset.name, &args.dataset)));
    ensure!(
        args.force || !path.exists(),
        "{}: is there already; choose another with -o, or --force to write over it",
        path.display()
    );
    let named = text::sides(&plan.dataset);
    let wishes = if args.yes || !ask::can() {
        args.wishes(args.time, args.memory.clone(), named.is_some())
    } else {
        ask::wishes(args, named.is_some())?
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot be made; choose another place with -o", folder.display()))?;
    let written = text::configuration(&plan, &wishes, &from(folder, &args.dataset)?);
    // Whatever names are in it, what is written must be readable.
    Config::parse(&written, &path, &[])
        .context("the configuration that was made cannot be read; please report this")?;
    voxfit::files::write_bytes(&path, written.as_bytes())
        .with_context(|| format!("{}: cannot be written; choose another place with -o", path.display()))?;
    terminal::say(&text::farewell(&plan, &wishes, &path, &args.dataset))?;
    Ok(Exit::Done)
}

impl InitArgs {
    fn wishes(&self, time: Option<Duration>, memory: Option<String>, sides: bool) -> Wishes {
        let within =
            || Steps::Within(time.unwrap_or_else(|| parse_duration(TIME).unwrap_or(Duration::from_secs(7200))));
        Wishes {
            memory: memory.unwrap_or_else(|| "auto".into()),
            effective: self.effective_batch.unwrap_or(4),
            steps: self.steps.and_then(|steps| u64::try_from(steps).ok()).map_or_else(within, Steps::Number),
            sides,
        }
    }
}

/// The plan for one sample at a time: what follows from the data alone.
fn look(args: &InitArgs) -> anyhow::Result<Plan> {
    let mut overrides = vec![Override::new("init", "batch.effective", args.effective_batch.unwrap_or(4))];
    if let Some(memory) = &args.memory {
        overrides.push(Override::new(format!("--memory {memory}"), "memory.budget", memory.as_str()));
    }
    let config = Config::parse("", Path::new("init.toml"), &overrides)?;
    let options = PlanOptions { config, dataset: args.dataset.clone(), probe: false, low_resolution: false };
    Ok(voxfit::train::plan(&options, interrupt::on_first_interrupt())?)
}

/// `NAME.toml` of letters, digits, `-` and `_`; the folder's name where the dataset has none of these.
fn file_name(name: &str, folder: &Path) -> String {
    let safe = |text: &str| -> String {
        let letters = text.chars().map(|letter| if letter.is_alphanumeric() || letter == '-' { letter } else { '_' });
        letters.take(60).collect::<String>().trim_matches('_').to_lowercase()
    };
    let folder = folder.canonicalize().ok().and_then(|folder| Some(safe(folder.file_name()?.to_str()?)));
    let name = Some(safe(name)).filter(|name| !name.is_empty()).or(folder).filter(|name| !name.is_empty());
    format!("{}.toml", name.unwrap_or_else(|| "experiment".into()))
}

/// The dataset as seen from `folder`: a few steps away by a relative path, so that both can move together, else by its own.
fn from(folder: &Path, dataset: &Path) -> anyhow::Result<String> {
    let open = |path: &Path| path.canonicalize().with_context(|| format!("{}: cannot be opened", path.display()));
    let (folder, dataset) = (open(folder)?, open(dataset)?);
    let (here, there): (Vec<_>, Vec<_>) = (folder.components().collect(), dataset.components().collect());
    let common = here.iter().zip(&there).take_while(|(a, b)| a == b).count();
    let up = here.len() - common;
    if up > 2 || !here[..common].iter().any(|part| matches!(part, Component::Normal(_))) {
        return Ok(dataset.to_string_lossy().into_owned());
    }
    let down = there[common..].iter().map(|part| part.as_os_str().to_string_lossy());
    let parts: Vec<_> = std::iter::repeat_n("..".into(), up).chain(down).collect();
    Ok(if parts.is_empty() { ".".into() } else { parts.join("/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_safe() {
        let nowhere = Path::new("/nowhere");
        assert_eq!(file_name("Task04 Hippocampus", nowhere), "task04_hippocampus.toml");
        assert_eq!(file_name("../../etc/passwd", nowhere), "etc_passwd.toml");
        assert_eq!(file_name("Zähne", nowhere), "zähne.toml");
        assert_eq!(file_name("///", nowhere), "experiment.toml");
        assert_eq!(file_name(&"a".repeat(300), nowhere).len(), 65);
    }

    #[test]
    fn a_dataset_nearby_is_named_by_the_way_to_it() {
        let lab = tempfile::tempdir().unwrap();
        let [configs, data] = ["a/configs", "a/my data/set"].map(|name| lab.path().join(name));
        [&configs, &data].iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        assert_eq!(from(&configs, &data).unwrap(), "../my data/set");
        assert_eq!(from(&data, &data).unwrap(), ".");
        let deep = configs.join("b/c");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(Path::new(&from(&deep, &data).unwrap()), data.canonicalize().unwrap());
    }
}
