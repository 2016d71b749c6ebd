//! Where a run begins: with what its settings say, or with its newest checkpoint.

use std::ops::ControlFlow;

use super::{Destination, Event, Watch};
use crate::{
    Compute, Setup, TrainError, Weights,
    checkpoint::{self, model::read_config},
    run_folder::RunFolder,
    settings::Settings,
    state::{Identity, damaged},
};

/// Sets a run up, with the tokenizer that it began with.
pub(super) fn set_up(
    settings: &Settings,
    destination: &Destination,
    compute: &Compute,
    watch: &mut dyn Watch,
) -> Result<Setup, TrainError> {
    let known = match destination {
        Destination::New(_) => None,
        Destination::Resume(folder) => evenkeel_data::Tokenizer::of_folder(folder.path())?,
    };
    Setup::with_data(&settings_here(settings, destination)?, compute, known, &mut |event| {
        watch.event(Event::Data(event));
        if watch.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// The settings to set up with: a run that goes on has its model in its checkpoints, whatever became of the folder that
/// it started from.
fn settings_here(settings: &Settings, destination: &Destination) -> Result<Settings, TrainError> {
    let mut here = settings.clone();
    if let (Some(from), Destination::Resume(folder)) = (&mut here.model.from, destination)
        && let Some((step, newest)) = checkpoint::newest(folder)?
    {
        read_config(&newest).map_err(|error| damaged(folder, step, error.into()))?;
        *from = newest;
    }
    Ok(here)
}

/// The settings with the checkpoint that the weights come from: which one is a run's best may change.
pub(super) fn pinned(settings: &Settings, weights: &Weights) -> Settings {
    let mut pinned = settings.clone();
    if let Weights::Folder(folder) = weights {
        pinned.model.from = Some(folder.clone());
    }
    pinned
}

/// The newest checkpoint, if there is one, checked against the run.
pub(super) fn load_newest(
    folder: &RunFolder,
    identity: &Identity,
    compute: &Compute,
    watch: &mut dyn Watch,
) -> Result<Option<checkpoint::LoadedCheckpoint>, TrainError> {
    let Some((step, path)) = checkpoint::newest(folder)? else { return Ok(None) };
    let stored = checkpoint::load(&path).map_err(|error| damaged(folder, step, error.into()))?;
    identity.require_same_run(&path, &stored).map_err(|error| damaged(folder, step, error))?;
    let name = compute.name();
    if (&stored.trainer.adapter, &stored.trainer.driver) != (&name.adapter, &name.driver) {
        watch.event(Event::Notice(&format!(
            "the run was computed on {} ({}) so far and goes on on {} ({}): its bits will differ from an unbroken run's",
            stored.trainer.adapter, stored.trainer.driver, name.adapter, name.driver,
        )));
    }
    Ok(Some(stored))
}
