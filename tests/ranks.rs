//! The same run over MPI: the result of one process, whoever computes what, and what becomes of a job that loses a rank.
//! Wants an MPI (docs/scaling.md); without the feature there is nothing to test but the refusal.
mod common;

use std::process::Command;

use common::{Lab, digest_of, stderr, stdout};

#[cfg(not(feature = "mpi"))]
#[test]
fn without_mpi_several_processes_are_refused() {
    let lab = Lab::new();
    let mut command = lab.voxfit(&["-q", "train", "c.toml", "--run", "a"]);
    let output = command.env("OMPI_COMM_WORLD_SIZE", "2").env("OMPI_COMM_WORLD_RANK", "0").output().unwrap();
    let said = common::one_line(&output, "built without MPI");
    assert!(said.contains("--features mpi") && said.contains("without mpirun"), "{said}");
    assert!(!lab.path("a").exists());
    // The first of one is nobody's rank; other verbs share nothing.
    let mut command = lab.voxfit(&["train", "c.toml", "--run", "a"]);
    let output = command.env("OMPI_COMM_WORLD_SIZE", "1").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    digest_of(&stdout(&output));
    let _ = Command::new("true");
}

#[cfg(feature = "mpi")]
mod over_mpi {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::process::{Output, Stdio};
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use super::*;

