//! A folder of prepared data: token shards, the tokenizer they were made with, and an index.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::input::Faults;
use crate::{DataError, Shards, TOKENIZER_FILE, Tokenizer};

/// The index of a folder of prepared data; it is written last.
pub const INDEX_FILE: &str = "index.json";
/// How far a preparation came, until it is done.
pub(crate) const PROGRESS_FILE: &str = "progress.json";
/// Locked while a process prepares data in the folder.
pub(crate) const LOCK_FILE: &str = "lock";
/// The version of the folder's format.
pub(crate) const FORMAT_VERSION: u32 = 1;
const MAX_INDEX: u64 = 64 << 20;

/// What is in a folder of prepared data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Version of the format, 1.
    pub format_version: u32,
    /// A hash of the texts and of how they were prepared.
    pub source: String,
    /// Ids of the tokenizer.
    pub vocab_size: usize,
    /// The id behind every document.
    pub eos: Option<u32>,
    /// The id in front of every document.
    pub bos: Option<u32>,
    /// Documents in all.
    pub documents: u64,
    /// Bytes of text in all.
    pub bytes: u64,
    /// Tokens in all.
    pub tokens: u64,
    /// The shards in order.
    pub shards: Vec<ShardEntry>,
    /// What was found that is no text.
    pub faults: Faults,
}

/// A shard of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Name in the folder.
    pub file: String,
    /// Tokens in it.
    pub tokens: u64,
}

impl Index {
    /// The index of a folder, none where there is none.
    ///
    /// # Errors
    /// An index that cannot be read, or has another format.
    pub fn read(folder: &Path) -> Result<Option<Self>, DataError> {
        read_json(&folder.join(INDEX_FILE))
    }

    /// The paths of the shards, in order.
    ///
    /// # Errors
    /// No shards, or a name that leads out of the folder.
    pub(crate) fn files(&self, folder: &Path) -> Result<Vec<PathBuf>, DataError> {
        let file = |entry: &ShardEntry| {
            let plain = Path::new(&entry.file).file_name() == Some(entry.file.as_ref());
            let fault = || Self::fault(folder, format!("a shard called {:?}", entry.file));
            if plain { Ok(folder.join(&entry.file)) } else { Err(fault()) }
        };
        if self.shards.is_empty() {
            return Err(Self::fault(folder, "an index without shards".into()));
        }
        self.shards.iter().map(file).collect()
    }

    /// Checks the tokens that the shards have against those they are to have.
    pub(crate) fn check_counts(&self, folder: &Path, counts: impl Iterator<Item = u64>) -> Result<(), DataError> {
        match self.shards.iter().zip(counts).find(|(entry, got)| entry.tokens != *got) {
            None => Ok(()),
            Some((ShardEntry { file, tokens }, got)) => {
                Err(Self::fault(folder, format!("{tokens} tokens for {file}, which has {got}")))
            }
        }
    }

    /// Something wrong with the index of a folder.
    pub(crate) fn fault(folder: &Path, reason: String) -> DataError {
        DataError::Index { path: folder.join(INDEX_FILE), reason }
    }
}

/// The name of shard `number` of a folder.
pub(crate) fn shard_name(number: usize) -> String {
    format!("tokens-{number:06}.bin")
}

/// Whether a name in a folder is that of a shard that was prepared.
pub(crate) fn is_shard_name(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix("tokens-")?.strip_suffix(".bin"));
    number.is_some_and(|number| number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a preparation was begun in a folder and is not done, or its index is gone: its shards are not all there is.
pub(crate) fn is_unfinished(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    let shards = || {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| is_shard_name(&entry.file_name()))
    };
    // A text's own progress.json or lock says nothing.
    let begun = has(LOCK_FILE) && has(PROGRESS_FILE);
    let traces = || [LOCK_FILE, PROGRESS_FILE, TOKENIZER_FILE].iter().any(|name| has(name));
    !has(INDEX_FILE) && (begun || traces() && shards())
}

/// An index or the like, none where there is no such file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, DataError> {
    let fault = |reason: String| DataError::Index { path: path.into(), reason };
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error.to_string())),
        Ok(metadata) if metadata.len() > MAX_INDEX => return Err(fault(format!("{} bytes", metadata.len()))),
        Ok(_) => {}
    }
    let text = fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
    let version = &json["format_version"];
    if *version != FORMAT_VERSION {
        return Err(fault(format!("format_version {version}")));
    }
    serde_json::from_value(json).map(Some).map_err(|error| fault(error.to_string()))
}

/// Prepared data, opened.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) index: Index,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) shards: Shards,
}

impl Prepared {
    /// Opens a folder, for a model with `vocab_size` ids.
    ///
    /// # Errors
    /// A folder without an index, and files that are missing, damaged or contradict it.
    pub(crate) fn open(folder: &Path, vocab_size: usize) -> Result<Self, DataError> {
        let fault = |reason: String| Index::fault(folder, reason);
        let index = Index::read(folder)?.ok_or_else(|| fault("no such file".into()))?;
        let tokenizer = Tokenizer::load(folder)?;
        if tokenizer.vocab_size() != index.vocab_size {
            return Err(fault(format!(
                "vocab_size {} beside a tokenizer.json of {} ids",
                index.vocab_size,
                tokenizer.vocab_size()
            )));
        }
        let shards = Shards::open(&index.files(folder)?, vocab_size)?;
        index.check_counts(folder, shards.lens())?;
        Ok(Self { index, tokenizer, shards })
    }
}
