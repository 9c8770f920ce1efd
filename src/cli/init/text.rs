//! What `init` writes and says.
use std::path::Path;
use std::time::Duration;

use voxfit::dataset::Dataset;
use voxfit::shown;
use voxfit::train::Plan;
use voxfit::xyz;

use super::{STEPS, Steps, Wishes};
use crate::cli::terminal::{duration, size};

/// Steps up to which AdamW is the better choice.
const SHORT: u64 = 20_000;

/// Two classes whose names differ by left and right alone.
pub fn sides(dataset: &Dataset) -> Option<[&str; 2]> {
    let names = dataset.classes.iter().chain(dataset.regions.iter().map(|region| &region.name));
    let parts = |name: &str| -> Vec<String> {
        name.to_lowercase().split(|letter: char| !letter.is_alphanumeric()).map(str::to_owned).collect()
    };
    let names: Vec<_> = names.map(|name| (name.as_str(), parts(name))).collect();
    let swapped = |part: &String| match part.as_str() {
        "left" => "right".to_owned(),
        "l" => "r".to_owned(),
        "lt" => "rt".to_owned(),
        "lh" => "rh".to_owned(),
        other => other.to_owned(),
    };
    names.iter().find_map(|(name, parts)| {
        let other: Vec<String> = parts.iter().map(swapped).collect();
        let twin = names.iter().find(|(_, parts)| *parts == other)?;
        (*parts != other).then_some([*name, twin.0])
    })
}

struct Chosen {
    steps: u64,
    /// Seconds of a step, estimated.
    seconds: f64,
    adamw: bool,
}

fn choose(plan: &Plan, wishes: &Wishes) -> Chosen {
    let seconds = plan.speed.seconds.max(1e-6);
    let steps = match wishes.steps {
        Steps::Number(steps) => steps,
        Steps::Within(time) => {
            let steps = ((time.as_secs_f64() / seconds) as u64).clamp(STEPS[0], STEPS[1]);
            // Two digits: it is an estimate.
            let unit = 10_u64.pow(steps.ilog10().saturating_sub(1));
            steps / unit * unit
        }
    };
    Chosen { steps, seconds, adamw: steps <= SHORT }
}

/// The file; `dataset` is where it is from there.
pub fn configuration(plan: &Plan, wishes: &Wishes, dataset: &str) -> String {
    let chosen = choose(plan, wishes);
    let (resolved, cases) = (&plan.planned.resolved, plan.dataset.cases.len());
    let [x, y, z] = xyz(resolved.patch);
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let name = shown::line(&plan.dataset.name);
    let folds = resolved.experiment.data.folds;
    let held_out = match cases < folds {
        true => format!(
            "# {cases} cases are fewer than folds: all are trained on and validated on, and every page says so."
        ),
        false => format!(
            "# {cases} cases are dealt into {folds} folds by nnU-Net's rule. Fold 0, about {} cases, is held out to measure the result;\n\
             # `--fold each` trains all folds in turn.",
            cases / folds
        ),
    };
    let [a, b, c] = resolved.preparation.spacing;
    let [mx, my, mz] = plan.median;
    let rate = if chosen.adamw { 0.002 } else { 0.01 };
    let optimizer = if chosen.adamw { "adamw" } else { "sgd" };
    let every = (chosen.steps / 10).max(1);
    let mirror = match (wishes.sides, sides(&plan.dataset)) {
        (false, _) => {
            "# All axes are mirrored in training, as nnU-Net does. In a short training of cases that all lie alike, left and right\n\
             # alone may teach more: axes = [\"x\"]. Leave out \"x\" where left and right are different classes.\n\
             # axes = [\"y\", \"z\"]\n"
                .to_owned()
        }
        (true, named) => {
            let why = named.map_or_else(String::new, |[left, right]| {
                format!(" (as {} and {})", shown::line(left), shown::line(right))
            });
            format!("# Left and right are different classes{why}: a mirrored image would teach the wrong one, so x is left out.\naxes = [\"y\", \"z\"]\n")
        }
    };
    let stages = resolved.plan.stages.len();
    let version = voxfit::VERSION;
    format!(
        "# {name}: {}, {}.\n\
         # Written by voxfit {version} init. `voxfit schema` and docs/configuration.md know every key; what is not here is its default.\n\
         \n\
         [data]\n\
         # Relative to this file, or absolute.\n\
         dataset = {}\n\
         {held_out}\n\
         folds = {folds}\n\
         fold = 0\n\
         # Cases are resampled to {a:.3} x {b:.3} x {c:.3} mm (x, y, z), nnU-Net's choice for these; a median case then has\n\
         # {mx:.0} x {my:.0} x {mz:.0} voxels.\n\
         spacing = \"auto\"\n\
         \n\
         [batch]\n\
         # Samples per optimizer step: the only batch number that the result depends on.\n\
         effective = {}\n\
         # Samples in memory at once: memory and speed only, not one bit of the result.\n\
         micro = \"auto\"\n\
         \n\
         [memory]\n\
         # The most that the process may hold. A step of this configuration was planned at {}.\n\
         budget = {}\n\
         \n\
         [network]\n\
         # By nnU-Net's rules for a card of 8 GiB: patches of {x} x {y} x {z} voxels, {stages} resolutions.\n\
         patch = \"auto\"\n\
         # Channels of the first stage. 16 takes about a quarter of the time and is often enough for small structures.\n\
         features = {}\n\
         # GroupNorm, whose result no micro-batch changes.\n\
         norm = \"auto\"\n\
         \n\
         [train]\n\
         # {} on this machine, at about {:.2} s a step. More is better up to a point; the learning rate falls to 0 over them.\n\
         steps = {}\n\
         # adamw learns more in few steps; sgd (nnU-Net's choice, at 0.01) is for more than about {SHORT}.\n\
         optimizer = \"{optimizer}\"\n\
         learning_rate = {rate}\n\
         # Looks at held-out cases, and checkpoints that --resume goes on from.\n\
         validate_every = {every}\n\
         checkpoint_every = {every}\n\
         # Same seed, same configuration, same data: the same weights.\n\
         seed = 0\n\
         \n\
         [sampling]\n\
         # Share of samples centred on a labelled voxel.\n\
         foreground = 0.33\n\
         \n\
         [augment.mirror]\n\
         {mirror}",
        channels(&plan.dataset),
        structures(&plan.dataset),
        quoted(dataset),
        wishes.effective,
        size(plan.planned.fit.peak()),
        quoted(&wishes.memory),
        resolved.experiment.network.features,
        time(&chosen),
        chosen.seconds,
        chosen.steps,
    )
}

