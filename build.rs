//! Tells the program which revision it was built from, for the manifest of a run.
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // HEAD names the branch, its log grows with every commit.
    for file in [".git/HEAD", ".git/logs/HEAD"] {
        if std::path::Path::new(file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    let revision = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    // Built from an archive there is none.
    println!("cargo::rustc-env=VOXFIT_GIT_REVISION={}", revision.as_deref().map_or("unknown", str::trim));
}
