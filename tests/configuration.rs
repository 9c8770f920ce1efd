//! The configuration file: what is read, what is refused and how, and that a resolved one repeats the run.
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use voxfit::config::{
    Activations, Auto, ByteSize, Config, ConfigError, Experiment, Fold, NormName, OptimizerName, Override, Recompute,
    Resolved, resolve,
};
use voxfit::dataset::fingerprint::{Fingerprint, Intensities};
use voxfit::dataset::{Case, Channel, Dataset};
use voxfit::network::plan::Norm;
use voxfit::volume::normalise::Normalisation;

fn read(text: &str) -> Result<Experiment, ConfigError> {
    read_with(text, &[])
}

fn read_with(text: &str, sets: &[&str]) -> Result<Experiment, ConfigError> {
    let overrides: Vec<_> = sets.iter().map(|set| Override::parse(set).unwrap()).collect();
    Config::parse(text, Path::new("dir/experiment.toml"), &overrides).map(|config| config.experiment)
}

fn refusal(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn dataset(channels: &[bool], classes: usize) -> Dataset {
    Dataset {
        root: PathBuf::from("nowhere"),
        name: "made up".into(),
        channels: channels.iter().map(|&is_ct| Channel { name: String::new(), is_ct }).collect(),
        classes: (0..classes).map(|class| format!("class {class}")).collect(),
        ignore: None,
        regions: Vec::new(),
        cases: vec![Case { id: "a".into(), images: Vec::new(), label: PathBuf::new() }],
        groups: Default::default(),
        remap: Default::default(),
    }
}

fn fingerprint(channels: usize, spacing: [f64; 3], size: [usize; 3]) -> Fingerprint {
    let intensities = Intensities {
        mean: 99.5,
        median: 100.0,
        deviation: 37.25,
        min: -100.0,
        max: 900.0,
        percentile_00_5: -17.0,
        percentile_99_5: 201.0,
    };
    Fingerprint {
        spacings: vec![spacing; 3],
        sizes: vec![size; 3],
        median_relative_size_after_crop: 1.0,
        classes: vec![vec![1]; 3],
        intensities: vec![intensities; channels],
    }
}

fn resolved(text: &str) -> Result<Resolved, ConfigError> {
    resolve(&read(text)?, &fingerprint(1, [1.0; 3], [35, 50, 36]), &dataset(&[false], 3))
}

#[test]
fn an_empty_file_is_the_contracts_defaults() {
    let experiment = read("").unwrap();
    assert_eq!(experiment, Experiment::default());
    assert_eq!((experiment.data.dataset.as_str(), experiment.data.folds), ("../volumes/phantom", 5));
    assert_eq!((experiment.data.fold, experiment.batch.effective), (Fold::One(0), 8));
    assert_eq!((experiment.batch.micro, experiment.memory.budget), (Auto::Auto, Auto::Auto));
    assert_eq!((experiment.network.design, experiment.network.features), (ByteSize(8 << 30), 32));
    assert_eq!((experiment.network.features_max, experiment.network.norm_groups), (320, 8));
    assert_eq!((experiment.network.batch_norm_min, experiment.network.deep_supervision), (8, true));
    assert_eq!((experiment.train.steps, experiment.train.learning_rate), (1000, 0.01));
    assert_eq!((experiment.train.weight_decay, experiment.train.clip_norm), (3e-5, 12.0));
    assert_eq!((experiment.train.validate_every, experiment.train.validate_cases), (250, 8));
    assert_eq!((experiment.train.checkpoint_every, experiment.train.seed), (250, 0));
    assert_eq!((experiment.train.optimizer, experiment.sampling.foreground), (OptimizerName::Sgd, 0.33));
}

#[test]
fn every_written_form_is_read() {
    let experiment = read(
        "data = {fold = \"all\", spacing = [1, 0.5, 2.5]}\nbatch.micro = -1\n[memory]\nbudget = \"512MiB\"\n\
         recompute = \"blocks\"\n[precision]\nactivations = \"f16\"\nloss_scale = 1024\n[network]\ndesign = 4294967296\n\
         patch = [32, 40, 48]\nkernels = [[3, 3, 1], [3, 3, 3]]\nstrides = [[1, 1, 1], [2, 2, 1]]\nnorm = \"instance\"\n\
         [train]\noptimizer = \"adamw\"\nlearning_rate = 1\n",
    )
    .unwrap();
    assert_eq!((experiment.data.fold, experiment.data.spacing), (Fold::All, Auto::Value([1.0, 0.5, 2.5])));
    assert_eq!((experiment.batch.micro, experiment.memory.budget), (Auto::Auto, Auto::Value(ByteSize(512 << 20))));
    assert_eq!(experiment.memory.recompute, Auto::Value(Recompute::Blocks));
    assert_eq!(experiment.precision.activations, Auto::Value(Activations::F16));
    assert_eq!(experiment.precision.loss_scale, Auto::Value(1024.0));
    assert_eq!(experiment.network.design, ByteSize(4 << 30));
    assert_eq!(experiment.network.norm, Auto::Value(NormName::Instance));
    assert_eq!((experiment.train.optimizer, experiment.train.learning_rate), (OptimizerName::Adamw, 1.0));
}

#[test]
fn an_unknown_key_names_line_and_nearest() {
    for (text, expected) in [
        (
            "[train]\nsteps = 5\nlearning_rat = 0.1",
            "dir/experiment.toml:3: train.learning_rat is no key; the nearest is train.learning_rate",
        ),
        ("\n\nlearning_rate = 1", "dir/experiment.toml:3: learning_rate is no key; the nearest is train.learning_rate"),
        ("[trian]\nsteps = 5", "dir/experiment.toml:1: trian is no key; the nearest is [train]"),
        ("[data]\nflod = 1", "dir/experiment.toml:2: data.flod is no key; the nearest is data.fold"),
        ("batch = { efective = 3 }", "dir/experiment.toml:1: batch.efective is no key; the nearest is batch.effective"),
        // The same name stands in two tables; the wrong one is told.
        (
            "[train]\nseed = 1\n[data]\nseed = 1",
            "dir/experiment.toml:4: data.seed is no key; the nearest is train.seed",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
    let error = read_with("", &["train.stepz=5"]).unwrap_err().to_string();
    assert_eq!(error, "--set train.stepz=5: train.stepz is no key; the nearest is train.steps");
    let error = read_with("", &["trian.steps=5"]).unwrap_err().to_string();
    assert_eq!(error, "--set trian.steps=5: trian is no key; the nearest is [train]");
    assert!(refusal("[augment]\nenabeld = true").contains("augment.enabeld is no key; the nearest is augment.enabled"));
}

#[test]
fn a_wrong_type_names_key_found_and_expected() {
    for (text, parts) in [
        ("[train]\n\nsteps = \"many\"", ["toml:3: train.steps is \"many\"", "a whole number from 1"]),
        ("train.steps = 1.5", ["toml:1: train.steps is 1.5", "a whole number from 1"]),
        ("train.steps = -1", ["train.steps is -1", "a whole number from 1"]),
        ("[network]\npatch = [32, 32]", ["toml:2: network.patch is [32, 32]", "[x, y, z] in voxels"]),
        ("[network]\npatch = [32, 32, -1]", ["network.patch is [32, 32, -1]", "[x, y, z] in voxels"]),
        ("network.norm = \"layer\"", ["network.norm is \"layer\"", "\"batch\", \"group\" or \"instance\""]),
        ("network.deep_supervision = 1", ["network.deep_supervision is 1", "true or false"]),
        ("memory.budget = \"4GB\"", ["memory.budget is \"4GB\"", "\"4GiB\""]),
        ("batch.micro = -2", ["batch.micro is -2", "(or -1)"]),
        ("data.fold = \"each\"", ["data.fold is \"each\"", "\"all\""]),
        ("data = 5", ["data is 5", "a table, [data]"]),
        ("train.seed = 99999999999999999999", ["toml:1: train.seed is 99999999999999999999", "a whole number from 0"]),
    ] {
        let message = refusal(text);
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let message = read_with("", &["train.steps=many"]).unwrap_err().to_string();
    assert!(
        message.starts_with("--set train.steps=many: train.steps is \"many\"; expected a whole number"),
        "{message}"
    );
    let message = read_with("", &["train=5"]).unwrap_err().to_string();
    assert!(message.contains("train is 5; expected a table"), "{message}");
}

#[test]
fn values_out_of_range_are_refused() {
    for text in [
        "batch.effective = 0",
        "batch.effective = 1000000",
        "batch.micro = 0",
        "sampling.foreground = 1.01",
        "sampling.foreground = nan",
        "train.learning_rate = 0",
        "train.learning_rate = inf",
        "train.learning_rate = nan",
        "train.steps = 0",
        "train.weight_decay = -1",
        "train.clip_norm = 0",
        "train.clip_norm = inf",
        "train.validate_every = 0",
        "train.checkpoint_every = 0",
        "data.folds = 1",
        "data.fold = 5",
        "data.spacing = [1, 0, 1]",
        "data.spacing = [1, nan, 1]",
        "data.dataset = \"\"",
        "network.patch = [32, 0, 32]",
        "network.patch = [32, 100000, 32]",
        "network.stages = 1",
        "network.stages = 100",
        "network.features = 0",
        "network.features_max = 16",
        "network.kernels = [[3, 3, 3], [5, 3, 3]]",
        "network.strides = [[2, 2, 2], [2, 2, 2]]",
        "network.norm_groups = 0",
        "network.batch_norm_min = 0",
        "precision.loss_scale = 0",
    ] {
        let (key, value) = text.split_once(" = ").unwrap();
        let message = refusal(text);
        assert!(message.starts_with(&format!("dir/experiment.toml:1: {key} is ")), "{message}");
        // The same value by argument names the argument.
        let set = format!("{key}={value}");
        let message = read_with("\n\n", &[&set]).unwrap_err().to_string();
        assert!(message.starts_with(&format!("--set {set}: {key} is ")), "{message}");
    }
    for (text, part) in [
        ("network.stages = 4\nnetwork.kernels = [[3, 3, 3], [3, 3, 3]]", "2 stages, but network.stages has 4"),
        ("network.strides = [[1, 1, 1], [2, 2, 2]]", "write network.patch too"),
    ] {
        assert!(refusal(text).contains(part), "{}", refusal(text));
    }
}

#[test]
fn a_range_of_a_transform_names_its_place() {
    let message = refusal("[augment.noise]\n\nsigma = [0.2, 0.1]");
    assert!(message.starts_with("dir/experiment.toml:3: augment.noise.sigma is [0.2, 0.1]"), "{message}");
    let message = read_with("", &["augment.mirror.probability=2"]).unwrap_err().to_string();
    assert!(message.starts_with("--set augment.mirror.probability=2: augment.mirror.probability is 2"), "{message}");
    let message = refusal("[augment.blur]\nsigma = 1.0");
    assert!(message.starts_with("dir/experiment.toml:2: augment.blur.sigma is 1.0; expected an array"), "{message}");
    assert!(!read("[augment]\nenabled = false").unwrap().augment.enabled);
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    for text in ["[train]\nsteps =", "a = 1\na b", "steps = 1\n\"x", "[train]\nsteps = 1\nsteps = 2"] {
        let message = refusal(text);
        assert!(message.starts_with("dir/experiment.toml:") && !message.contains('\n'), "{message}");
    }
    let depth = "a = ".to_owned() + &"[".repeat(5000);
    assert!(read(&depth).is_err());
}

#[test]
fn set_takes_toml_else_a_string() {
    let sets = [
        "network.norm=group",
        "train.steps=7",
        "network.patch=[16, 16, 16]",
        "memory.budget=4GiB",
        "data.dataset=/data/a=b",
        "train.learning_rate=1e-3",
        "train.steps=9",
    ];
    let experiment = read_with("[train]\nsteps = 5\nseed = 3", &sets).unwrap();
    assert_eq!(experiment.network.norm, Auto::Value(NormName::Group));
    assert_eq!(experiment.network.patch, Auto::Value([16; 3]));
    assert_eq!(experiment.data.dataset, "/data/a=b");
    assert_eq!((experiment.train.steps, experiment.train.seed, experiment.train.learning_rate), (9, 3, 1e-3));
    for bad in ["train.steps", "=5", "train.=5", ".steps=1", ""] {
        assert!(Override::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_dataset_is_relative_to_the_file_and_its_variables_stay_in_it() {
    let config = Config::parse("", Path::new("some/where/a.toml"), &[]).unwrap();
    assert_eq!(config.dataset().unwrap(), Path::new("some/where/../volumes/phantom"));
    assert_eq!(config.name(), "a");
    let text = "data.dataset = \"${VOXFIT_NOT_SET_ANYWHERE}/x\"";
    let config = Config::parse(text, Path::new("a.toml"), &[]).unwrap();
    let message = config.dataset().unwrap_err().to_string();
    assert!(message.contains("VOXFIT_NOT_SET_ANYWHERE is not set") && message.contains("--data DIR"), "{message}");
    assert!(config.experiment.to_toml().unwrap().contains("${VOXFIT_NOT_SET_ANYWHERE}/x"));
}

#[test]
fn the_shipped_configurations_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    for name in ["quickstart", "hippocampus", "whole-head"] {
        let config = Config::load(&folder.join(format!("{name}.toml")), &[]).unwrap();
        assert_eq!(config.name(), name);
        let fingerprint = fingerprint(1, [1.0; 3], [64, 64, 64]);
        let run = resolve(&config.experiment, &fingerprint, &dataset(&[false], 3)).unwrap();
        assert_eq!(run.activations, Activations::Bf16);
    }
}

#[test]
fn auto_is_nnunets_plan() {
    let run = resolved("").unwrap();
    // The Hippocampus row of nnU-Net's planner; x and z differ (35 and 36 voxels) but both become 40.
    assert_eq!((run.patch, run.plan.stages.len(), run.plan.divisor()), ([40, 56, 40], 4, [8; 3]));
    assert_eq!(run.plan.stages.iter().map(|stage| stage.features).collect::<Vec<_>>(), [32, 64, 128, 256]);
    assert_eq!((run.plan.in_channels, run.plan.classes, run.micro), (1, 3, 2));
    assert_eq!(run.preparation.spacing, [1.0; 3]);
    assert!(run.plan.stages.iter().all(|stage| stage.norm == Norm::Group { groups: 8 }));
    assert_eq!(run.experiment.network.patch, Auto::Value([40, 56, 40]));
    assert_eq!((run.norm.requested.as_str(), run.norm.used, run.norm.swaps.len()), ("auto", NormName::Group, 0));
}

#[test]
fn files_say_xyz_and_arrays_have_zyx() {
    let fingerprint = fingerprint(1, [0.5, 0.75, 4.0], [320, 256, 20]);
    let run = resolve(&read("").unwrap(), &fingerprint, &dataset(&[false], 2)).unwrap();
    assert_eq!(run.preparation.spacing, [0.5, 0.75, 4.0]);
    let Auto::Value(patch) = run.experiment.network.patch else { panic!("patch is explicit") };
    assert_eq!(patch, [run.patch[2], run.patch[1], run.patch[0]]);
    assert!(patch[0] > patch[2]);
    assert_eq!(run.plan.stages[0].kernel, [1, 3, 3]);
    assert_eq!(run.experiment.network.kernels.value().unwrap()[0], [3, 3, 1]);
}

#[test]
fn a_patch_that_does_not_divide_names_the_nearest() {
    let message = resolved("network.patch = [33, 40, 48]").unwrap_err().to_string();
    assert!(
        message.contains("[33, 40, 48]") && message.contains("nearest patch that can is [32, 40, 48]"),
        "{message}"
    );
    let text = "network = {patch = [31, 32, 36], strides = [[1, 1, 1], [2, 2, 2], [2, 2, 1]]}";
    let message = resolved(text).unwrap_err().to_string();
    assert!(message.contains("nearest patch that can is [32, 32, 36]"), "{message}");
    assert!(resolved("network.patch = [32, 40, 48]").is_ok());
}

#[test]
fn stages_are_kept_or_refused() {
    assert_eq!(resolved("network.stages = 3").unwrap().plan.stages.len(), 3);
    let message = resolved("network = {stages = 6, patch = [32, 32, 32]}").unwrap_err().to_string();
    assert!(message.contains("room for 4, not 6") && message.contains("network.stages = 4"), "{message}");
    let message = resolved("network.patch = [4, 4, 4]").unwrap_err().to_string();
    assert!(message.contains("at least 8 voxels"), "{message}");
    let message = resolved("network.design = \"1KiB\"").unwrap_err().to_string();
    assert!(message.contains("larger network.design"), "{message}");
}

#[test]
fn normalisation_follows_the_channel() {
    let mut fingerprint = fingerprint(2, [1.0; 3], [64; 3]);
    let run = |fingerprint: &Fingerprint| {
        resolve(&Experiment::default(), fingerprint, &dataset(&[true, false], 2)).unwrap().preparation.normalisation
    };
    let ct = Normalisation::Ct { low: -17.0, high: 201.0, mean: 99.5, deviation: 37.25 };
    assert_eq!(run(&fingerprint), [ct.clone(), Normalisation::ZScore { nonzero: false }]);
    // nnU-Net: below three quarters, z-scores are taken on nonzero voxels; CT never is.
    fingerprint.median_relative_size_after_crop = 0.75;
    assert_eq!(run(&fingerprint)[1], Normalisation::ZScore { nonzero: false });
    fingerprint.median_relative_size_after_crop = 0.7499;
    assert_eq!(run(&fingerprint), [ct, Normalisation::ZScore { nonzero: true }]);
    let error = resolve(&Experiment::default(), &fingerprint, &dataset(&[false], 2)).unwrap_err();
    assert!(error.to_string().contains("2 channels, the dataset 1"));
}

#[test]
fn swapped_batch_norm_is_written_as_group() {
    let run = resolved("network.norm = \"batch\"\nbatch = {effective = 16, micro = \"auto\"}").unwrap();
    assert_eq!((run.norm.used, run.norm.swaps.len()), (NormName::Group, run.plan.stages.len()));
    // Even where the number written for "auto" would have been enough for BatchNorm, reading back repeats the run.
    let run = resolved("network = {norm = \"batch\", batch_norm_min = 1}\nbatch = {effective = 16, micro = \"auto\"}");
    let run = run.unwrap();
    let again = resolved(&run.to_toml().unwrap()).unwrap();
    assert_eq!((again.plan, again.experiment), (run.plan, run.experiment));
    // A written number above the effective batch counts as the effective batch.
    let run = resolved("network.norm = \"batch\"\nbatch = {effective = 4, micro = 16}").unwrap();
    assert_eq!((run.micro, run.norm.used), (4, NormName::Group));
}

fn auto<T: std::fmt::Debug + Clone>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Auto<T>> {
    prop_oneof![Just(Auto::Auto), value.prop_map(Auto::Value)]
}

prop_compose! {
    fn experiments()(
        (effective, micro) in (1usize..40, auto(1usize..12)),
        (budget, recompute) in (auto((1u64..1 << 40).prop_map(ByteSize)), auto(prop_oneof![Just(Recompute::None), Just(Recompute::Norms)])),
        activations in auto(prop_oneof![Just(Activations::F32), Just(Activations::F16), Just(Activations::Bf16)]),
        loss_scale in auto(1f64..1e6),
        (features, norm_groups, batch_norm_min) in (4usize..40, 1usize..10, 1usize..10),
        norm in auto(prop_oneof![Just(NormName::Batch), Just(NormName::Group), Just(NormName::Instance)]),
        patch in auto(prop::array::uniform3((1usize..6).prop_map(|n| n * 16))),
        stages in auto(2usize..5),
        spacing in auto(prop::array::uniform3(0.4f64..5.0)),
        (learning_rate, foreground, weight_decay) in (1e-12f64..100.0, 0f64..=1.0, 0f64..1.0),
        (steps, seed) in (1u64..1_000_000, 0u64..=i64::MAX as u64),
        (enabled, noise) in (any::<bool>(), 0f64..10.0),
        fold in prop_oneof![Just(Fold::All), (0usize..5).prop_map(Fold::One)],
    ) -> Experiment {
        let mut experiment = Experiment::default();
        experiment.data.dataset = "${VOXFIT_VOLUMES}/a \"b\" \\ ü".into();
        experiment.data.fold = fold;
        experiment.data.spacing = spacing;
        experiment.batch.effective = effective;
        experiment.batch.micro = micro;
        experiment.memory.budget = budget;
        experiment.memory.recompute = recompute;
        experiment.precision.activations = activations;
        experiment.precision.loss_scale = loss_scale;
        experiment.network.features = features;
        experiment.network.norm_groups = norm_groups;
        experiment.network.batch_norm_min = batch_norm_min;
        experiment.network.norm = norm;
        experiment.network.patch = patch;
        experiment.network.stages = stages;
        experiment.train.learning_rate = learning_rate;
        experiment.train.weight_decay = weight_decay;
        experiment.train.steps = steps;
        experiment.train.seed = seed;
        experiment.sampling.foreground = foreground;
        experiment.augment.enabled = enabled;
        experiment.augment.noise.sigma = [0.0, noise];
        experiment
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(experiment in experiments()) {
        prop_assert_eq!(read(&experiment.to_toml().unwrap()).unwrap(), experiment);
    }

    #[test]
    fn a_resolved_configuration_repeats_the_run(
        experiment in experiments(),
        spacing in prop::array::uniform3(0.3f64..6.0),
        size in prop::array::uniform3(16usize..200),
        ct in any::<bool>(),
    ) {
        let (fingerprint, dataset) = (fingerprint(1, spacing, size), dataset(&[ct], 3));
        let Ok(first) = resolve(&experiment, &fingerprint, &dataset) else { return Ok(()) };
        let again = resolve(&read(&first.to_toml().unwrap()).unwrap(), &fingerprint, &dataset).unwrap();
        prop_assert_eq!(again.norm.used, first.norm.used);
        prop_assert!(again.norm.swaps.is_empty());
        // All but the words about the norm, which is now "as written".
        prop_assert_eq!(Resolved { norm: first.norm.clone(), ..again }, first);
    }

    #[test]
    fn no_text_is_a_crash(text in ".{0,200}", set in ".{0,40}") {
        let _ = read(&text);
        if let Ok(change) = Override::parse(&set) {
            let _ = Config::parse("", Path::new("a.toml"), &[change]);
        }
    }
}

/// As people paste them.
#[test]
fn paths_of_windows_are_taken_or_explained() {
    let dataset =
        |text: &str| Config::parse(text, Path::new("dir/experiment.toml"), &[]).and_then(|config| config.dataset());
    // In double quotes `\d` is no character, and `\t` is a tab.
    for text in [
        "[data]\ndataset = \"C:\\data\\set\"",
        "[data]\ndataset = \"C:\\temp\"",
        "[data]\ndataset = \"C:\\Users\\me\"",
        "[data]\ndataset = \"C:\\users\"",
    ] {
        let message = dataset(text).unwrap_err().to_string();
        assert!(message.contains("single quotes") && message.contains(r"'C:\data\set'"), "{message}");
    }
    for text in [
        r"data.dataset = 'C:\data\set'",
        r#"data.dataset = "C:\\data\\set""#,
        "data.dataset = 'D:/data'",
        r"data.dataset = '\\server\share\set'",
    ] {
        let taken = dataset(text);
        if cfg!(windows) {
            taken.unwrap();
        } else {
            let message = taken.unwrap_err().to_string();
            assert!(message.contains("a path of Windows") && message.contains("--data"), "{message}");
        }
    }
    let split = Config::parse(r"data.split = 'C:\folds\splits.json'", Path::new("a.toml"), &[]).unwrap().split_file();
    assert_eq!(split.is_ok(), cfg!(windows), "{split:?}");
    assert_eq!(dataset("data.dataset = 'my data/Zähne'").unwrap(), Path::new("dir/my data/Zähne"));
}
