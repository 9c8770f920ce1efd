//! Tells the program which revision it was built from, for the manifest of a run.
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=VOXFIT_GIT_REVISION");
    // HEAD names the branch, its log grows with every commit.
    for file in [".git/HEAD", ".git/logs/HEAD"] {
        if std::path::Path::new(file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    // Where the sources are there without their history, as in an image, who builds may say it.
    let told = std::env::var("VOXFIT_GIT_REVISION").ok().filter(|revision| is_revision(revision.trim()));
    let asked = || {
        let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).ok())?
    };
    // Built from an archive there is none.
    println!("cargo::rustc-env=VOXFIT_GIT_REVISION={}", told.or_else(asked).as_deref().map_or("unknown", str::trim));
}

fn is_revision(text: &str) -> bool {
    text.len() >= 7 && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
