//! The tables of docs/evidence.md, a training at a time: `cargo bench --bench evidence -- TABLE [WORDS]`.
//!
//! TABLE is one of those in `tables.rs`; WORDS narrow its rows down, as in `-- batch group`. Each row is a `voxfit train`
//! with keys set on the command line, into `runs/evidence/TABLE/ROW`. What is finished there is read and not trained again,
//! what was stopped goes on: the command can be given as often as it takes. `VOXFIT_VOLUMES` says where Task04_Hippocampus is.
//! `-- pictures` draws what the page shows.
mod figures;
mod pictures;
mod tables;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use figures::Figures;
use tables::{Row, TABLES, Table};

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds `--bench`.
    let mut words = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let first = words.next();
    if first.as_deref() == Some("pictures") {
        return pictures::draw(Path::new(env!("CARGO_MANIFEST_DIR")), folder);
    }
    let Some(table) = first.and_then(|name| TABLES.iter().find(|table| table.name == name)) else {
        return Err(format!("name a table, or pictures: {}", names.join(", ")).into());
    };
    let words: Vec<String> = words.collect();
    let rows: Vec<&Row> =
        table.rows.iter().filter(|row| words.iter().all(|word| row.name.split(' ').any(|part| part == word))).collect();
    println!("{}\n", table.about);
    println!("{}", Figures::HEAD);
    for row in rows {
        let run = folder(table.name, row.name);
        train(table, row, &run)?;
        println!("{}", Figures::read(&run, table.seeds)?.row(row.name));
    }
    Ok(())
}

/// `runs/evidence/TABLE/ROW`, blanks as underscores.
fn folder(table: &str, row: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs/evidence");
    root.join(table).join(row.replace([' ', ','], "_"))
}

fn train(table: &Table, row: &Row, run: &Path) -> Result<(), Box<dyn Error>> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(table.config);
    let mut command = Command::new(env!("CARGO_BIN_EXE_voxfit"));
    command.arg("train").arg(config).arg("--run").arg(run).arg("--no-images").arg("--quiet");
    if run.exists() {
        command.arg("--resume");
    }
    if table.seeds > 1 {
        command.args(["--seeds", &table.seeds.to_string()]);
    }
    for setting in table.settings.iter().chain(row.settings) {
        command.args(["--set", setting]);
    }
    // The digest goes to stdout, which is the table's.
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", row.name, String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}
