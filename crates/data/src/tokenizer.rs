//! Text to token ids and back.
//!
//! A [`Tokenizer`] is any `tokenizer.json` of Hugging Face's tokenizers, or plain bytes, which have such a file too.
//! The text of the file is kept and travels as it is. This module is the only one that names the tokenizers crate.

mod byte_level;
mod decoder;
mod special;
mod train;
mod words;

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use tokenizers::Tokenizer as HuggingFace;

use crate::DataError;
use crate::guarded::guarded;
pub use decoder::Decoder;
pub use train::{SMALLEST_BPE, bpe_of, cached_bpe, train_bpe};
use words::{Known, Words};

/// The file that a tokenizer travels in.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The file beside it that names its class and special tokens, for transformers.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";

/// Larger files are refused before they are read: the largest published ones have 33 MB.
const MAX_FILE: u64 = 256 << 20;
/// Words, numbers, signs and lines, of one to four bytes a character.
const TRIAL: &str = "Once, in 1984 —\n\tan été's 是 🦀  (end).\n";

/// How text and token ids belong together. A copy is cheap; two are equal if their `tokenizer.json` are.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    kind: Kind,
    json: String,
    config: String,
    vocab_size: usize,
    eos: Option<u32>,
    bos: Option<u32>,
}

enum Kind {
    /// The bytes of the text are the ids.
    Bytes,
    /// Any other. Where its decoder is byte-level, `bytes` has the bytes of every id.
    HuggingFace { tokenizer: Box<HuggingFace>, bytes: Option<Vec<Box<[u8]>>>, words: Option<Words> },
}

impl Tokenizer {
    /// Bytes as tokens: id = byte, text of any language, 256 ids. Byte 0, which no text has, ends a document.
    #[must_use]
    pub fn bytes() -> Self {
        let json = byte_level::bytes_json();
        let config = special::config_json(None, None);
        Self(Arc::new(Inner { kind: Kind::Bytes, json, config, vocab_size: 256, eos: Some(0), bos: None }))
    }

    /// Reads a `tokenizer.json`, or that of a folder such as a checkpoint's.
    ///
    /// # Errors
    /// A file that is missing, cannot be read, or is not a tokenizer.
    pub fn load(path: &Path) -> Result<Self, DataError> {
        let file = if path.is_dir() { &path.join(TOKENIZER_FILE) } else { path };
        let json = read(file)?.ok_or_else(|| DataError::tokenizer(file, "no such file"))?;
        let config = read(&file.with_file_name(TOKENIZER_CONFIG_FILE))?;
        Self::parse(file, json, config)
    }

    /// The tokenizer of a model's folder, if it has one.
    ///
    /// # Errors
    /// As [`Tokenizer::load`], but for a file that is missing.
    pub fn of_folder(folder: &Path) -> Result<Option<Self>, DataError> {
        let file = folder.join(TOKENIZER_FILE);
        if file.exists() { Self::load(&file).map(Some) } else { Ok(None) }
    }

    /// The tokenizer of a `tokenizer.json`'s and, where there is one, a `tokenizer_config.json`'s text; `path` is for messages.
    fn parse(path: &Path, json: String, config: Option<String>) -> Result<Self, DataError> {
        let tokenizer = guarded(|| {
            let tokenizer = Self::parse_only(path, json, config)?;
            tokenizer.try_out();
            Ok(tokenizer)
        });
        tokenizer.unwrap_or_else(|| Err(DataError::tokenizer(path, "parts that contradict one another")))
    }

    fn parse_only(path: &Path, json: String, config: Option<String>) -> Result<Self, DataError> {
        if json == byte_level::bytes_json() {
            return Ok(Self::bytes());
        }
        let malformed = |error: tokenizers::Error| DataError::tokenizer(path, &error.to_string());
        let mut tokenizer = HuggingFace::from_bytes(&json).map_err(malformed)?;
        // A document is tokenized whole, whatever a model of sentences was once fed.
        tokenizer.with_truncation(None).map_err(malformed)?;
        tokenizer.with_padding(None);
        let vocabulary = tokenizer.get_vocab(true);
        let Some(largest) = vocabulary.values().max() else {
            return Err(DataError::tokenizer(path, "a tokenizer without tokens"));
        };
        let vocab_size = *largest as usize + 1;
        let bytes = byte_level::token_bytes(&tokenizer, &vocabulary, vocab_size);
        let [eos, bos] = special::find(&tokenizer, config.as_deref());
        let config = config.unwrap_or_else(|| {
            let name = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
            special::config_json(name(eos), name(bos))
        });
        let words = Words::of(&tokenizer);
        let kind = Kind::HuggingFace { tokenizer: Box::new(tokenizer), bytes, words };
        Ok(Self(Arc::new(Inner { kind, json, config, vocab_size, eos, bos })))
    }

    /// Encodes a text and decodes it: where parts of the file contradict one another, the tokenizers crate panics here
    /// and not in the middle of a run.
    fn try_out(&self) {
        let Kind::HuggingFace { tokenizer, .. } = &self.0.kind else { return };
        for special in [false, true] {
            // A text that it cannot express is an error when it comes.
            if let Ok(encoding) = tokenizer.encode_fast(TRIAL, special) {
                let _ = tokenizer.decode(encoding.get_ids(), true);
            }
        }
    }

