//! Killed at any moment, checkpoint writing included, a run goes on and ends with the bits of one that was left alone.
#![cfg(unix)]
mod common;

use std::process::Stdio;
use std::time::Duration;

use common::{Lab, digest_of, stderr, stdout};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A checkpoint after every step, so that much of the time goes into writing them; another micro-batch at each start.
const LONG: [&str; 8] = [
    "--steps",
    "150",
    "--set",
    "train.checkpoint_every=1",
    "--set",
    "train.validate_every=40",
    "--set",
    "train.validate_cases=1",
];
const KILLS: u32 = 50;

#[test]
fn fifty_kills_change_no_bit() {
    let lab = Lab::new();
    let digest = lab.digest(&[&["train", "c.toml", "--run", "whole"][..], &LONG].concat());
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let (mut kills, mut run, mut lives, mut half_written) = (0, 0, 0, 0);
    loop {
        let name = format!("run{run}");
        let micro = ["1", "2", "3"][random.next_u32() as usize % 3];
        let mut arguments = vec!["train", "c.toml", "--run", &name, "--micro-batch", micro, "--resume"];
        arguments.extend(LONG);
        let mut command = lab.voxfit(&arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        lives += 1;
        if kills < KILLS {
            // Microseconds, so that no phase of the work is favoured.
            std::thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 250_000)));
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            assert_eq!(digest_of(&stdout(&output)), digest, "{name}, after {kills} kills");
            // What was half-written is swept away by who comes after.
            assert!(!leftovers(&lab, &name), "{name}");
            if kills >= KILLS {
                break;
            }
            run += 1;
        } else {
            assert_eq!(output.status.code(), None, "{}", stderr(&output));
            kills += 1;
            half_written += u32::from(leftovers(&lab, &name));
        }
    }
    println!("{kills} kills over {lives} starts and {} runs; {half_written} found a file being written", run + 1);
}

/// Whether a checkpoint that was being written aside lies there.
fn leftovers(lab: &Lab, run: &str) -> bool {
    asides(lab, &format!("{run}/checkpoints/last")) + asides(lab, &format!("{run}/checkpoints/best")) > 0
}

fn asides(lab: &Lab, folder: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(lab.path(folder)) else { return 0 };
    entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(".voxfit-")).count()
}
