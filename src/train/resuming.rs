//! Where a run begins: at its last checkpoint, and on all ranks at the same.
use std::sync::atomic::Ordering;

use super::manifest::Manifest;
use super::run_loop::Loop;
use super::session::Options;
use super::told::{Event, Outcome};
use super::{TrainError, checkpoint};
use crate::ranks::Item;

impl Loop<'_> {
    /// Goes back to the last checkpoint; an outcome where the run is already done.
    pub fn resume(&mut self) -> Result<Option<Outcome>, TrainError> {
        let path = self.folder.checkpoint("last");
        let is_there = path.exists() || path.with_file_name("previous.safetensors").exists();
        self.agree(&[("checkpoint of the run (whether there is one)", is_there.to_string())])?;
        if !is_there {
            self.observer.event(Event::Notice("no checkpoint to resume from: starting at step 0".into()));
            return Ok(None);
        }
        let mut saved = checkpoint::load(&path)?;
        self.agree(&[("checkpoint", format!("step {} {}", saved.state.step, saved.state.weights_sha256))])?;
        if saved.state.config_sha256 != self.config_sha256 {
            let cure = "resume with the run's own config.toml, or start another run with --run";
            return Err(TrainError::run(&path, "the configuration is not the one of this run", cure));
        }
        if self.previous().is_some_and(|manifest| manifest.data_sha256 != self.manifest.data_sha256) {
            let cure = "bring back the dataset as it was, or start another run with --run";
            return Err(TrainError::run(
                self.folder.path(),
                "the dataset is not the one this run was started on",
                cure,
            ));
        }
        if self.previous().is_some_and(|manifest| manifest.split_sha256 != self.manifest.split_sha256) {
            let cure = "bring back the file of data.split (or dataset.json's groups) as it was, or start another run with --run";
            return Err(TrainError::run(
                self.folder.path(),
                "other cases are held out than when the run was started",
                cure,
            ));
        }
        saved.restore_weights(&mut self.network, &path)?;
        if saved.state.finished {
            let mean_dice = self.previous().and_then(|manifest| manifest.mean_dice);
            return Ok(Some(Outcome::Finished { weights_sha256: saved.state.weights_sha256, mean_dice }));
        }
        saved.restore_optimizer(&mut self.optimizer, &self.network, &path)?;
        self.optimizer.exchange_averages(&mut self.network.parameters);
        // What the run began with, whatever was given this time: the checkpoint has taken its place.
        self.manifest.start_weights_sha256 = self.previous().and_then(|manifest| manifest.start_weights_sha256);
        self.scale = saved.loss_scale(self.scale);
        self.step = saved.state.step;
        self.best = saved.state.best;
        self.observer.event(Event::Notice(format!("resumed from step {}", self.step)));
        Ok(None)
    }

    /// Refuses ranks that have something else than rank 0.
    pub(super) fn agree(&self, items: &[Item]) -> Result<(), TrainError> {
        match self.settings.ranks.disagreement(items, || self.together())? {
            None => Ok(()),
            Some(said) => {
                let cure = "start every rank with the same voxfit, command, configuration, data and run folder";
                Err(TrainError::run(self.folder.path(), said, cure))
            }
        }
    }

    /// What has to be the same on all ranks: it decides the result, or what is done when.
    pub fn identity(&self, options: &Options) -> Vec<Item> {
        let train = &self.resolved.experiment.train;
        let often = [train.validate_every, train.validate_cases as u64, train.checkpoint_every];
        let revision = env!("VOXFIT_GIT_REVISION");
        vec![
            ("version of voxfit", format!("{} {revision}", crate::VERSION)),
            ("configuration", self.config_sha256.clone()),
            ("dataset", self.manifest.data_sha256.clone()),
            ("split into cases to train on and held-out ones", self.manifest.split_sha256.clone()),
            ("start of the weights", format!("{:?}", self.manifest.start_weights_sha256)),
            ("train.validate_every, validate_cases or checkpoint_every", format!("{often:?}")),
            ("command (--resume, --max-time)", format!("{} {:?}", options.resume, options.max_time)),
        ]
    }

    /// Whether to wait for the other ranks any longer.
    pub(super) fn together(&self) -> Result<(), TrainError> {
        match self.settings.ranks.are_several() && self.stop.load(Ordering::Relaxed) {
            true => Err(TrainError::Stopped),
            false => Ok(()),
        }
    }

    /// The manifest that an earlier process left.
    fn previous(&self) -> Option<Manifest> {
        let text = std::fs::read_to_string(self.folder.file("manifest.json")).ok()?;
        serde_json::from_str::<Manifest>(&text).ok()
    }
}
