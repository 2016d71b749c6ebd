//! Training of byte-level BPE.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as HuggingFace, Trainer};

use super::{TOKENIZER_FILE, Tokenizer, byte_level, special, words};
use crate::fingerprint::Fingerprint;
use crate::prepare::{DataEvent, DataWatch};
use crate::source::Source;
use crate::{DataError, cache};

/// Entries of the smallest byte-level BPE: 256 bytes and the token that ends a document.
pub const SMALLEST_BPE: usize = 257;
/// Entries of the largest BPE: many times those of any that is published, and its tables still fit into memory.
const LARGEST_BPE: usize = 1 << 24;
/// A pair that occurs once is no pattern.
const MIN_FREQUENCY: u64 = 2;
/// Text that shows the words of any corpus.
const SAMPLE_BYTES: usize = 64 << 20;

/// Trains a BPE on at most 64 MiB of texts, spread evenly over their parts.
///
/// # Errors
/// As [`train_bpe`]; texts that cannot be read, and none at all; [`DataError::Stopped`].
pub fn bpe_of(source: &Source, vocab_size: usize, watch: DataWatch) -> Result<Tokenizer, DataError> {
    require_size(vocab_size)?;
    let of = SAMPLE_BYTES as u64;
    let action = "reading text for the tokenizer";
    let texts = source.sample(SAMPLE_BYTES, |done| watch(DataEvent::Progress { action, done, of }).is_continue())?;
    train_bpe(texts.into_iter(), vocab_size)
}

/// [`bpe_of`], or what it made of the same texts before.
///
/// # Errors
/// As there; a cache that cannot be written.
pub fn cached_bpe(source: &Source, vocab_size: usize, watch: DataWatch) -> Result<Tokenizer, DataError> {
    require_size(vocab_size)?;
    let mut key = Fingerprint::new("byte-level BPE, version 1");
    key.bytes(source.fingerprint()?.hex().as_bytes());
    key.number(vocab_size as u64);
    let folder = cache::folder()?.join("tokenizers");
    let path = folder.join(format!("{}.json", key.hex()));
    // What cannot be read is made again.
    if let Ok(known) = Tokenizer::load(&path) {
        return Ok(known);
    }
    let notice = format!("training a tokenizer of {vocab_size} entries on {}", source.describe());
    if watch(DataEvent::Notice(&notice)).is_break() {
        return Err(DataError::Stopped);
    }
    let tokenizer = bpe_of(source, vocab_size, watch)?;
    let write = || {
        fs::create_dir_all(&folder)?;
        // A name of its own: another process may write the same.
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        file.write_all(tokenizer.files()[0].1.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error).map(drop)
    };
    write().map_err(DataError::unwritable(&path))?;
    Ok(tokenizer)
}

/// Trains a byte-level BPE as GPT-2 has it, of at most `vocab_size` entries, fewer where the texts have few patterns:
/// `<|endoftext|>` is id 0, and the bytes follow. The same texts give the same tokenizer, in whatever order they come.
///
/// # Errors
/// A `vocab_size` below [`SMALLEST_BPE`] or beyond 2^24.
pub fn train_bpe(texts: impl Iterator<Item = String> + Send, vocab_size: usize) -> Result<Tokenizer, DataError> {
    require_size(vocab_size)?;
    let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size)
        .min_frequency(MIN_FREQUENCY)
        .initial_alphabet(alphabet)
        .special_tokens(vec![AddedToken::from(special::EOS, true)])
        .build();
    let fault = |error: tokenizers::Error| DataError::Train { reason: error.to_string() };
    // A separator that stands in a text as such is one token and gives no merges.
    let bytes = AtomicUsize::new(0);
    let pieces = |text: &str| {
        bytes.fetch_add(text.len(), Ordering::Relaxed);
        Ok(text.split(special::EOS).flat_map(words::pieces).map(byte_level::characters).collect::<Vec<String>>())
    };
    trainer.feed(texts, pieces).map_err(fault)?;
    // The trainer makes room for all entries at once; there are fewer merges than bytes.
    trainer.vocab_size = vocab_size.min(SMALLEST_BPE + bytes.into_inner());
    let mut model = BPE::default();
    let special_tokens = trainer.train(&mut model).map_err(fault)?;
    let mut tokenizer = HuggingFace::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens(special_tokens).map_err(fault)?;
    let json = tokenizer.to_string(true).map_err(fault)?;
    Tokenizer::parse(Path::new(TOKENIZER_FILE), json, None)
}

fn require_size(vocab_size: usize) -> Result<(), DataError> {
    let expected = match vocab_size {
        ..SMALLEST_BPE => format!("at least {SMALLEST_BPE} (256 bytes and {}) for a BPE", special::EOS),
        SMALLEST_BPE..=LARGEST_BPE => return Ok(()),
        _ => format!("at most {LARGEST_BPE} for a BPE"),
    };
    Err(DataError::Argument { name: "vocab", expected, got: vocab_size as u64 })
}
