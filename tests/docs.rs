//! What README.md and the pages of docs/ say can be typed works, and what they link to is there.
//!
//! A shell block is "sh run": it is run by this test, in order within its page, in a scratch folder that has `configs` and
//! `volumes` of the repository and `voxfit` on its path; a block "text output" right after it is compared line by line, `...`
//! standing for what varies. Or it is "sh not-run=WHY". A comment `<!-- before: COMMAND -->` is run unseen where it stands.
#![cfg(unix)]
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Path from the root, and text.
fn pages() -> Vec<(String, String)> {
    let mut names: Vec<String> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(String::from).into();
    let docs =
        fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.extend(docs.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")));
    names.sort();
    names.into_iter().map(|name| (fs::read_to_string(root().join(&name)).unwrap(), name)).map(|(a, b)| (b, a)).collect()
}

struct Block {
    line: usize,
    info: String,
    body: String,
}

/// Fenced blocks, and commands in comments as `before`.
fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        match bare.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(info) => {
                found.push(Block { line: at + 1, info: info.to_owned(), body: String::new() });
                open = true;
            }
            None if open => found.last_mut().unwrap().body += &format!("{line}\n"),
            None => {
                let command = bare.strip_prefix("<!-- before: ").and_then(|rest| rest.strip_suffix(" -->"));
                found.extend(command.map(|body| Block { line: at + 1, info: "before".into(), body: body.to_owned() }));
            }
        }
    }
    assert!(!open, "a block without its end");
    found
}

/// The text without what is in fences.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        kept += if fenced || fence { "" } else { line };
        kept.push('\n');
    }
    kept
}

#[test]
fn every_block_says_what_it_is() {
    let mut run = 0;
    for (name, text) in pages() {
        for block in blocks(&text) {
            let known = match block.info.split_once(' ').unwrap_or((&block.info, "")) {
                ("sh", "run") | ("before", "") => {
                    run += 1;
                    true
                }
                ("sh", why) => why.strip_prefix("not-run=").is_some_and(|why| why.len() > 3),
                ("toml", "") => toml::from_str::<toml::Table>(&block.body).is_ok(),
                ("text" | "json" | "python", "" | "output") => true,
                _ => false,
            };
            assert!(known, "{name}:{}: a block of `{}`: see the head of tests/docs.rs", block.line, block.info);
        }
        let lines: Vec<String> = prose(&text).lines().map(str::to_owned).collect();
        for (at, pair) in lines.windows(2).enumerate() {
            let indented = pair[0].trim().is_empty() && pair[1].starts_with("    ") && !pair[1].trim().is_empty();
            assert!(!indented, "{name}:{}: an indented block; fence it and say whether it is run", at + 2);
        }
    }
    assert!(run >= 15, "{run} blocks that are run");
}

#[test]
fn what_pages_say_to_type_works() {
    for (name, text) in pages() {
        let blocks = blocks(&text);
        if !blocks.iter().any(|block| block.info == "sh run") {
            continue;
        }
        let scratch = tempfile::tempdir().unwrap();
        for folder in ["configs", "volumes"] {
            // Not a link: `reproduce` finds the dataset by the way from the run to it.
            let copied = Command::new("cp").arg("-r").arg(root().join(folder)).arg(scratch.path()).status().unwrap();
            assert!(copied.success());
        }
        let program = Path::new(env!("CARGO_BIN_EXE_voxfit")).parent().unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut printed = String::new();
        for block in &blocks {
            let place = format!("{name}:{}", block.line);
            match block.info.as_str() {
                "sh run" | "before" => {
                    let output = Command::new("sh")
                        .args(["-e", "-c", &block.body])
                        .current_dir(scratch.path())
                        .env("PATH", format!("{}:{path}", program.display()))
                        .env("VOXFIT_CACHE", scratch.path().join("cache"))
                        .env("HOME", scratch.path())
                        .env_remove("VOXFIT_VOLUMES")
                        .output()
                        .unwrap();
                    printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
                    assert!(output.status.success(), "{place}: {}\n{}\n{printed}", output.status, block.body);
                }
                "text output" => {
                    for line in block.body.lines().filter(|line| !line.trim().is_empty()) {
                        assert!(
                            printed.lines().any(|shown| fits(line, shown)),
                            "{place}: `{line}` is not in\n{printed}"
                        );
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether `shown` is `line`, in which `...` stands for anything.
fn fits(line: &str, shown: &str) -> bool {
    let parts: Vec<&str> = line.split("...").map(str::trim).collect();
    let mut rest = shown.trim();
    for (at, part) in parts.iter().enumerate() {
        match rest.find(part) {
            Some(0) => rest = &rest[part.len()..],
            Some(found) if at > 0 => rest = &rest[found + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || parts.len() > 1 && parts.last() == Some(&"")
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut seen = 0;
    for (name, text) in &pages {
        let folder = root().join(name).parent().unwrap().to_owned();
        let flat = prose(text).replace('\n', " ");
        for link in flat.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(name) } else { folder.join(file) };
            assert!(target.exists(), "{name}: {link}: no such file");
            if !heading.is_empty() {
                let there = headings(&fs::read_to_string(&target).unwrap());
                assert!(there.contains(heading), "{name}: {link}: no such heading among {there:?}");
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} links");
}

/// As GitHub and mdBook make anchors of headings: small letters, blanks to `-`, other signs left out.
fn headings(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    prose(text).lines().filter(|line| line.starts_with('#')).map(heading).collect()
}

#[test]
fn the_book_has_every_page() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for (name, _) in pages() {
        let Some(page) = name.strip_prefix("docs/").filter(|page| *page != "SUMMARY.md") else { continue };
        assert!(summary.contains(&format!("({page})")), "docs/SUMMARY.md does not name {page}");
    }
}

#[test]
fn dots_stand_for_what_varies() {
    assert!(fits("written to ...; next:", "written to first.toml; next:") && fits("a", "  a "));
    assert!(fits("mean ...", "mean 0.91") && !fits("mean", "mean 0.91") && !fits("b ...", "a b c"));
}
