//! What is in a page, and what is not.
use std::collections::BTreeSet;
use std::fs;

use crate::common::{Lab, stderr};
use crate::{hostile_lab, stopped};

fn page(lab: &Lab, name: &str) -> String {
    fs::read_to_string(lab.path(name)).unwrap()
}

/// The pictures of a page, in order.
fn pictures(page: &str) -> Vec<&str> {
    page.split("href=\"data:image/png;base64,").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn a_training_leaves_its_page() {
    let lab = Lab::new();
    let digest = lab.digest(&["train", "c.toml", "--run", "r"]);
    let (text, manifest) = (page(&lab, "r/report.html"), lab.json("r/manifest.json"));
    for said in [
        "For research use only; not a medical device",
        "finished, 3 steps",
        &digest,
        manifest["data_sha256"].as_str().unwrap(),
        manifest["norm"]["reason"].as_str().unwrap(),
        "This page holds images of patients",
        "voxfit reproduce r",
        "activations kept",
        "<th class=\"n\">95 %</th>",
        "With 2 cases, fewer than 20, they are too narrow",
        "Stray parts",
        "The plan, stage by stage",
    ] {
        assert!(text.contains(said), "{said} is not in the page");
    }
    for case in manifest["validation_cases"].as_array().unwrap() {
        assert!(text.contains(&format!("case: {}", case.as_str().unwrap())), "{case}");
    }
    // Two cases are held out: three planes each.
    assert_eq!(text.matches("class=\"plane\"").count(), 6);
    assert!(pictures(&text).len() > 6 * 3 * 8, "{}", pictures(&text).len());
    assert!(text.len() < 5 << 20);
    // All but the first slice of a plane wait for the slider.
    assert_eq!(text.matches("class=\"slice\"").count() - text.matches("hidden><image").count(), 6);

    // Nothing of another place, and nothing that runs but what voxfit wrote.
    assert_eq!(text.matches("<script").count(), 1);
    assert!(text.contains("default-src 'none'") && !text.contains("unsafe"));
    assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("src=") && !text.contains("url("));
    assert!(!text.contains("http-equiv=\"refresh\""), "a finished run's page is still");

    // The same pictures come of the run folder, whoever asks later.
    lab.done(&["-q", "report", "r", "-o", "later.html"]);
    assert_eq!(pictures(&page(&lab, "later.html")), pictures(&text));
    lab.done(&["-q", "report", "r", "--no-images", "-o", "without.html"]);
    let without = page(&lab, "without.html");
    assert!(pictures(&without).is_empty() && !without.contains("This page holds images"));
    assert!(without.contains("as --no-images says"));
}

#[test]
fn page_and_scalars_change_no_bit_and_images_stay_out_where_asked() {
    let lab = Lab::new();
    let digest = lab.digest(&["train", "c.toml", "--run", "a"]);
    assert_eq!(lab.digest(&["train", "c.toml", "--run", "b", "--no-images", "--tensorboard"]), digest);
    assert_eq!(lab.digest(&["train", "c.toml", "--run", "c", "--anonymous-cases"]), digest);
    for run in ["b", "c"] {
        assert!(pictures(&page(&lab, &format!("{run}/report.html"))).is_empty());
    }
    // Numbers made afterwards are those that the training would have written.
    lab.done(&["-q", "report", "a", "--anonymous-cases", "-o", "numbers.html"]);
    let numbers = page(&lab, "numbers.html");
    assert!(!numbers.contains("phantom_0") && !pictures(&numbers).is_empty());
    let of = |text: &str| -> BTreeSet<String> {
        text.split("case_").skip(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect()).collect()
    };
    let ids = of(&numbers);
    assert_eq!(ids, of(&page(&lab, "c/report.html")));
    assert_eq!(ids, of(&lab.json("c/manifest.json")["validation_cases"].to_string()));
    // A run of numbers finds its cases all the same.
    lab.done(&["-q", "report", "c", "-o", "c.html"]);
    assert_eq!(pictures(&page(&lab, "c.html")), pictures(&numbers));
}

