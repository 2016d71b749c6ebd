//! The folder that data are prepared in: a lock, complete shards, how far they go, and at last the index.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DataEvent, DataWatch, WhenInUse};
use crate::DataError;
use crate::prepared::{FORMAT_VERSION, INDEX_FILE, Index, read_json};

/// How far a preparation came, until it is done.
const PROGRESS_FILE: &str = "progress.json";
const LOCK_FILE: &str = "lock";
/// A shard or file that grows.
const PARTIAL_FILE: &str = ".partial";

/// Where a shard ends in the texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Parts before it.
    pub(super) part: usize,
    /// Pieces of its part before it.
    pub(super) pieces: u64,
}

/// How far a preparation is.
pub(super) enum State {
    Begun(Position, Index),
    Done(Index),
}

#[derive(Serialize, Deserialize)]
struct Progress {
    format_version: u32,
    position: Position,
    index: Index,
}

/// A folder that this process has locked.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, and locks it.
    pub(super) fn lock(path: &Path, when_in_use: WhenInUse, watch: DataWatch) -> Result<Self, DataError> {
        fs::create_dir_all(path).map_err(DataError::unwritable(path))?;
        require_data(path)?;
        let lock = path.join(LOCK_FILE);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(DataError::unwritable(&lock))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { path: path.into(), _lock: file }),
                Err(TryLockError::Error(reason)) => return Err(DataError::Unwritable { path: lock, reason }),
                Err(TryLockError::WouldBlock) if when_in_use == WhenInUse::Refuse => {
                    return Err(DataError::InUse { path: path.into() });
                }
                Err(TryLockError::WouldBlock) => {}
            }
            let notice = "another process prepares the same data: waiting for it";
            if watch(if told {
                DataEvent::Progress { action: "waiting", done: 0, of: 1 }
            } else {
                DataEvent::Notice(notice)
            })
            .is_break()
            {
                return Err(DataError::Stopped);
            }
            told = true;
            sleep(Duration::from_millis(100));
        }
    }

    /// How far the preparation is that `new` begins.
    pub(super) fn state(&self, new: &Index) -> Result<State, DataError> {
        let other = || DataError::OtherData { path: self.path.clone(), got: "other data or other settings".into() };
        if let Some(index) = Index::read(&self.path)? {
            return if index.source == new.source { Ok(State::Done(index)) } else { Err(other()) };
        }
        match read_json::<Progress>(&self.path.join(PROGRESS_FILE))? {
            None => Ok(State::Begun(Position::default(), new.clone())),
            Some(progress) if progress.index.source == new.source => {
                Ok(State::Begun(progress.position, progress.index))
            }
            Some(_) => Err(other()),
        }
    }

    /// Where a file grows.
    pub(super) fn partial(&self) -> PathBuf {
        self.path.join(PARTIAL_FILE)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes down how far the complete shards go.
    pub(super) fn save(&self, position: Position, index: &Index) -> Result<(), DataError> {
        let progress = Progress { format_version: FORMAT_VERSION, position, index: index.clone() };
        self.write(PROGRESS_FILE, &json(&progress))
    }

    /// Writes the index: the data are complete.
    pub(super) fn finish(&self, index: &Index, files: &[(&str, &str)]) -> Result<(), DataError> {
        for (name, text) in files {
            self.write(name, text)?;
        }
        self.write(INDEX_FILE, &json(index))?;
        // Left behind it would do no harm.
        let _ = fs::remove_file(self.path(PROGRESS_FILE));
        Ok(())
    }

    /// Writes a file so that it is there whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), DataError> {
        replace(&self.path(name), &self.partial(), text)
    }
}

/// Writes `text` to `partial` and gives it the name `path` when it is durable.
pub(crate) fn replace(path: &Path, partial: &Path, text: &str) -> Result<(), DataError> {
    let write = || {
        let mut file = File::create(partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(partial, path)
    };
    write().map_err(DataError::unwritable(path))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).map_or_else(|error| error.to_string(), |text| text + "\n")
}

/// Checks that the folder has nothing in it, or prepared data, whole or begun.
fn require_data(path: &Path) -> Result<(), DataError> {
    let names = fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let names: Vec<_> = names.map_err(|reason| DataError::unreadable(path, reason))?;
    let known = |name: &&std::ffi::OsString| {
        [INDEX_FILE, PROGRESS_FILE, LOCK_FILE, PARTIAL_FILE].iter().any(|known| *known == **name)
    };
    match names.iter().find(|name| !known(name)) {
        // A kill before the first shard is complete leaves the lock.
        Some(other) if !names.iter().any(|name| name == LOCK_FILE) => {
            Err(DataError::OtherData { path: path.into(), got: format!("{other:?}") })
        }
        _ => Ok(()),
    }
}
