//! What can go wrong with data.

use crate::input::Fault;
use std::io;
use std::path::{Path, PathBuf};

/// Faults of the data, each one line: what, expected, got, where.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// There is nothing at a path.
    #[error("{}: expected a data file, got no such file; check the path", path.display())]
    Missing {
        /// The path as it was given.
        path: PathBuf,
    },
    /// A path leads to a directory, a pipe or a device.
    #[error("{}: expected a data file, got {what}", path.display())]
    NotAFile {
        /// The path as it was given.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The operating system refuses the file.
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable {
        /// The path as it was given.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// A file without a token.
    #[error("{}: expected at least one token, got an empty file; leave it out", path.display())]
    Empty {
        /// The path as it was given.
        path: PathBuf,
    },
    /// A shard that ends inside its header.
    #[error(
        "{}: expected a token shard with a header of {expected} bytes, got {got} bytes in all; the file is cut, \
         fetch or write it again", path.display()
    )]
    ShardHeader {
        /// The shard.
        path: PathBuf,
        /// Bytes of a header.
        expected: usize,
        /// Bytes of the file.
        got: usize,
    },
    /// A field of a shard's header has another value than this format has.
    #[error(
        "{}: {field}: expected {expected}, got {got} in the header; not a token shard of llm.c in its GPT-2 format \
         or its LLaMA 3 format (a text file must not end in .bin)", path.display()
    )]
    ShardField {
        /// The shard.
        path: PathBuf,
        /// `magic` or `version`.
        field: &'static str,
        /// The value of the format.
        expected: i32,
        /// The value in the file.
        got: i32,
    },
    /// The count in a shard's header and the length of the file contradict each other.
    #[error(
        "{}: expected {tokens} tokens of {width} bytes behind the header as its count says, got {bytes} bytes; the file is \
         damaged, fetch or write it again", path.display()
    )]
    ShardCount {
        /// The shard.
        path: PathBuf,
        /// The count in the header.
        tokens: i32,
        /// Bytes of a token.
        width: usize,
        /// Bytes behind the header.
        bytes: usize,
    },
    /// A token id beyond the model's vocabulary.
    #[error(
        "{location}: token id {id} at token {position}: expected an id below vocab_size {vocab_size}; use a model \
         with a larger vocab_size or other data"
    )]
    TokenOutOfRange {
        /// The file, or whatever else the token comes from.
        location: String,
        /// Index of the token there, from 0.
        position: u64,
        /// The token id.
        id: u32,
        /// Number of ids the model has.
        vocab_size: usize,
    },
    /// A vocabulary without the ids of all letters of the embedded stories.
    #[error(
        "the embedded stories: expected vocab_size of at least {expected}, got {got}; use a model with a larger one"
    )]
    VocabularyTooSmall {
        /// Ids that the stories use, and all below them.
        expected: usize,
        /// Number of ids the model has.
        got: usize,
    },
    /// Token shards and text stand side by side.
    #[error(
        "{} and {}: expected only text or only token shards (.bin), got both; their token ids mean different things",
        text, shard.display()
    )]
    Mixed {
        /// What holds bytes of text.
        text: String,
        /// A token shard.
        shard: PathBuf,
    },
    /// A corpus that holds less than what is read at once.
    #[error("{corpus}: expected at least {expected} tokens for {purpose}, got {got}; use more data, or {remedy}")]
    TooShort {
        /// The corpus in words.
        corpus: String,
        /// What the tokens are for.
        purpose: String,
        /// Tokens that takes.
        expected: u64,
        /// Tokens of the corpus.
        got: u64,
        /// What else can be done.
        remedy: &'static str,
    },
    /// A size or an index that the caller must not pass.
    #[error("{name}: expected {expected}, got {got}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// The values it can have.
        expected: String,
        /// The value it has.
        got: u64,
    },
    /// A file that is no tokenizer.
    #[error("{}: expected a tokenizer.json as Hugging Face's tokenizers write it, got {reason}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A text that a tokenizer cannot express.
    #[error("text: expected what the tokenizer can express, got {reason}")]
    Encode {
        /// What the tokenizer says.
        reason: String,
    },
    /// A tokenizer that cannot be trained.
    #[error("tokenizer: expected text to train a BPE on, got {reason}")]
    Train {
        /// What the trainer says.
        reason: String,
    },
    /// A folder or pattern without a file of a known name.
    #[error(
        "{}: expected text (.txt, .jsonl, .parquet, each also .gz or .zst) or token shards (.bin), got no such file {what}",
        path.display()
    )]
    NoFiles {
        /// The folder or pattern.
        path: PathBuf,
        /// Which of them.
        what: &'static str,
    },
    /// A pattern that is not one.
    #[error("{}: expected a pattern with *, ? or [...], got another: {reason}", path.display())]
    Pattern {
        /// The pattern.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Tokens where text is expected.
    #[error("{}: expected text, got {what}", path.display())]
    NotText {
        /// The first such path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A table without the column.
    #[error("{}: expected a column {field:?} of texts, got {got}; --text-field names another", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        field: String,
        /// What is there.
        got: String,
    },
    /// Something that is no text, where that is not to be passed over (`--strict`).
    #[error("{fault} (--strict)")]
    Fault {
        /// File, place and what is wrong there.
        fault: String,
    },
    /// Files without any text.
    #[error("{what}: expected text, got none{fault}")]
    NoText {
        /// The files.
        what: String,
        /// The first fault, if there is one.
        fault: String,
    },
    /// An index of prepared data that cannot be used.
    #[error(
        "{}: expected an index of prepared data, got {reason}; prepare the data again, in another folder", path.display()
    )]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder with a part of the data that were to be prepared in it.
    #[error(
        "{}: expected prepared data, got a preparation that is not finished; run the same `evenkeel data prepare` again",
        path.display()
    )]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that holds something else than the data to be prepared.
    #[error("{}: expected an empty folder or one where the same data were begun, got {got}; take another one", path.display())]
    OtherData {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        got: String,
    },
    /// A folder in which another process prepares data.
    #[error("{}: in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file that cannot be written.
    #[error("{}: cannot be written: {reason}", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// A cache folder that is not to be had.
    #[error(
        "{}: expected a cache folder that can be written, got {got}; set EVENKEEL_CACHE to another folder", path.display()
    )]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What the operating system says, or what is there.
        got: String,
    },
    /// The user asked to stop.
    #[error("preparing the data: stopped; the same command goes on where it stopped")]
    Stopped,
    /// A tokenizer that does not have what is asked of it.
    #[error("tokenizer: expected {expected}, got {got}")]
    Unfit {
        /// What is asked.
        expected: String,
        /// What there is.
        got: String,
    },
    /// A word that names none of the choices.
    #[error("{name}: expected {expected}, got \"{got}\"")]
    Word {
        /// What is chosen.
        name: &'static str,
        /// The choices.
        expected: &'static str,
        /// The word.
        got: String,
    },
}

impl DataError {
    /// A path that the operating system refuses to read.
    pub(crate) fn unreadable(path: &Path, reason: io::Error) -> Self {
        match reason.kind() {
            io::ErrorKind::NotFound => Self::Missing { path: path.into() },
            _ => Self::Unreadable { path: path.into(), reason },
        }
    }

    /// Files without any text, of whose `count` faults `first` is the first.
    pub(crate) fn no_text(what: String, first: Option<&Fault>, count: u64) -> Self {
        let fault = first.map(|fault| format!("; first of {count} faults: {fault}"));
        Self::NoText { what, fault: fault.unwrap_or_default() }
    }

    /// A path that the operating system refuses to write.
    pub(crate) fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::Unwritable { path: path.into(), reason }
    }

    /// A file that is no tokenizer, for this reason.
    pub(crate) fn tokenizer(path: &Path, reason: &str) -> Self {
        Self::Tokenizer { path: path.into(), reason: reason.split_whitespace().collect::<Vec<_>>().join(" ") }
    }
}