fn time(chosen: &Chosen) -> String {
    let seconds = (chosen.seconds * chosen.steps as f64).min(3e9);
    format!("About {}", duration(Duration::from_secs_f64(seconds)))
}

fn channels(dataset: &Dataset) -> String {
    let names: Vec<_> = dataset.channels.iter().map(|channel| shown::line(&channel.name)).collect();
    format!("{} cases of {}", dataset.cases.len(), names.join(", "))
}

fn structures(dataset: &Dataset) -> String {
    let names: Vec<&String> = match dataset.regions.is_empty() {
        true => dataset.classes.iter().skip(1).collect(),
        false => dataset.regions.iter().map(|region| &region.name).collect(),
    };
    let many = if names.len() > 12 { format!(" and {} more", names.len() - 12) } else { String::new() };
    let shown: Vec<_> = names.iter().take(12).map(|name| shown::line(name)).collect();
    let ignore = dataset.ignore.map_or_else(String::new, |value| format!("; voxels of {value} are ignored"));
    format!("{}{many}{ignore}", shown.join(", "))
}

/// What was found, what deserves a look, and what to type next.
pub fn farewell(plan: &Plan, wishes: &Wishes, path: &Path, dataset: &Path) -> String {
    let chosen = choose(plan, wishes);
    let mut text = format!(
        "{}: {}; {}\n{} steps of {} samples, {} on this machine; a step was planned at {}\n",
        shown::line(&plan.dataset.name),
        channels(&plan.dataset),
        structures(&plan.dataset),
        chosen.steps,
        wishes.effective,
        time(&chosen).to_lowercase(),
        size(plan.planned.fit.peak()),
    );
    for notice in notices(plan) {
        text += &format!("note: {notice}\n");
    }
    let (path, dataset) = (shell(path), shell(dataset));
    text + &format!(
        "\nwritten to {path}; next:\n  \
         voxfit check {dataset} --config {path}      names faults of the data\n  \
         voxfit plan {dataset} --config {path} --probe      measures memory and time\n  \
         voxfit train {path}"
    )
}

fn notices(plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    let (dataset, fingerprint) = (&plan.dataset, &plan.fingerprint);
    if let Some([left, right]) = sides(dataset) {
        found.push(format!("{} and {}: x is not mirrored", shown::line(left), shown::line(right)));
    }
    if dataset.cases.len() < plan.planned.resolved.experiment.data.folds {
        found.push("fewer cases than folds: validation will be on the cases that were trained on".into());
    }
    for (value, name) in dataset.classes.iter().enumerate().skip(1) {
        let with = fingerprint
            .classes
            .iter()
            .filter(|present| present.iter().any(|class| usize::from(*class) == value))
            .count();
        if with * 10 <= fingerprint.classes.len() {
            found.push(format!("{} is in {with} of {} cases", shown::line(name), fingerprint.classes.len()));
        }
    }
    let spacing = plan.planned.resolved.preparation.spacing;
    let (fine, coarse) =
        (spacing.iter().copied().fold(f64::MAX, f64::min), spacing.iter().copied().fold(0.0, f64::max));
    if coarse > 3.0 * fine {
        found.push(format!(
            "slices are {coarse:.1} mm apart and {fine:.2} mm fine: the network's first kernels are flat"
        ));
    }
    if plan.beside.is_some() {
        let dataset = "voxfit plan DATASET --low-resolution";
        found.push(format!(
            "a patch shows {:.0} % of a median case; `{dataset}` plans a coarser network",
            100.0 * plan.coverage
        ));
    }
    if plan.planned.changed.is_some() {
        found.push(
            "this memory does not hold the network that nnU-Net's rules plan: `voxfit plan` says what would fit".into(),
        );
    }
    found
}

/// As it can be pasted into a shell.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_alphanumeric() || "/._-~+:\\".contains(letter);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
