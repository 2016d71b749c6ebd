//! What the page knows of a run.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use evenkeel_train::{
    checkpoint::{TRAINER_FILE, error::CheckpointError, model::read_config, trainer_state::TrainerState},
    inspection::run::{RunRecord, Sample, samples},
    run_folder::METRICS_FILE,
};

use crate::curve::Points;

pub(super) struct Run {
    /// The folder's name, or its path where another run has the same name.
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) record: RunRecord,
    /// Who computed the newest checkpoint, and of how many parameters it is.
    pub(super) trainer: Option<TrainerState>,
    pub(super) parameters: Option<u64>,
    pub(super) samples: Vec<Sample>,
    /// What was left out, and why.
    pub(super) faults: Vec<String>,
    /// Since the last row.
    pub(super) age: Option<Duration>,
}

impl Run {
    /// Values over the steps, at a JSON pointer.
    pub(super) fn series(&self, pointer: &str) -> Points {
        self.record.series(pointer).into_iter().map(|(step, value)| (step as f64, value)).collect()
    }
}

/// Reads the runs; what is broken in one is left out and told.
pub(super) fn read(folders: &[PathBuf]) -> Result<Vec<Run>, Box<dyn Error>> {
    let mut runs = folders.iter().map(|folder| read_one(folder)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for run in &mut runs {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = run.folder.display().to_string();
        }
    }
    Ok(runs)
}

fn read_one(folder: &Path) -> Result<Run, Box<dyn Error>> {
    if !RunRecord::is_in(folder) {
        return Err(CheckpointError::not_a_run(folder).into());
    }
    let (record, broken) = RunRecord::read_what_is_whole(folder)?;
    let mut faults = Vec::new();
    if let Some(first) = broken.first() {
        faults.push(match broken.len() {
            1 => first.to_string(),
            count => format!("{count} rows; {first}"),
        });
    }
    let newest = record.newest.as_ref().map(|(_, path)| path.clone());
    let trainer = newest.as_ref().map(|path| TrainerState::read(&path.join(TRAINER_FILE)));
    let trainer = trainer.and_then(|read| read.map_err(|error| faults.push(error.to_string())).ok());
    let parameters = newest.as_ref().and_then(|path| read_config(path).ok()).map(|config| config.parameter_count());
    let (samples, broken) = samples(folder)?;
    faults.extend(broken.first().map(ToString::to_string));
    let changed = fs::metadata(folder.join(METRICS_FILE)).and_then(|file| file.modified());
    let age = changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
    let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let name = name.unwrap_or_else(|| folder.display().to_string());
    Ok(Run { name, folder: folder.to_owned(), record, trainer, parameters, samples, faults, age })
}
