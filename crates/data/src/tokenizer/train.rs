//! Training of byte-level BPE.

use std::collections::HashSet;
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as HuggingFace, Trainer};

use super::{TOKENIZER_FILE, Tokenizer, byte_level, special, words};
use crate::DataError;

/// Entries of the smallest byte-level BPE: 256 bytes and the token that ends a document.
pub const SMALLEST_BPE: usize = 257;
/// A pair that occurs once is no pattern.
const MIN_FREQUENCY: u64 = 2;

/// Trains a byte-level BPE as GPT-2 has it, of at most `vocab_size` entries, fewer where the texts have few patterns:
/// `<|endoftext|>` is id 0, and the bytes follow. The same texts give the same tokenizer, in whatever order they come.
///
/// # Errors
/// A `vocab_size` below [`SMALLEST_BPE`].
pub fn train_bpe(texts: impl Iterator<Item = String> + Send, vocab_size: usize) -> Result<Tokenizer, DataError> {
    if vocab_size < SMALLEST_BPE {
        let expected = format!("at least {SMALLEST_BPE} (256 bytes and {}) for a BPE", special::EOS);
        return Err(DataError::Argument { name: "vocab", expected, got: vocab_size as u64 });
    }
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
    let pieces = |text: &str| {
        Ok(text.split(special::EOS).flat_map(words::pieces).map(byte_level::characters).collect::<Vec<String>>())
    };
    trainer.feed(texts, pieces).map_err(fault)?;
    let mut model = BPE::default();
    let special_tokens = trainer.train(&mut model).map_err(fault)?;
    let mut tokenizer = HuggingFace::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens(special_tokens).map_err(fault)?;
    let json = tokenizer.to_string(true).map_err(fault)?;
    Tokenizer::parse(Path::new(TOKENIZER_FILE), json, None)
}