    /// The ids of a text, without any token that the text does not have. Special tokens that stand in it are
    /// recognised, as Hugging Face's tokenizers do.
    ///
    /// # Errors
    /// Text that the tokenizer cannot express: one without an unknown token, say.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        self.encoder().encode(text)
    }

    /// An encoder of many texts, one for each thread.
    pub(crate) fn encoder(&self) -> Encoder<'_> {
        Encoder { tokenizer: self, known: Known::new() }
    }

    fn encode_with(&self, known: &mut Known, text: &str) -> Result<Vec<u32>, DataError> {
        match &self.0.kind {
            Kind::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Kind::HuggingFace { tokenizer, words, .. } => {
                let whole = || Ok(tokenizer.encode_fast(text, false)?.get_ids().to_vec());
                let mut by_words = || words.as_ref().and_then(|words| words.encode(tokenizer, known, text));
                outcome(guarded(|| by_words().unwrap_or_else(whole)))
            }
        }
    }

    /// The ids of a text that a model is to continue. What the tokenizer puts before a text, such as BOS, stands there;
    /// what it puts behind one does not.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let ids = self.encode(text)?;
        let Kind::HuggingFace { tokenizer, .. } = &self.0.kind else { return Ok(ids) };
        let whole = outcome(guarded(|| tokenizer.encode_fast(text, true)))?;
        let added = whole.get_special_tokens_mask().iter().take_while(|&&special| special == 1).count();
        let added = added.min(whole.len().saturating_sub(ids.len())); // the text may begin with special tokens of its own
        Ok([&whole.get_ids()[..added], &ids].concat())
    }

    /// The text of ids, without special tokens and without ids that the tokenizer does not have. Bytes that are not
    /// UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        if let Some(bytes) = ids.iter().map(|id| self.bytes_of(*id)).collect::<Option<Vec<_>>>() {
            return String::from_utf8_lossy(&bytes.concat()).into_owned();
        }
        self.decode_whole(ids)
    }

    /// A decoder of ids that come one by one.
    #[must_use]
    pub fn decoder(&self) -> Decoder {
        Decoder::new(self.clone())
    }

    /// Ids of the vocabulary: the largest id and one.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.0.vocab_size
    }

    /// The id that ends a document, if there is one.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.0.eos
    }

    /// The id that begins a document, if there is one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.0.bos
    }

    /// The id to begin a text with that has no beginning: `bos`, or what ends the document before it, or a line break.
    #[must_use]
    pub fn start(&self) -> u32 {
        let line_break = || self.encode("\n").ok().and_then(|ids| ids.first().copied()).unwrap_or(0);
        self.bos().or_else(|| self.eos().filter(|_| !self.is_bytes())).unwrap_or_else(line_break)
    }

    /// Whether the ids are bytes.
    #[must_use]
    pub fn is_bytes(&self) -> bool {
        matches!(self.0.kind, Kind::Bytes)
    }

    /// Bytes of text that an id stands for; special tokens have none.
    #[must_use]
    pub fn byte_len(&self, id: u32) -> usize {
        match self.bytes_of(id) {
            Some(bytes) => bytes.len(),
            None => special::byte_len(&self.decode_whole(&[id]), self.token(id).as_deref()),
        }
    }

    /// The names and texts of the files that the tokenizer travels in.
    #[must_use]
    pub fn files(&self) -> [(&'static str, &str); 2] {
        [(TOKENIZER_FILE, &self.0.json), (TOKENIZER_CONFIG_FILE, &self.0.config)]
    }

    /// The bytes of an id, for bytes and byte-level tokenizers; an unknown id has none, nor has a special token.
    fn bytes_of(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        match &self.0.kind {
            Kind::Bytes => Some(Cow::Owned(u8::try_from(id).into_iter().collect())),
            Kind::HuggingFace { bytes, .. } => {
                bytes.as_ref().map(|bytes| bytes.get(id as usize).map_or(&[][..], |bytes| bytes).into())
            }
        }
    }

    /// The text of ids by the tokenizer's own decoder.
    fn decode_whole(&self, ids: &[u32]) -> String {
        match &self.0.kind {
            Kind::Bytes => String::new(),
            // Decoders fail on nothing that a vocabulary can hold; what they refuse has no text.
            Kind::HuggingFace { tokenizer, .. } => {
                guarded(|| tokenizer.decode(ids, true).unwrap_or_default()).unwrap_or_default()
            }
        }
    }

    fn token(&self, id: u32) -> Option<String> {
        match &self.0.kind {
            Kind::Bytes => None,
            Kind::HuggingFace { tokenizer, .. } => tokenizer.id_to_token(id),
        }
    }
}

/// Encodes texts one after the other, and remembers their words.
pub(crate) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    known: Known,
}

impl Encoder<'_> {
    /// As [`Tokenizer::encode`].
    pub(crate) fn encode(&mut self, text: &str) -> Result<Vec<u32>, DataError> {
        self.tokenizer.encode_with(&mut self.known, text)
    }
}

impl PartialEq for Tokenizer {
    fn eq(&self, other: &Self) -> bool {
        self.0.json == other.0.json
    }
}

impl Eq for Tokenizer {}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_bytes() { "bytes" } else { TOKENIZER_FILE };
        write!(f, "Tokenizer({kind}, {} ids)", self.vocab_size())
    }
}

/// What encoding gave; none where it panicked.
fn outcome<T>(encoded: Option<tokenizers::Result<T>>) -> Result<T, DataError> {
    let reason = match encoded {
        Some(Ok(encoded)) => return Ok(encoded),
        Some(Err(error)) => error.to_string(),
        None => "a text on which it fails; use another tokenizer.json".into(),
    };
    Err(DataError::Encode { reason })
}

/// The text of a file, none where there is no such file.
fn read(path: &Path) -> Result<Option<String>, DataError> {
    let fault = |reason: &dyn fmt::Display| DataError::tokenizer(path, &reason.to_string());
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(&error)),
        Ok(metadata) if !metadata.is_file() => return Err(fault(&"no regular file")),
        Ok(metadata) if metadata.len() > MAX_FILE => return Err(fault(&format!("{} bytes", metadata.len()))),
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(|error| fault(&error))
}

#[cfg(test)]
mod tests;
