//! The pieces into which GPT-2's pattern cuts a text, and their ids from a table.
//!
//! A byte-level BPE encodes every piece on its own, so a piece that was met before need not be encoded again. Where a
//! tokenizer cuts by GPT-2's pattern (those trained here do), looking pieces up takes a fraction of the time that the
//! tokenizers crate takes; the ids are the same, which its tests check against the crate.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use regex::Regex;
use tokenizers::{ModelWrapper, PreTokenizerWrapper, Tokenizer as HuggingFace};

/// GPT-2's pattern but for `\s+(?!\S)`: regex has no look-ahead, [`pieces`] gives the last space back instead.
const PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
static PIECE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(PATTERN).ok());

/// Pieces that the table holds at most, a few megabytes; later ones are encoded each time.
const MOST_PIECES: usize = 1 << 16;
/// Longer pieces are no words and rarely come again.
const LONGEST_PIECE: usize = 64;

/// The pieces of a text: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let found = PIECE.as_ref()?.find_at(text, start)?;
        let mut end = found.end();
        // Spaces in front of something else leave it the last one, unless that is all there is.
        let last = found.as_str().chars().next_back()?;
        if last.is_whitespace() && end < text.len() && found.len() > last.len_utf8() {
            end -= last.len_utf8();
        }
        start = end;
        Some(&text[found.start()..end])
    })
}

/// Pieces that a thread has met: looked up without a lock.
pub(super) type Known = HashMap<Box<str>, Arc<[u32]>>;

/// Ids of pieces that were met.
#[derive(Debug, Default)]
pub(super) struct Words {
    met: RwLock<HashMap<Box<str>, Arc<[u32]>>>,
    /// Tokens that are cut out of a text before anything else.
    added: Vec<String>,
}

impl Words {
    /// A table for a tokenizer, if it is a BPE that cuts by GPT-2's pattern and by nothing else.
    pub(super) fn of(tokenizer: &HuggingFace) -> Option<Self> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
        let Some(PreTokenizerWrapper::ByteLevel(cut)) = tokenizer.get_pre_tokenizer() else { return None };
        let plain = tokenizer.get_normalizer().is_none() && !cut.add_prefix_space && cut.use_regex;
        let added: Vec<_> = tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        (plain && model.dropout.is_none() && added.len() <= 4).then(|| Self { met: RwLock::default(), added })
    }

    /// The ids of a text, none where an added token stands in it. `known` are pieces that the calling thread has met.
    pub(super) fn encode(
        &self,
        tokenizer: &HuggingFace,
        known: &mut Known,
        text: &str,
    ) -> Option<tokenizers::Result<Vec<u32>>> {
        if self.added.iter().any(|token| text.contains(token)) {
            return None;
        }
        Some(self.encode_pieces(tokenizer, known, text))
    }

    fn encode_pieces(&self, tokenizer: &HuggingFace, known: &mut Known, text: &str) -> tokenizers::Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        for piece in pieces(text) {
            if let Some(of_piece) = known.get(piece) {
                ids.extend_from_slice(of_piece);
                continue;
            }
            // A thread that panicked left whole entries.
            let shared = self.met.read().unwrap_or_else(PoisonError::into_inner).get(piece).cloned();
            let of_piece = match shared {
                Some(of_piece) => of_piece,
                None => self.meet(tokenizer, piece)?,
            };
            ids.extend_from_slice(&of_piece);
            if piece.len() <= LONGEST_PIECE && known.len() < MOST_PIECES {
                known.insert(piece.into(), of_piece);
            }
        }
        Ok(ids)
    }

    fn meet(&self, tokenizer: &HuggingFace, piece: &str) -> tokenizers::Result<Arc<[u32]>> {
        let ids: Arc<[u32]> = tokenizer.encode_fast(piece, false)?.get_ids().into();
        let mut met = self.met.write().unwrap_or_else(PoisonError::into_inner);
        if piece.len() <= LONGEST_PIECE && met.len() < MOST_PIECES {
            met.insert(piece.into(), Arc::clone(&ids));
        }
        Ok(ids)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    /// Pieces by the crate's own pattern.
    fn theirs(text: &str) -> Vec<String> {
        let mut cut = PreTokenizedString::from(text);
        ByteLevel::new(false, true, true).pre_tokenize(&mut cut).unwrap();
        let splits = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (start, end), _)| text[start..end].to_owned()).collect()
    }

    #[test]
    fn spaces_go_where_the_pattern_puts_them() {
        for (text, expected) in [
            ("a  b", &["a", " ", " b"][..]),
            ("a \n b", &["a", " \n", " b"]),
            ("a\n\nb", &["a", "\n", "\n", "b"]),
            ("a  ", &["a", "  "]),
            ("\u{3000}\u{3000}x", &["\u{3000}", "\u{3000}", "x"]),
            ("", &[]),
        ] {
            assert_eq!(pieces(text).collect::<Vec<_>>(), expected);
            assert_eq!(theirs(text), expected);
        }
    }

    proptest! {
        #[test]
        fn pieces_are_the_crates(text: String, words in "(?s)[a-z'\"0-9 \n\t\u{a0}\u{3000}.é是Ⅷ²\u{301}🦀]{0,40}") {
            for text in [&text, &words] {
                prop_assert_eq!(pieces(text).collect::<Vec<_>>(), theirs(text));
            }
        }
    }
}
