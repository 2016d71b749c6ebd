//! Checkpoints: complete folders, or none.
//!
//! A checkpoint is written under the run folder's `.partial`, every file and the folder itself are synced, then the
//! folder is renamed into `checkpoints/` and that one synced. So a kill, a crash or a full disk at any moment leaves
//! under `checkpoints/` nothing but complete checkpoints; what it leaves under `.partial` goes when the run folder is
//! next opened.

pub mod error;
pub mod model;
pub mod trainer_state;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use evenkeel_data::Tokenizer;
use evenkeel_model::config::ModelConfig;

use self::error::{CheckpointError, excerpt};
use self::model::{load_parameters, read_config};
use self::trainer_state::TrainerState;
use crate::run_folder::{CHECKPOINTS_FOLDER, RUN_FILE, RunFolder, sync_folder};
use crate::tensor_file::{TensorFile, TensorRef, write_tensors};

/// The model's configuration, in Hugging Face's format.
pub const CONFIG_FILE: &str = "config.json";
/// The model's parameters, under Hugging Face's names.
pub const MODEL_FILE: &str = "model.safetensors";
/// What the optimizer remembers, `<parameter>.<moment>` and whatever else it keeps.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The [`TrainerState`].
pub const TRAINER_FILE: &str = "trainer.json";

const PREFIX: &str = "step-";
/// What stands for the best checkpoint in a path.
const BEST: &str = "best";

/// What a checkpoint is made of. The step it is named after is the trainer's.
#[derive(Debug)]
pub struct CheckpointParts<'a> {
    /// The model's configuration.
    pub config: &'a ModelConfig,
    /// Every parameter of the model.
    pub model: &'a [TensorRef<'a>],
    /// How text became tokens, where that is known.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Whatever the optimizer needs to go on.
    pub optimizer: &'a [TensorRef<'a>],
    /// Everything else.
    pub trainer: &'a TrainerState,
}

/// A checkpoint read back.
#[derive(Debug)]
pub struct LoadedCheckpoint {
    /// The model's configuration.
    pub config: ModelConfig,
    /// The parameters, in the order of `config.parameters()`.
    pub parameters: Vec<Vec<f32>>,
    /// The optimizer's tensors.
    pub optimizer: StoredTensors,
    /// Everything else.
    pub trainer: TrainerState,
}

/// The tensors of an `optimizer.safetensors`, to be taken by name.
#[derive(Debug)]
pub struct StoredTensors {
    path: PathBuf,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl StoredTensors {
    /// Reads all tensors of a file.
    fn read(path: PathBuf) -> Result<Self, CheckpointError> {
        let mut file = TensorFile::open(&path)?;
        let mut tensors = BTreeMap::new();
        for name in file.names() {
            let shape = file.shape(&name).unwrap_or(&[]).to_vec();
            let values = file.read(&name, &shape)?;
            tensors.insert(name, (shape, values));
        }
        Ok(Self { path, tensors })
    }

    /// Removes and returns the tensor `name`.
    ///
    /// # Errors
    /// No such tensor, or one of another shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        match self.tensors.remove(name) {
            Some((stored, values)) if stored == shape => Ok(values),
            Some((stored, _)) => Err(CheckpointError::Tensor {
                name: name.to_owned(),
                expected: format!("shape {shape:?}"),
                got: format!("{stored:?}"),
                path: self.path.clone(),
            }),
            None => Err(CheckpointError::MissingTensor {
                name: name.to_owned(),
                shape: shape.to_vec(),
                path: self.path.clone(),
            }),
        }
    }

    /// Checks that every tensor was taken.
    ///
    /// # Errors
    /// A tensor that nobody asked for.
    pub fn finish(mut self) -> Result<(), CheckpointError> {
        match self.tensors.pop_first() {
            None => Ok(()),
            Some((name, (shape, _))) => {
                Err(CheckpointError::UnexpectedTensor { name: excerpt(&name), shape, path: self.path })
            }
        }
    }
}

