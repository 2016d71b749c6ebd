//! The alphabet of byte-level tokenizers: every byte is a printable character (Radford and others, GPT-2, 2019).

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use tokenizers::{DecoderWrapper, Tokenizer as HuggingFace};

/// The character of a byte: itself where it is printable and no space, else the next of U+0100, U+0101, ...
fn character(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !printable(byte)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// A text in the alphabet.
pub(super) fn characters(text: &str) -> String {
    static ALPHABET: LazyLock<Vec<char>> = LazyLock::new(|| (0..=u8::MAX).map(character).collect());
    text.bytes().map(|byte| ALPHABET[usize::from(byte)]).collect()
}

/// The `tokenizer.json` of plain bytes: id = byte, no merges.
pub(super) fn bytes_json() -> String {
    let vocab: Map<String, Value> = (0..=u8::MAX).map(|byte| (character(byte).to_string(), byte.into())).collect();
    let level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": level(false),
        "post_processor": null,
        "decoder": level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": [],
        },
    });
    format!("{file:#}")
}

/// The bytes of every id of a tokenizer with a byte-level decoder: none of a special token or an id without a token.
pub(super) fn token_bytes(
    tokenizer: &HuggingFace,
    vocabulary: &HashMap<String, u32>,
    vocab_size: usize,
) -> Option<Vec<Box<[u8]>>> {
    if !matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
        return None;
    }
    let alphabet: HashMap<char, u8> = (0..=u8::MAX).map(|byte| (character(byte), byte)).collect();
    let added = tokenizer.get_added_tokens_decoder();
    // An id far above the number of tokens would make a table of nothing; such a file decodes token by token.
    if vocab_size > 4 * vocabulary.len() + 65536 {
        return None;
    }
    let mut bytes = vec![Box::default(); vocab_size];
    for (token, &id) in vocabulary {
        if added.get(&id).is_some_and(|token| token.special) {
            continue;
        }
        // A token with a character outside of the alphabet is text as it stands.
        let letters: Option<Box<[u8]>> = token.chars().map(|letter| alphabet.get(&letter).copied()).collect();
        bytes[id as usize] = letters.unwrap_or_else(|| token.as_bytes().into());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn the_alphabet_is_the_crates() {
        let ours: HashSet<char> = (0..=u8::MAX).map(character).collect();
        let theirs: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        assert_eq!((ours.len(), &ours), (256, &theirs));
        // From GPT-2's vocabulary: space, newline, A, 0xad.
        assert_eq!([b' ', b'\n', b'A', 0xad].map(character), ['Ġ', 'Ċ', 'A', 'Ń']);
    }
}
