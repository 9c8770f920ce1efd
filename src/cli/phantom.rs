//! `voxfit phantom`: writes a synthetic labelled dataset.
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use voxfit::dataset::phantom::{PhantomOptions, write};

use super::{Exit, arguments, terminal};

/// Write a synthetic labelled dataset in MSD layout; same seed, same bytes
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  voxfit phantom practice --cases 10 --size 64,64,48 --modality ct --seed 1")]
pub struct PhantomArgs {
    /// Folder to write; missing or empty
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// How many cases
    #[arg(long, value_name = "N")]
    cases: Option<usize>,
    /// Voxels along x, y, z
    #[arg(long, value_name = "X,Y,Z", value_parser = arguments::triple::<usize>)]
    size: Option<[usize; 3]>,
    /// Spacing along x, y, z in mm
    #[arg(long, value_name = "A,B,C", value_parser = arguments::triple::<f64>)]
    spacing: Option<[f64; 3]>,
    /// What the intensities look like
    #[arg(long, value_enum)]
    modality: Option<Modality>,
    /// Foreground classes
    #[arg(long, value_name = "K")]
    classes: Option<usize>,
    /// Seed of everything random
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Modality {
    Mri,
    Ct,
}

pub fn run(args: &PhantomArgs) -> anyhow::Result<Exit> {
    let defaults = PhantomOptions::default();
    let options = PhantomOptions {
        cases: args.cases.unwrap_or(defaults.cases),
        size: args.size.unwrap_or(defaults.size),
        spacing: args.spacing.unwrap_or(defaults.spacing),
        ct: args.modality.map_or(defaults.ct, |modality| modality == Modality::Ct),
        classes: args.classes.unwrap_or(defaults.classes),
        seed: args.seed.unwrap_or(defaults.seed),
    };
    write(&args.folder, &options)?;
    terminal::say(&format!("{} cases in {}", options.cases, args.folder.display()))?;
    Ok(Exit::Done)
}