/// Writes a checkpoint and returns its folder. The bytes of its tensor files depend on names, shapes and values alone.
///
/// # Errors
/// A checkpoint of that step that exists already, tensors that contradict their shapes, or whatever the system
/// reports; then nothing of it is left.
pub fn save(run: &RunFolder, parts: &CheckpointParts) -> Result<PathBuf, CheckpointError> {
    let name = folder_name(parts.trainer.step);
    let partial = run.partial().join(&name);
    let complete = folder_of(run, parts.trainer.step);
    if complete.exists() {
        return Err(CheckpointError::malformed(&complete, "a new checkpoint", "an existing one"));
    }
    let saved = write_folder(&partial, parts).and_then(|()| {
        fs::rename(&partial, &complete).map_err(CheckpointError::io("create", &complete))?;
        sync_folder(&run.checkpoints())
    });
    match saved {
        Ok(()) => Ok(complete),
        Err(error) => {
            // The error is the news; a partial folder that cannot be removed now goes when the run is next opened.
            let _ = fs::remove_dir_all(&partial);
            Err(error)
        }
    }
}

/// Writes and syncs the files of a checkpoint, then their folder.
fn write_folder(folder: &Path, parts: &CheckpointParts) -> Result<(), CheckpointError> {
    fs::create_dir(folder).map_err(CheckpointError::io("create", folder))?;
    let config = parts.config.to_json();
    write_file(&folder.join(CONFIG_FILE), |w| w.write_all(config.as_bytes()))?;
    for (name, text) in parts.tokenizer.iter().flat_map(|tokenizer| tokenizer.files()) {
        write_file(&folder.join(name), |w| w.write_all(text.as_bytes()))?;
    }
    write_file(&folder.join(MODEL_FILE), |w| write_tensors(w, parts.model))?;
    write_file(&folder.join(OPTIMIZER_FILE), |w| write_tensors(w, parts.optimizer))?;
    write_file(&folder.join(TRAINER_FILE), |w| {
        serde_json::to_writer_pretty(&mut *w, parts.trainer)?;
        w.write_all(b"\n")
    })?;
    sync_folder(folder)
}

/// Creates a file, fills and syncs it.
pub(crate) fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), CheckpointError> {
    let write = || {
        let mut writer = BufWriter::new(File::create(path)?);
        fill(&mut writer)?;
        writer.flush()?;
        writer.get_ref().sync_all()
    };
    write().map_err(CheckpointError::io("write", path))
}

/// Reads and checks a whole checkpoint folder.
///
/// # Errors
/// Whatever [`read_config`], [`load_parameters`] and [`TrainerState::read`] refuse, optimizer tensors that are
/// malformed or not finite, and a state of another step than the folder is named after.
pub fn load(folder: &Path) -> Result<LoadedCheckpoint, CheckpointError> {
    let config = read_config(folder)?;
    let path = folder.join(TRAINER_FILE);
    let trainer = TrainerState::read(&path)?;
    if folder.file_name().is_some_and(|name| *name != *folder_name(trainer.step)) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let expected = format!("the step that its folder {name} is named after");
        return Err(CheckpointError::malformed(&path, expected, format!("step {}", trainer.step)));
    }
    let parameters = load_parameters(folder, &config.parameters())?;
    let optimizer = StoredTensors::read(folder.join(OPTIMIZER_FILE))?;
    Ok(LoadedCheckpoint { config, parameters, optimizer, trainer })
}

/// The newest checkpoint of a run: its step and its folder.
///
/// # Errors
/// A listing that fails.
pub fn newest(run: &RunFolder) -> Result<Option<(u64, PathBuf)>, CheckpointError> {
    newest_in(&run.checkpoints())
}

/// Where a run has the checkpoint of `step`.
pub fn folder_of(run: &RunFolder, step: u64) -> PathBuf {
    run.checkpoints().join(folder_name(step))
}

