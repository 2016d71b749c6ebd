//! Text to token shards: one thread reads, all cores tokenize, and shards are written one after the other.
//!
//! Documents stand in order, each behind `bos` if that is asked for and in front of `eos`, without padding. A shard ends
//! with the piece of text that fills it. It is complete or not there, and when one is complete the place where it ends is
//! written down: a preparation that was killed goes on there, and ends in the same bytes.

mod folder;
mod pipeline;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::fingerprint::Fingerprint;
use crate::prepared::{FORMAT_VERSION, Index};
use crate::source::Source;
use crate::{DataError, Tokenizer, cache};
use folder::{Folder, State};

/// Tokens that fill a shard: 32 MiB of ids of 2 bytes.
pub const SHARD_TOKENS: u64 = 1 << 24;
/// Most tokens of a shard that the header's count holds, with room for the piece that fills it.
const MOST_SHARD_TOKENS: u64 = 1 << 30;

/// What happens while data are read and prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataEvent<'a> {
    /// Something to know, in one line.
    Notice(&'a str),
    /// How far an action has come, in bytes of the files; `of` is never 0.
    Progress {
        /// The action, such as "tokenizing".
        action: &'a str,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        of: u64,
    },
}

/// Hears what happens, and says whether to go on.
pub type DataWatch<'a> = &'a mut dyn FnMut(DataEvent<'_>) -> ControlFlow<()>;

/// How texts become tokens.
#[derive(Debug, Clone)]
pub struct PrepareOptions {
    /// By this tokenizer.
    pub tokenizer: Tokenizer,
    /// Whether its first token of a document stands in front of every document.
    pub bos: bool,
    /// Whether something that is no text is an error.
    pub strict: bool,
    /// Tokens that fill a shard, [`SHARD_TOKENS`] usually.
    pub shard_tokens: u64,
}

/// Whose the folder is that data are prepared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The user's: what else is in it is left alone, and another process there is an error.
    User,
    /// The cache's: what does not belong there goes, and another process prepares the same data.
    Cache,
}

/// Prepares texts in a folder, which is new, empty, or one where the same was begun or done before. What is missing or
/// damaged of that is made again.
///
/// # Errors
/// Texts that cannot be read, a folder that holds something else or cannot be written, [`DataError::Stopped`].
pub fn prepare(source: &Source, options: &PrepareOptions, folder: &Path, watch: DataWatch) -> Result<Index, DataError> {
    prepare_in(source, options, begin(source, options)?, folder, Owner::User, watch)
}

/// Prepares texts in the cache, or finds them there, and gives the folder.
pub(crate) fn prepare_cached(
    source: &Source,
    options: &PrepareOptions,
    watch: DataWatch,
) -> Result<(PathBuf, Index), DataError> {
    let index = begin(source, options)?;
    let path = cache::folder()?.join("prepared").join(&index.source);
    let index = prepare_in(source, options, index, &path, Owner::Cache, watch)?;
    Ok((path, index))
}

fn prepare_in(
    source: &Source,
    options: &PrepareOptions,
    index: Index,
    path: &Path,
    owner: Owner,
    watch: DataWatch,
) -> Result<Index, DataError> {
    let folder = Folder::lock(path, owner, watch)?;
    let index = match folder.state(&index, watch)? {
        State::Done(index) => {
            folder.restore(&options.tokenizer.files())?;
            index
        }
        State::Begun(position, index) => pipeline::run(source, options, &folder, (position, index), watch)?,
    };
    // What an earlier preparation passed over is an error now.
    match index.faults.first.first() {
        Some(fault) if options.strict => Err(fault.clone().strict()),
        _ => Ok(index),
    }
}

/// The index before the first document.
fn begin(source: &Source, options: &PrepareOptions) -> Result<Index, DataError> {
    let PrepareOptions { tokenizer, bos, shard_tokens, .. } = options;
    let bos = match (bos, tokenizer.bos()) {
        (false, _) => None,
        (true, Some(bos)) => Some(bos),
        (true, None) => {
            let expected = "a token that begins a document (bos)".into();
            return Err(DataError::Unfit { expected, got: "a tokenizer without one".into() });
        }
    };
    let shard_tokens = (*shard_tokens).clamp(1, MOST_SHARD_TOKENS);
    Ok(Index {
        format_version: FORMAT_VERSION,
        source: fingerprint(source, tokenizer, bos, shard_tokens)?,
        vocab_size: tokenizer.vocab_size(),
        eos: tokenizer.eos(),
        bos,
        documents: 0,
        bytes: 0,
        tokens: 0,
        shards: Vec::new(),
        faults: Default::default(),
    })
}

/// By what prepared data are known.
fn fingerprint(
    source: &Source,
    tokenizer: &Tokenizer,
    bos: Option<u32>,
    shard_tokens: u64,
) -> Result<String, DataError> {
    let mut hash = Fingerprint::new("prepared data, version 2");
    hash.bytes(source.fingerprint()?.hex().as_bytes());
    tokenizer.files().iter().for_each(|(_, text)| hash.bytes(text.as_bytes()));
    hash.number(bos.map_or(u64::MAX, u64::from));
    hash.number(shard_tokens);
    Ok(hash.hex())
}

#[cfg(test)]
mod tests;
