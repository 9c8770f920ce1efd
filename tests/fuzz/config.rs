//! Text as a configuration file.
#![no_main]
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use voxfit::config::Config;

fuzz_target!(|text: &str| {
    if let Ok(config) = Config::parse(text, Path::new("c.toml"), &[]) {
        let _ = config.dataset();
        config.experiment.to_toml().expect("what was read can be written");
    }
});
