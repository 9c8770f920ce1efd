//! `voxfit report`: a page about a run, or about several beside each other.
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use voxfit::config::{Auto, ByteSize};
use voxfit::report::{self, FILE_NAME, Pictures, RunRecord, page};
use voxfit::reproduce::dataset_of;

use super::{Exit, arguments, terminal};

/// Write one HTML page about a run, or about several side by side
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  voxfit report runs/quickstart
  voxfit report runs/quickstart --no-images -o page.html
  voxfit report runs/batch2 runs/batch8 -o batches.html

Pictures show held-out cases as the run's last weights outline them: they hold patients' images. The page needs nothing
beside itself and loads nothing.")]
pub struct ReportArgs {
    /// Run folders; of a cross-validation or of several seeds the folder around them
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The page [default: report.html in the folder; to be given for several runs]
    #[arg(short, long, value_name = "FILE.html")]
    output: Option<PathBuf>,
    /// Leave out pictures of cases
    #[arg(long)]
    no_images: bool,
    /// Write case_001, case_002, ... instead of the cases' ids
    #[arg(long)]
    anonymous_cases: bool,
    /// Dataset folder for the pictures, where it no longer lies where it lay
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The most memory to hold, as in 4GiB [default: what is free less a reserve]
    #[arg(long, value_name = "M", value_parser = arguments::budget, default_value = "auto", hide_default_value = true)]
    memory: Auto<ByteSize>,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N", value_parser = arguments::threads)]
    threads: Option<usize>,
}

pub fn run(args: ReportArgs) -> anyhow::Result<Exit> {
    arguments::set_threads(args.threads)?;
    let mut runs: Vec<RunRecord> = Vec::new();
    for folder in &args.runs {
        runs.extend(report::runs_in(folder)?);
    }
    let output = match (&args.output, &args.runs[..]) {
        (Some(output), _) => output.clone(),
        (None, [folder]) => folder.join(FILE_NAME),
        (None, _) => bail!("-o is missing: a page about several runs belongs into no folder of one; give -o FILE.html"),
    };
    if output.is_dir() {
        bail!("{}: is a folder; give -o a file, as in page.html", output.display());
    }
    let html = match &runs[..] {
        [_] => {
            let run = runs.remove(0);
            let mut pictures = pictures(&args, &run, &output);
            let shown = if args.anonymous_cases { renamed(run, &mut pictures) } else { run };
            page(&shown, &pictures, false)
        }
        _ => report::comparison(&runs),
    };
    report::write(&output, &html)?;
    terminal::say(&format!("{}", output.display()))?;
    Ok(Exit::Done)
}

/// Pictures, or why there are none; a page without is better than no page.
fn pictures(args: &ReportArgs, run: &RunRecord, output: &std::path::Path) -> Pictures {
    if args.no_images {
        return Pictures::LeftOut("Left out, as --no-images says.".to_owned());
    }
    if !run.is_finished() {
        return Pictures::LeftOut("Pictures of held-out cases can be made when the run is finished.".to_owned());
    }
    if run.summary.is_none() && !run.manifest.validation_cases.is_empty() {
        let why = "Left out: validation/summary.json, which says which case is the worst, median and best, is missing.";
        tracing::warn!(
            "{}: validation/summary.json is missing; the page has no figures and no pictures",
            run.folder.display()
        );
        return Pictures::LeftOut(why.to_owned());
    }
    let made = || -> anyhow::Result<Vec<report::CasePictures>> {
        let written = &run.experiment.data.dataset;
        let dataset = dataset_of(&run.folder, &run.manifest, written, args.data.as_deref())?;
        let scratch = output.parent().filter(|folder| folder.is_dir()).unwrap_or(std::path::Path::new("."));
        let source = report::pictures::Source { run, dataset, memory: args.memory, scratch };
        Ok(report::pictures::of_run(&source, &|done, total| {
            tracing::info!("predicting case {} of {total} for its pictures", done + 1);
        })?)
    };
    match made() {
        Ok(made) => Pictures::Made(made),
        Err(error) => {
            tracing::warn!("the page has no pictures: {}", voxfit::shown::line(&terminal::sentence(&error)));
            let why =
                "They could not be made: the dataset was not there, or not as it was; see what voxfit report said.";
            Pictures::LeftOut(why.to_owned())
        }
    }
}

/// Numbers for ids, in the figures and above the pictures.
fn renamed(run: RunRecord, pictures: &mut Pictures) -> RunRecord {
    let names = |run: &RunRecord| -> Vec<String> {
        run.summary.iter().flat_map(|summary| summary.cases.iter().map(|case| case.case.clone())).collect()
    };
    let before = names(&run);
    let shown = run.anonymous();
    let after = names(&shown);
    if let Pictures::Made(made) = pictures {
        for case in made {
            let at = before.iter().position(|name| *name == case.case);
            case.case = at.and_then(|at| after.get(at)).cloned().unwrap_or_else(|| "case".to_owned());
        }
    }
    shown
}
