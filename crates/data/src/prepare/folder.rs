//! The folder that data are prepared in: a lock, complete shards, how far they go, and at last the index.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DataEvent, DataWatch, Owner};
use crate::prepared::{FORMAT_VERSION, INDEX_FILE, Index, LOCK_FILE, PROGRESS_FILE, is_shard_name, read_json};
use crate::{DataError, Shards, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};

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
    owner: Owner,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, and locks it.
    pub(super) fn lock(path: &Path, owner: Owner, watch: DataWatch) -> Result<Self, DataError> {
        fs::create_dir_all(path).map_err(DataError::unwritable(path))?;
        if owner == Owner::User {
            require_data(path)?;
        }
        let lock = path.join(LOCK_FILE);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(DataError::unwritable(&lock))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { path: path.into(), owner, _lock: file }),
                Err(TryLockError::Error(reason)) => return Err(DataError::Unwritable { path: lock, reason }),
                Err(TryLockError::WouldBlock) if owner == Owner::User => {
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

    /// How far the preparation is that `new` begins. Where shards of it are missing or damaged, it begins anew.
    pub(super) fn state(&self, new: &Index, watch: DataWatch) -> Result<State, DataError> {
        match self.found(new) {
            Ok(State::Begun(position, index)) if index.shards.is_empty() => return Ok(State::Begun(position, index)),
            Ok(state) => {
                let (State::Begun(_, index) | State::Done(index)) = &state;
                if self.check(index, new).is_ok() {
                    return Ok(state);
                }
            }
            // An entry of the cache is named by what it is to hold: anything else in it is damage.
            Err(_) if self.owner == Owner::Cache => {}
            Err(fault) => return Err(fault),
        }
        let path = self.path.display();
        let notice = format!("{path}: prepared data that are missing or damaged: preparing them again");
        if watch(DataEvent::Notice(&notice)).is_break() {
            return Err(DataError::Stopped);
        }
        self.clear()?;
        Ok(State::Begun(Position::default(), new.clone()))
    }

    /// How far it is by what is written down.
    fn found(&self, new: &Index) -> Result<State, DataError> {
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

    /// Checks that every shard is there, as long as the index and its own header say.
    fn check(&self, index: &Index, new: &Index) -> Result<(), DataError> {
        if index.vocab_size != new.vocab_size {
            let reason = format!("vocab_size {} in place of {}", index.vocab_size, new.vocab_size);
            return Err(Index::fault(&self.path, reason));
        }
        let files = index.files(&self.path)?;
        let counts = files.iter().map(|file| Shards::count_in(file)).collect::<Result<Vec<_>, _>>()?;
        index.check_counts(&self.path, counts.into_iter())
    }

    /// Removes everything but the lock; the index goes first, so that no kill leaves it beside less than it says.
    fn clear(&self) -> Result<(), DataError> {
        let entries = fs::read_dir(&self.path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = entries.map_err(|reason| DataError::unreadable(&self.path, reason))?;
        entries.retain(|entry| entry.file_name() != LOCK_FILE);
        entries.sort_by_key(|entry| entry.file_name() != INDEX_FILE);
        for entry in entries {
            let path = entry.path();
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(DataError::unwritable(&path))?;
        }
        Ok(())
    }

    /// Writes the files that are not there as they are to be.
    pub(super) fn restore(&self, files: &[(&str, &str)]) -> Result<(), DataError> {
        let damaged = |name: &str, text: &str| fs::read(self.path(name)).ok().as_deref() != Some(text.as_bytes());
        files.iter().filter(|(name, text)| damaged(name, text)).try_for_each(|(name, text)| self.write(name, text))
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
    let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|reason| DataError::unreadable(path, reason))?;
    let is_any = |name: &OsStr, of: &[&str]| of.iter().any(|known| name == *known);
    // Without these, a tokenizer or a shard is somebody else's. A kill before the first shard is complete leaves the lock.
    let begun = entries.iter().any(|entry| is_any(&entry.file_name(), &[INDEX_FILE, PROGRESS_FILE, LOCK_FILE]));
    let known = |entry: &&DirEntry| {
        let name = entry.file_name();
        let part = || is_shard_name(&name) || is_any(&name, &[TOKENIZER_FILE, TOKENIZER_CONFIG_FILE]);
        let file = entry.file_type().is_ok_and(|kind| !kind.is_dir());
        file && (is_any(&name, &[INDEX_FILE, PROGRESS_FILE, LOCK_FILE, PARTIAL_FILE]) || begun && part())
    };
    match entries.iter().find(|entry| !known(entry)) {
        None => Ok(()),
        Some(other) => Err(DataError::OtherData { path: path.into(), got: format!("{:?}", other.file_name()) }),
    }
}
