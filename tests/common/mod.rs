//! A folder with a small phantom, a configuration that trains on it in a second, and the program as typed there.
#![allow(dead_code, reason = "each test file uses its own share")]
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

/// Three steps of a network of a few thousand weights.
pub const CONFIG: &str = r#"
[data]
dataset = "data"
[batch]
effective = 3
[network]
patch = [16, 16, 16]
features = 4
[train]
steps = 3
validate_every = 2
checkpoint_every = 2
"#;

pub struct Lab {
    folder: TempDir,
}

impl Lab {
    /// `data` (six cases of 24 voxels a side and two classes) and `c.toml`.
    pub fn new() -> Self {
        let lab = Self { folder: TempDir::new().unwrap() };
        lab.done(&["phantom", "data", "--cases", "6", "--size", "24,24,24", "--classes", "2", "--seed", "7"]);
        lab.write("c.toml", CONFIG.as_bytes());
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// The program, started in the folder and with its cache there.
    pub fn voxfit(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voxfit"));
        self.around(command.args(arguments));
        command
    }

    /// `script` by the shell, in which `$VOXFIT` is the program.
    pub fn shell(&self, script: &str) -> Output {
        let mut command = Command::new("sh");
        self.around(command.args(["-c", script]).env("VOXFIT", env!("CARGO_BIN_EXE_voxfit")));
        command.output().unwrap()
    }

    fn around(&self, command: &mut Command) {
        command
            .current_dir(self.folder.path())
            .env("VOXFIT_CACHE", self.path("cache"))
            .env("NO_COLOR", "1")
            .env_remove("VOXFIT_VOLUMES");
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.voxfit(arguments).output().unwrap()
    }

    /// Exit code 0; what was printed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code 0; the digest that is printed last, alone on a line.
    pub fn digest(&self, arguments: &[&str]) -> String {
        digest_of(&self.done(arguments))
    }

    /// Exit code 1, nothing on stdout and one line on stderr, which is returned.
    pub fn failure(&self, arguments: &[&str]) -> String {
        let mut quiet = vec!["-q"];
        quiet.extend(arguments);
        one_line(&self.output(&quiet), &format!("{arguments:?}"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// The objects of a run's `metrics.jsonl`.
    pub fn metrics(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Rewrites the bytes of a `.nii.gz`.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path(name);
        let mut bytes = unpacked(&path);
        edit(&mut bytes);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&bytes).unwrap();
        fs::write(path, packed.finish().unwrap()).unwrap();
    }
}

pub fn unpacked(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Puts `bytes` at `at`, as in a NIfTI-1 header.
pub fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

pub fn digest_of(printed: &str) -> String {
    let digest = printed.lines().last().unwrap().strip_prefix("weights_sha256 ").unwrap_or_else(|| panic!("{printed}"));
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    digest.to_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a failure must look like; `what` names it.
pub fn one_line(output: &Output, what: &str) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{what}: {said}");
    assert_eq!(said.lines().count(), 1, "{what}: {said}");
    assert!(said.starts_with("voxfit: ") && !said.contains("internal fault") && !said.contains("panic"), "{said}");
    assert!(output.stdout.is_empty(), "{what}: {}", stdout(output));
    said
}
