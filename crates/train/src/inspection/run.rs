//! A run as its folder tells it. Nothing is locked or changed: the run may be going on.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::error::{CheckpointError, excerpt};
use crate::checkpoint::newest_in;
use crate::error::TrainError;
use crate::inspection::Role;
use crate::run_folder::{CHECKPOINTS_FOLDER, METRICS_FILE, RUN_FILE, SAMPLES_FILE};
use crate::settings::{Flags, Settings, Sources};

/// A run so far.
#[derive(Debug)]
pub struct RunRecord {
    /// The settings it was started with.
    pub settings: Settings,
    /// The newest complete checkpoint: its step and its folder.
    pub newest: Option<(u64, PathBuf)>,
    /// The rows of `metrics.jsonl`, in its order.
    rows: Vec<Value>,
}

impl RunRecord {
    /// Whether a folder is that of a run.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        folder.join(RUN_FILE).is_file()
    }

    /// Reads a run folder. A run that has not come to its first step has no rows; a last row that is torn, by a kill
    /// or because it is being written, is left out.
    ///
    /// # Errors
    /// A `run.toml` that the settings refuse; a row, not the last, that is not JSON; whatever the system refuses.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        let (record, broken) = Self::read_what_is_whole(folder)?;
        match broken.into_iter().next() {
            Some(fault) => Err(fault.into()),
            None => Ok(record),
        }
    }

    /// Reads a run folder as [`RunRecord::read`] does, but passes over rows that are broken; gives the fault of each.
    ///
    /// # Errors
    /// A `run.toml` that the settings refuse; whatever the system refuses.
    pub fn read_what_is_whole(folder: &Path) -> Result<(Self, Vec<CheckpointError>), TrainError> {
        let settings = Settings::from_run_file(&folder.join(RUN_FILE))?;
        let checkpoints = folder.join(CHECKPOINTS_FOLDER);
        let newest = if checkpoints.is_dir() { newest_in(&checkpoints)? } else { None };
        let (rows, broken) = read_rows(&folder.join(METRICS_FILE))?;
        Ok((Self { settings, newest, rows }, broken))
    }

    /// The numbers at a JSON pointer such as `/loss` or `/residual_stream/0/absmax`, each with its step, in the order
    /// of the rows; rows without the number are passed over.
    #[must_use]
    pub fn series(&self, pointer: &str) -> Vec<(u64, f64)> {
        let number = |row: &Value| Some((row.get("step")?.as_u64()?, row.pointer(pointer)?.as_f64()?));
        self.rows.iter().filter_map(number).collect()
    }

    /// Steps done: the last that has a loss.
    #[must_use]
    pub fn steps_done(&self) -> u64 {
        self.series("/loss").last().map_or(0, |(step, _)| *step)
    }

    /// The weights that the instruments measured: those outside of the layers, then layer by layer.
    #[must_use]
    pub fn measured_weights(&self) -> Vec<String> {
        let weights = self.rows.iter().rev().find_map(|row| row.get("weights")?.as_object());
        let mut names: Vec<String> = weights.map(|weights| weights.keys().cloned().collect()).unwrap_or_default();
        names.sort_by_key(|name| Role::of(name).layer);
        names
    }

    /// The places in the residual stream that the instruments measured: after the embedding and after each layer.
    #[must_use]
    pub fn measured_places(&self) -> usize {
        self.rows.iter().rev().find_map(|row| Some(row.get("residual_stream")?.as_array()?.len())).unwrap_or(0)
    }

    /// The settings in which the run differs from one of its preset and number of steps alone, as `section.key` and
    /// the value in JSON.
    ///
    /// # Errors
    /// Settings that a run file cannot hold.
    pub fn changed_settings(&self) -> Result<Vec<(String, String)>, TrainError> {
        let usual = Settings::resolve(&Sources {
            flags: Flags {
                preset: self.settings.model.preset.map(|preset| preset.name().to_owned()),
                steps: i64::try_from(self.settings.train.steps).ok(),
                ..Flags::default()
            },
            ..Sources::default()
        })?;
        let as_json = |settings| serde_json::to_value(settings).map_err(TrainError::settings_format);
        let (ours, usual) = (as_json(&self.settings)?, as_json(&usual)?);
        let sections = ours.as_object().into_iter().flatten();
        let keys = sections.flat_map(|(section, keys)| {
            keys.as_object().into_iter().flatten().map(move |(key, value)| (format!("{section}.{key}"), value))
        });
        let differs = |name: &str, value: &Value| {
            let other = usual.pointer(&format!("/{}", name.replace('.', "/"))).unwrap_or(&Value::Null);
            other != value
        };
        Ok(keys.filter(|(name, value)| differs(name, value)).map(|(name, value)| (name, value.to_string())).collect())
    }
}

/// The JSON pointer of what the instruments measured of a weight: `std`, `mean`, `absmax` or `update_ratio`.
#[must_use]
pub fn weight_pointer(weight: &str, field: &str) -> String {
    format!("/weights/{}/{field}", weight.replace('~', "~0").replace('/', "~1"))
}

/// What a model wrote while it was trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Steps done.
    pub step: u64,
    /// As it came.
    pub text: String,
}

/// The samples of a run, in the order of the file, and the faults of rows that are broken.
///
/// # Errors
/// Whatever the system refuses.
pub fn samples(folder: &Path) -> Result<(Vec<Sample>, Vec<CheckpointError>), TrainError> {
    let (rows, broken) = read_rows(&folder.join(SAMPLES_FILE))?;
    Ok((rows.into_iter().filter_map(|row| serde_json::from_value(row).ok()).collect(), broken))
}

/// The rows of a file and the faults of those that are broken.
pub(crate) fn read_rows(path: &Path) -> Result<(Vec<Value>, Vec<CheckpointError>), CheckpointError> {
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((rows, broken)),
        opened => opened.map_err(CheckpointError::io("open", path))?,
    };
    let mut lines = BufReader::new(file).split(b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let line = line.map_err(CheckpointError::io("read", path))?;
        match serde_json::from_slice(&line) {
            Ok(row) => rows.push(row),
            Err(_) if lines.peek().is_none() => {}
            Err(_) => {
                let got = excerpt(&String::from_utf8_lossy(&line));
                let expected = format!("a row of JSON in line {}", index + 1);
                broken.push(CheckpointError::malformed(path, expected, got));
            }
        }
    }
    Ok((rows, broken))
}
