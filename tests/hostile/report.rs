//! A run folder that came from somewhere, and the page made of it.
use std::fs;

use proptest::prelude::*;
use voxfit::report::{Pictures, RunRecord, comparison, page};

use crate::allocation::{alone, measured};
use crate::common::Lab;
use crate::damage::fuzz;

const WORDS: &[&str] = &[
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "&#60;",
    "18446744073709551615",
    "-1",
    "1e308",
    "null",
    "[]",
    "{}",
    "{\"step\":9,\"loss\":-1e308}\n",
    "{\"step\":18446744073709551615,\"loss\":1e308,\"seconds\":1e308}\n",
    "{\"step\":2,\"dice\":[{\"class\":1,\"name\":\"<b>\",\"dice\":1e308}],\"mean_dice\":-5}\n",
];

#[test]
fn damaged_runs_give_a_page_or_one_sentence() {
    let _alone = alone();
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "r", "--no-images"]);
    let folder = lab.path("r");
    RunRecord::read(&folder).unwrap();
    for (name, usual) in [
        ("manifest.json", 600),
        ("metrics.jsonl", 600),
        ("validation/summary.json", 400),
        ("validation/postprocessing.json", 400),
        ("config.toml", 300),
    ] {
        let path = folder.join(name);
        let whole = fs::read(&path).unwrap();
        fuzz(usual, vec![whole.clone()], WORDS, |bytes| {
            fs::write(&path, bytes)?;
            let (pages, peak) = measured(|| {
                let run = RunRecord::read(&folder)?;
                let pictures = Pictures::LeftOut("none".into());
                let alone = page(&run.clone().anonymous(), &pictures, true);
                Ok::<_, voxfit::report::ReportError>([alone, comparison(&[run.clone(), run])])
            });
            prop_assert!(peak <= 128 << 20, "{peak} bytes were held");
            match pages {
                Ok(pages) => {
                    for page in pages {
                        prop_assert_eq!(page.matches("<script").count(), 1);
                        prop_assert!(!page.contains("<img") && !page.contains("<b>"));
                    }
                }
                Err(error) => prop_assert!(error.to_string().contains("r/"), "{error}"),
            }
            Ok(())
        });
        fs::write(&path, whole).unwrap();
    }
}