    /// `mpirun` as root, on fewer processors than ranks; more time to end in order than the second it leaves by itself.
    const AROUND: [(&str, &str); 6] = [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ("OMPI_MCA_hwloc_base_binding_policy", "none"),
        ("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),
        ("OMPI_MCA_odls_base_sigkill_timeout", "2"),
    ];

    /// Ranks that each have arguments of their own.
    fn mpirun(lab: &Lab, ranks: &[&[&str]]) -> Command {
        let mut command = Command::new("mpirun");
        for (number, arguments) in ranks.iter().enumerate() {
            if number > 0 {
                command.arg(":");
            }
            command.args(["-n", "1", env!("CARGO_BIN_EXE_voxfit")]).args(*arguments);
        }
        command.current_dir(lab.path("")).env("VOXFIT_CACHE", lab.path("cache")).env("NO_COLOR", "1").envs(AROUND);
        command.env_remove("VOXFIT_VOLUMES");
        command
    }

    fn shared(lab: &Lab, count: usize, arguments: &[&str]) -> Output {
        mpirun(lab, &vec![arguments; count]).output().expect("mpirun can be started (Debian: openmpi-bin)")
    }

    fn digest(lab: &Lab, count: usize, arguments: &[&str]) -> String {
        let output = shared(lab, count, arguments);
        assert!(output.status.success(), "{count} ranks: {}", stderr(&output));
        digest_of(&stdout(&output))
    }

    /// Without what differs from one process to the next.
    fn figures(mut summary: Value) -> Value {
        for key in ["seconds", "notice"] {
            summary.as_object_mut().map(|object| object.remove(key));
        }
        summary
    }

    #[test]
    fn any_number_of_ranks_gives_the_weights_of_one() {
        let lab = Lab::new();
        let alone = lab.digest(&["train", "c.toml", "--run", "1"]);
        let expected = figures(lab.json("1/validation/summary.json"));
        // 3 samples a step: not divided by 2, and less than 4.
        for (count, samples) in [(2, json!([2, 1])), (3, json!([1, 1, 1])), (4, json!([1, 1, 1, 0]))] {
            let run = count.to_string();
            assert_eq!(digest(&lab, count, &["train", "c.toml", "--run", &run]), alone, "{count} ranks");
            let manifest = lab.json(&format!("{run}/manifest.json"));
            assert_eq!(manifest["ranks"], json!(count));
            assert_eq!(manifest["samples_per_rank"], samples);
            assert_eq!(figures(lab.json(&format!("{run}/validation/summary.json"))), expected, "{count} ranks");
            // One process writes: every line of the metrics is there once.
            let steps = |run: &str| -> Vec<_> {
                let lines = lab.metrics(run).into_iter();
                lines.map(|line| (line["step"].clone(), line["loss"].clone(), line["weights_digest"].clone())).collect()
            };
            assert_eq!(steps(&run), steps("1"), "{count} ranks");
            let log = fs::read_to_string(lab.path(&run).join(format!("ranks/rank_{}.log", count - 1))).unwrap();
            assert!(log.contains("cases to train on"), "{log}");
            assert!(!lab.path(&run).join("ranks/rank_0.log").exists());
        }
        let batch = ["--set", "network.norm=batch", "--set", "network.batch_norm_min=1", "--set", "batch.micro=1"];
        let with = |run| [&["train", "c.toml", "--run", run][..], &batch].concat();
        assert_eq!(digest(&lab, 2, &with("b2")), lab.digest(&with("b1")), "batch norm");
        let said = stderr(&shared(&lab, 2, &["-q", "train", "c.toml", "--run", "s", "--seeds", "2"]));
        assert!(said.contains("one fold with one seed at a time"), "{said}");
    }

    #[test]
    fn a_run_goes_on_with_another_number_of_ranks() {
        let lab = Lab::new();
        let train = |run| ["train", "c.toml", "--run", run, "--steps", "6"];
        let alone = lab.digest(&train("whole"));
        let endless = ["train", "c.toml", "--run", "a", "--steps", "1000000", "--max-time", "3s"];
        let output = shared(&lab, 3, &[&endless[..], &["--set", "train.validate_every=1000000"]].concat());
        assert!(stdout(&output).contains("mpirun -n 3 voxfit train c.toml"), "{}", stdout(&output));
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        for (from, to) in [(1, 2), (2, 4), (3, 1)] {
            let run = format!("{from}{to}");
            // Checkpoints are written every second step: this one is stopped, by its budget of time or not at all.
            let short = ["train", "c.toml", "--run", &run, "--steps", "6", "--max-time", "1s"];
            let stopped = if from == 1 { lab.output(&short) } else { shared(&lab, from, &short) };
            assert!(matches!(stopped.status.code(), Some(0 | 4)), "{}", stderr(&stopped));
            let again = ["train", "c.toml", "--run", &run, "--steps", "6", "--resume"];
            let found = if to == 1 { lab.digest(&again) } else { digest(&lab, to, &again) };
            assert_eq!(found, alone, "from {from} to {to} ranks");
        }
    }

    #[test]
    fn ranks_may_differ_in_memory_and_not_in_what_counts() {
        let lab = Lab::new();
        let train = |more: &[&'static str]| [&["train", "c.toml", "--run", "a"][..], more].concat();
        let alone = lab.digest(&["train", "c.toml", "--run", "1"]);
        let output = mpirun(&lab, &[&train(&["--micro-batch", "2"]), &train(&["--set", "memory.recompute=blocks"])]);
        let output = { output }.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(digest_of(&stdout(&output)), alone);

        let refused = |second: &[&'static str], named: &str| {
            let output = mpirun(&lab, &[&["train", "c.toml", "--run", "b"], second]).output().unwrap();
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("rank 1 (process ") && said.contains(named), "{said}");
            assert_eq!(said.matches("voxfit: ").count(), 1, "{said}");
            let _ = fs::remove_dir_all(lab.path("b"));
        };
        refused(&["train", "c.toml", "--run", "b", "--set", "train.learning_rate=0.5"], "another configuration");
        refused(&["train", "c.toml", "--run", "b", "--set", "train.validate_every=3"], "train.validate_every");
        lab.done(&["phantom", "other", "--cases", "6", "--size", "24,24,24", "--classes", "2", "--seed", "8"]);
        refused(&["train", "c.toml", "--run", "b", "--data", "other"], "another dataset");
    }

    #[test]
    fn predictions_and_figures_are_those_of_one_process() {
        let lab = Lab::new();
        lab.done(&["train", "c.toml", "--run", "a"]);
        lab.done(&["predict", "a", "data/imagesTr", "-o", "one"]);
        let output = shared(&lab, 3, &["predict", "a", "data/imagesTr", "-o", "three"]);
        assert!(output.status.success() && stdout(&output).contains("6 label maps"), "{}", stderr(&output));
        let maps = |folder: &str| -> Vec<Value> {
            let record = lab.json(&format!("{folder}/predict.json"));
            let cases = record["cases"].as_array().unwrap().iter();
            cases.map(|case| json!([case["case"], case["outputs_sha256"]])).collect()
        };
        assert_eq!(maps("three"), maps("one"));
        assert_eq!(maps("one").len(), 6);
        lab.done(&["evaluate", "one", "data/labelsTr", "--json", "one.json"]);
        let output = shared(&lab, 4, &["evaluate", "three", "data/labelsTr", "--json", "three.json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(lab.json("three.json"), lab.json("one.json"));
        // Two ranks that see other folders would each leave cases to the other.
        lab.done(&["predict", "a", "data/imagesTr/phantom_001.nii.gz", "-o", "few"]);
        let output = mpirun(&lab, &[&["evaluate", "one", "data/labelsTr"], &["evaluate", "few", "data/labelsTr"]]);
        let said = stderr(&{ output }.output().unwrap());
        assert!(said.contains("rank 1 (process ") && said.contains("another list of cases"), "{said}");
    }

    /// Process numbers of the ranks of a job, in order, by their command lines.
    fn processes(run: &str) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(process) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let (line, environment) = (read("cmdline"), read("environ"));
            let (line, environment) = (String::from_utf8_lossy(&line), String::from_utf8_lossy(&environment));
            let rank = environment.split('\0').find_map(|value| value.strip_prefix("OMPI_COMM_WORLD_RANK="));
            if let Some(rank) = rank.filter(|_| line.split('\0').any(|word| word == run)) {
                found.push((rank.parse().unwrap(), process));
            }
        }
        found.sort();
        found
    }

    /// Whoever is killed, the job ends soon, says who it was, and has lost the step at hand and no other.
    #[test]
    fn a_job_that_loses_a_rank_says_so_and_loses_one_step() {
        let lab = Lab::new();
        let alone =
            lab.digest(&["train", "c.toml", "--run", "whole", "--steps", "60", "--set", "train.validate_every=60"]);
        for (victim, steps) in [(1, 4), (0, 9), (2, 13)] {
            let run = format!("lost_{victim}");
            // Without an end, until the one that is killed.
            let arguments = [
                "train",
                "c.toml",
                "--run",
                &run,
                "--steps",
                "60",
                "--set",
                "train.validate_every=60",
                "--tensorboard",
            ];
            let slow = ["--set", "train.checkpoint_every=1000"];
            let arguments = [&arguments[..], &slow].concat();
            let mut job =
                mpirun(&lab, &[&arguments[..]; 3]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let done = || {
                let text = fs::read_to_string(lab.path(&run).join("metrics.jsonl")).unwrap_or_default();
                text.lines().count()
            };
            let clock = Instant::now();
            while done() < steps {
                assert!(clock.elapsed() < Duration::from_secs(120), "no steps");
                std::thread::sleep(Duration::from_millis(2));
            }
            let ranks = processes(&run);
            assert_eq!(ranks.len(), 3, "{ranks:?}");
            let killed = Command::new("kill").args(["-9", &ranks[victim].1.to_string()]).status().unwrap();
            assert!(killed.success());
            let clock = Instant::now();
            let out = BufReader::new(job.stdout.take().unwrap()).lines().map_while(Result::ok).collect::<Vec<_>>();
            let status = job.wait().unwrap();
            assert!(clock.elapsed() < Duration::from_secs(30), "{:?}", clock.elapsed());
            assert!(!status.success());
            let said = out.join("\n");
            assert!(said.contains(&format!("rank {victim} (process {} on ", ranks[victim].1)), "{said}");
            assert!(said.contains("--resume"), "{said}");
            // The checkpoint is of the last complete step.
            let kept = done();
            let resumed = shared(&lab, 2, &[&arguments[..], &["--resume"]].concat());
            assert!(resumed.status.success(), "{}", stderr(&resumed));
            let from = stderr(&resumed);
            let from = from.lines().find_map(|line| line.split("resumed from step ").nth(1)).map(str::trim);
            let from: usize = from.expect("it says from where").parse().unwrap();
            assert!(from >= kept && kept >= steps, "{kept} steps were done, and {from} are kept");
            assert_eq!(digest_of(&stdout(&resumed)), alone);
        }
    }
}
