//! A folder of prepared data: token shards, the tokenizer they were made with, and an index.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::input::Faults;
use crate::{DataError, Shards, Tokenizer};

/// The index of a folder of prepared data; it is written last.
pub const INDEX_FILE: &str = "index.json";
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
        let path = folder.join(INDEX_FILE);
        let fault = |reason: String| DataError::Index { path: path.clone(), reason };
        let index = Index::read(folder)?.ok_or_else(|| fault("no such file".into()))?;
        let tokenizer = Tokenizer::load(folder)?;
        if tokenizer.vocab_size() != index.vocab_size {
            return Err(fault(format!(
                "vocab_size {} beside a tokenizer.json of {} ids",
                index.vocab_size,
                tokenizer.vocab_size()
            )));
        }
        let file = |entry: &ShardEntry| -> Result<PathBuf, DataError> {
            let plain = Path::new(&entry.file).file_name() == Some(entry.file.as_ref());
            if plain { Ok(folder.join(&entry.file)) } else { Err(fault(format!("a shard called {:?}", entry.file))) }
        };
        let files = index.shards.iter().map(file).collect::<Result<Vec<_>, _>>()?;
        if files.is_empty() {
            return Err(fault("an index without shards".into()));
        }
        let shards = Shards::open(&files, vocab_size)?;
        for (entry, got) in index.shards.iter().zip(shards.lens()) {
            if entry.tokens != got {
                return Err(fault(format!("{} tokens for {}, which has {got}", entry.tokens, entry.file)));
            }
        }
        Ok(Self { index, tokenizer, shards })
    }
}