#[test]
fn a_page_without_its_dataset_says_so() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "r"]);
    fs::rename(lab.path("data"), lab.path("moved")).unwrap();
    let output = lab.output(&["report", "r", "-o", "a.html"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("the page has no pictures") && stderr(&output).contains("--data DIR"));
    assert!(page(&lab, "a.html").contains("They could not be made"));
    lab.done(&["-q", "report", "r", "-o", "a.html", "--data", "moved"]);
    assert!(!pictures(&page(&lab, "a.html")).is_empty());
    // A case that is no longer the file that was trained on is not shown for it.
    let case = lab.json("r/manifest.json")["validation_cases"][0].as_str().unwrap().to_owned();
    lab.edit(&format!("moved/imagesTr/{case}.nii.gz"), |file| *file.last_mut().unwrap() ^= 1);
    let output = lab.output(&["report", "r", "-o", "a.html", "--data", "moved"]);
    assert!(stderr(&output).contains("is not the file that the run was trained on"), "{}", stderr(&output));
    assert!(pictures(&page(&lab, "a.html")).is_empty());
}

#[test]
fn a_run_that_goes_on_is_looked_at_again_and_a_page_that_fails_ends_nothing() {
    let lab = Lab::new();
    let step = stopped(&lab, "r", &[]);
    let text = page(&lab, "r/report.html");
    assert!(text.contains("http-equiv=\"refresh\"") && pictures(&text).is_empty());
    assert!(text.contains(&format!("as of step {step} of 1000000")));
    lab.done(&["-q", "report", "r", "-o", "stopped.html"]);
    let text = page(&lab, "stopped.html");
    assert!(
        text.contains(&format!("stopped after step {step} of 1000000")) && !text.contains("http-equiv=\"refresh\"")
    );

    let digest = lab.digest(&["train", "c.toml", "--run", "whole"]);
    fs::create_dir_all(lab.path("blocked/report.html/full")).unwrap();
    lab.write("blocked/.lock", b"");
    let output = lab.output(&["train", "c.toml", "--run", "blocked", "--resume"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(crate::common::digest_of(&crate::common::stdout(&output)), digest);
    assert!(stderr(&output).contains("report.html was not written"), "{}", stderr(&output));
}

#[test]
fn names_are_text_and_nothing_else() {
    let lab = hostile_lab();
    lab.done(&["train", "c.toml", "--run", "r"]);
    lab.done(&["-q", "report", "r", "r", "-o", "two.html"]);
    for name in ["r/report.html", "two.html"] {
        let text = page(&lab, name);
        assert_eq!(text.matches("<script").count(), 1, "{name}");
        assert!(!text.contains("<img") && !text.contains("window.hacked = 1</script>"), "{name}");
        assert!(text.contains("window.hacked = 1&lt;/script&gt;") || name == "two.html");
    }
}

#[test]
fn several_runs_are_one_page() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "runs/small"]);
    lab.done(&["train", "c.toml", "--run", "runs/large", "--set", "batch.effective=6"]);
    lab.done(&["train", "c.toml", "--run", "runs/seeds", "--seeds", "2"]);
    let refused = lab.failure(&["report", "runs/small", "runs/large"]);
    assert!(refused.contains("-o"), "{refused}");
    lab.done(&["report", "runs/small", "runs/large", "-o", "both.html"]);
    let text = page(&lab, "both.html");
    for said in ["For research use only", ">small<", ">large<", "samples seen", "the effective batch"] {
        assert!(text.contains(said), "{said}");
    }
    assert!(pictures(&text).is_empty());
    let text = page(&lab, "runs/seeds/report.html");
    lab.done(&["report", "runs/seeds", "-o", "again.html"]);
    assert_eq!(page(&lab, "again.html"), text, "the training left the same page");
    let summary = lab.json("runs/seeds/seeds.json");
    let mean = format!("{:.4}", summary["mean_dice"]["mean"].as_f64().unwrap());
    assert!(text.contains("seeds/seed_1") && text.contains(&mean) && !text.contains("samples seen"));
    let refused = lab.failure(&["report", "data"]);
    assert!(refused.contains("no run folder"), "{refused}");
}
