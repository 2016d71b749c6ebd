//! The folder of one run: `run.toml`, `metrics.jsonl`, `samples.jsonl`, `checkpoints/`, and for the engine's own use `lock` and
//! `.partial/`, where files and checkpoints grow until they are complete.
//!
//! A [`RunFolder`] holds the operating system's lock on `lock` for as long as it lives; the lock dies with the process,
//! so a killed run leaves none behind.

mod rows;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use evenkeel_data::Tokenizer;

use crate::checkpoint::error::{CheckpointError, excerpt};
use crate::checkpoint::write_file;

pub use rows::{MetricsFile, SamplesFile};

pub(crate) const RUN_FILE: &str = "run.toml";
/// Its profile's trace.
const TRACE_FILE: &str = "trace.json";
/// A row per step and per evaluation.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// A row per sample.
pub(crate) const SAMPLES_FILE: &str = "samples.jsonl";
pub(crate) const CHECKPOINTS_FOLDER: &str = "checkpoints";
const LOCK_FILE: &str = "lock";
const PARTIAL_FOLDER: &str = ".partial";

/// A run folder that this process has locked.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Locked; closing it unlocks.
    _lock: File,
}

impl RunFolder {
    /// Makes the folder of a new run. Parents are made as needed; an empty folder will do.
    ///
    /// # Errors
    /// A path that holds something already, a run of another process there, or whatever the system refuses.
    pub fn create(path: &Path) -> Result<Self, CheckpointError> {
        fs::create_dir_all(path).map_err(CheckpointError::io("create", path))?;
        require_unused(path)?;
        let lock = lock(path)?;
        // Another process may have started and ended a run in between.
        require_unused(path)?;
        let run = Self { path: path.to_owned(), _lock: lock };
        run.prepare()?;
        Ok(run)
    }

    /// Checks that [`RunFolder::create`] would take a path, and leaves everything there as it is.
    ///
    /// # Errors
    /// As there.
    pub fn check_unused(path: &Path) -> Result<(), CheckpointError> {
        if path.is_dir() {
            require_unused(path)?;
        }
        require_writable(path)
    }

    /// Opens the folder of an earlier run, and removes what that run left incomplete.
    ///
    /// # Errors
    /// A folder that is missing or has no `run.toml`, a run of another process in it, or whatever the system refuses.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        if !path.join(RUN_FILE).is_file() {
            return Err(CheckpointError::not_a_run(path));
        }
        let run = Self { path: path.to_owned(), _lock: lock(path)? };
        run.prepare()?;
        Ok(run)
    }

    /// Makes the subfolders, `.partial` empty.
    fn prepare(&self) -> Result<(), CheckpointError> {
        let partial = self.partial();
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(CheckpointError::io("remove", &partial)(error));
            }
            _ => {}
        }
        for folder in [partial, self.checkpoints()] {
            fs::create_dir_all(&folder).map_err(CheckpointError::io("create", &folder))?;
        }
        sync_folder(&self.path)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved run file.
    #[must_use]
    pub fn run_file(&self) -> PathBuf {
        self.path.join(RUN_FILE)
    }

    /// Where the complete checkpoints are.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS_FOLDER)
    }

    /// Where files and checkpoints grow; on the same file system as everything else.
    pub(crate) fn partial(&self) -> PathBuf {
        self.path.join(PARTIAL_FOLDER)
    }

    /// Writes `run.toml`, whole or not at all.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn write_run_file(&self, text: &str) -> Result<(), CheckpointError> {
        self.replace(RUN_FILE, |writer| writer.write_all(text.as_bytes()))
    }

    /// Writes the files that the run's tokenizer travels in, unless they are there.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn write_tokenizer(&self, tokenizer: Option<&Tokenizer>) -> Result<(), CheckpointError> {
        for (name, text) in tokenizer.iter().flat_map(|tokenizer| tokenizer.files()) {
            if !self.path.join(name).exists() {
                self.replace(name, |writer| writer.write_all(text.as_bytes()))?;
            }
        }
        Ok(())
    }

    /// Writes `trace.json`, what a profile saw, and gives its path.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn write_trace(&self, trace: &serde_json::Value) -> Result<PathBuf, CheckpointError> {
        self.replace(TRACE_FILE, |writer| writer.write_all(trace.to_string().as_bytes()))?;
        Ok(self.path.join(TRACE_FILE))
    }

    /// Writes the file `name` of this folder so that at any moment it is the old or the new one.
    pub(crate) fn replace(
        &self,
        name: &str,
        fill: impl FnOnce(&mut std::io::BufWriter<File>) -> std::io::Result<()>,
    ) -> Result<(), CheckpointError> {
        let (partial, complete) = (self.partial().join(name), self.path.join(name));
        write_file(&partial, fill)?;
        fs::rename(&partial, &complete).map_err(CheckpointError::io("write", &complete))?;
        sync_folder(&self.path)
    }
}

/// Checks that the folder is empty, or holds no more than a run leaves that was killed before it had a `run.toml`. A
/// run that has just begun there is told as such.
fn require_unused(path: &Path) -> Result<(), CheckpointError> {
    let list = CheckpointError::io("list", path);
    let names = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>());
    let names = names.map_err(list)?;
    let locked = names.iter().any(|name| name == LOCK_FILE);
    let empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    let leftover = |name: &OsString| {
        name == LOCK_FILE || locked && (name == PARTIAL_FOLDER || name == CHECKPOINTS_FOLDER && empty(&path.join(name)))
    };
    let Some(other) = names.iter().find(|name| !leftover(name)) else {
        return Ok(());
    };
    if locked {
        lock(path)?;
    }
    Err(CheckpointError::NotEmpty { path: path.to_owned(), holds: excerpt(&other.to_string_lossy()) })
}

/// Checks that a folder is or can be made at `path` and be written to. Only the system knows: it is asked for another
/// folder, under a name of this process's own, where `path` or the first folder above it is.
pub(crate) fn require_writable(path: &Path) -> Result<(), CheckpointError> {
    let place = std::path::absolute(path).map_err(CheckpointError::io("find", path))?;
    let is_there = |above: &&Path| fs::symlink_metadata(above).is_ok();
    let Some(nearest) = place.ancestors().find(is_there) else { return Ok(()) };
    let refused = |got| Err(CheckpointError::malformed(path, "a new or empty folder", got));
    match fs::metadata(nearest) {
        Ok(kind) if kind.is_dir() => {}
        Ok(_) if nearest == place => return refused("a file".to_owned()),
        Ok(_) => return refused(format!("one below the file {}", nearest.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => return refused("a link to nothing".to_owned()),
        Err(error) => return Err(CheckpointError::io("open", path)(error)),
    }
    let probe = nearest.join(format!(".evenkeel-{}", std::process::id()));
    fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)).map_err(CheckpointError::io("create", path))
}

/// Locks a folder for this process.
fn lock(folder: &Path) -> Result<File, CheckpointError> {
    let path = folder.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(CheckpointError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CheckpointError::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(CheckpointError::io("lock", &path)(error)),
    }
}

/// Makes the entries of a folder durable. Only Unix has folders that can be synced; elsewhere the journal has to do.
pub(crate) fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(CheckpointError::io("sync", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