/// The step of the newest checkpoint before `step`, if there is one.
///
/// # Errors
/// A listing that fails.
pub fn newest_before(run: &RunFolder, step: u64) -> Result<Option<u64>, CheckpointError> {
    Ok(list(&run.checkpoints())?.range(..step).next_back().map(|(&step, _)| step))
}

/// The newest of the complete checkpoints in a folder, which need not be locked.
///
/// # Errors
/// A listing that fails.
pub(crate) fn newest_in(checkpoints: &Path) -> Result<Option<(u64, PathBuf)>, CheckpointError> {
    Ok(list(checkpoints)?.pop_last())
}

/// The model folder that a path stands for: of a run folder its best checkpoint, of `RUN/checkpoints/best` likewise,
/// of any other path itself. The best one is that of the lowest validation loss; a run that has none, because it is not
/// validated, stands for its newest.
///
/// # Errors
/// What is neither a run nor has a `config.json`; a run without a checkpoint, or without a best one where that was
/// asked for; a `trainer.json` that cannot be read.
pub fn resolve(path: &Path) -> Result<PathBuf, CheckpointError> {
    let checkpoints = if path.join(RUN_FILE).is_file() {
        path.join(CHECKPOINTS_FOLDER)
    } else if path.file_name().is_some_and(|name| name == BEST) && !path.exists() {
        path.parent().map(Path::to_owned).unwrap_or_default()
    } else if path.join(CONFIG_FILE).exists() {
        return Ok(path.to_owned());
    } else {
        return Err(CheckpointError::not_a_model(path));
    };
    let none = |expected: &str| CheckpointError::malformed(path, expected, "none");
    let newest = if checkpoints.is_dir() { newest_in(&checkpoints)? } else { None };
    let (_, newest) = newest.ok_or_else(|| none("a run with a checkpoint"))?;
    let state = TrainerState::read(&newest.join(TRAINER_FILE))?;
    match state.best.map(|best| checkpoints.join(folder_name(best.step))).filter(|folder| folder.is_dir()) {
        Some(best) => Ok(best),
        None if path.join(RUN_FILE).is_file() => Ok(newest),
        None => Err(none("a checkpoint with a validation loss")),
    }
}

/// Removes all checkpoints but the newest `keep` (0: all) of those that were due, the `best` one and the newest of all.
/// Each leaves `checkpoints/` in one piece.
///
/// # Errors
/// A listing or removal that fails.
pub fn prune(run: &RunFolder, keep: usize, best: Option<u64>) -> Result<(), CheckpointError> {
    let mut due = 0;
    for (age, (step, folder)) in list(&run.checkpoints())?.into_iter().rev().enumerate() {
        // One that cannot be read is left to the count.
        let only_as_best = TrainerState::read(&folder.join(TRAINER_FILE)).is_ok_and(|state| state.only_as_best);
        due += usize::from(!only_as_best);
        let stays = age == 0 || best == Some(step) || (!only_as_best && (keep == 0 || due <= keep));
        if stays {
            continue;
        }
        let leaving = run.partial().join(folder_name(step));
        fs::rename(&folder, &leaving)
            .and_then(|()| fs::remove_dir_all(&leaving))
            .map_err(CheckpointError::io("remove", &folder))?;
    }
    Ok(())
}

/// The complete checkpoints in a folder, by step.
fn list(folder: &Path) -> Result<BTreeMap<u64, PathBuf>, CheckpointError> {
    let mut checkpoints = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(CheckpointError::io("list", folder))? {
        let entry = entry.map_err(CheckpointError::io("list", folder))?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        if let Some(step) = step.filter(|&step| *name == *folder_name(step) && entry.path().is_dir()) {
            checkpoints.insert(step, entry.path());
        }
    }
    Ok(checkpoints)
}

/// Six digits, more where the step needs them.
fn folder_name(step: u64) -> String {
    format!("{PREFIX}{step:06}")
}

#[cfg(test)]
mod tests;
