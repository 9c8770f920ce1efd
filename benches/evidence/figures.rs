//! What a finished training has to show, out of its run folder.
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Over all seeds of a row.
pub struct Figures {
    /// Mean foreground Dice over the held-out cases, one per seed.
    dice: Vec<f64>,
    /// Seconds of all steps, one per seed; without validation and preparation.
    seconds: Vec<f64>,
    /// Median seconds of a step, over all steps of all seeds.
    step: f64,
    /// The most that the process held at any time, in bytes, of any seed.
    peak: f64,
    /// What the network's norm came to be.
    norm: String,
    micro: u64,
    /// Of the first seed.
    digest: String,
}

impl Figures {
    pub const HEAD: &str = "| row | norm | micro-batch | mean Dice | of each seed | minutes | step, s | peak, MiB | weights_sha256, first seed |\n\
                            |---|---|---|---|---|---|---|---|---|";

    /// # Errors
    /// A file that is missing or is no run's.
    pub fn read(run: &Path, seeds: u64) -> Result<Self, Box<dyn Error>> {
        let folders: Vec<PathBuf> = match seeds {
            1 => vec![run.to_owned()],
            _ => (0..seeds).map(|seed| run.join(format!("seed_{seed}"))).collect(),
        };
        let (mut dice, mut seconds, mut steps, mut peak) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
        let mut first = None;
        for folder in &folders {
            let manifest: Value = serde_json::from_str(&fs::read_to_string(folder.join("manifest.json"))?)?;
            dice.push(manifest["mean_dice"].as_f64().ok_or("no Dice in a manifest: is the run finished?")?);
            let own: Vec<f64> = fs::read_to_string(folder.join("metrics.jsonl"))?
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["seconds"].as_f64())
                .collect();
            seconds.push(own.iter().sum());
            steps.extend(own);
            peak = peak.max(manifest["run_peak_bytes"].as_f64().unwrap_or(f64::NAN));
            first.get_or_insert(manifest);
        }
        let first = first.ok_or("a row of no seeds")?;
        Ok(Self {
            dice,
            seconds,
            step: median(steps),
            peak,
            norm: first["norm"]["used"].as_str().unwrap_or("?").to_owned(),
            micro: first["micro_batch"].as_u64().unwrap_or(0),
            digest: first["weights_sha256"].as_str().unwrap_or("?").to_owned(),
        })
    }

    pub fn row(&self, name: &str) -> String {
        let count = self.dice.len() as f64;
        let mean = self.dice.iter().sum::<f64>() / count;
        let squares: f64 = self.dice.iter().map(|value| (value - mean).powi(2)).sum();
        let spread =
            if self.dice.len() > 1 { format!(" ± {:.4}", (squares / (count - 1.0)).sqrt()) } else { String::new() };
        let each: Vec<String> = self.dice.iter().map(|value| format!("{value:.4}")).collect();
        format!(
            "| {name} | {} | {} | {mean:.4}{spread} | {} | {:.1} | {:.3} | {:.0} | {} |",
            self.norm,
            self.micro,
            each.join(", "),
            self.seconds.iter().sum::<f64>() / count / 60.0,
            self.step,
            self.peak / f64::from(1 << 20),
            self.digest.get(..12).unwrap_or(&self.digest),
        )
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
