//! Special tokens: which id ends and begins a document, and what transformers is told of it.

use serde_json::{Value, json};
use tokenizers::Tokenizer as HuggingFace;

/// The token that ends a document in the tokenizers trained here.
pub(super) const EOS: &str = "<|endoftext|>";
/// Names of special tokens that end and begin a document, where no `tokenizer_config.json` says which.
const EOS_NAMES: [&str; 6] = [EOS, "</s>", "<|end_of_text|>", "<eos>", "<|eos|>", "<|im_end|>"];
const BOS_NAMES: [&str; 5] = ["<s>", "<|begin_of_text|>", "<bos>", "<|bos|>", "<|startoftext|>"];

/// The ids that end and begin a document: what `config`, a `tokenizer_config.json`, says, or else by name.
pub(super) fn find(tokenizer: &HuggingFace, config: Option<&str>) -> [Option<u32>; 2] {
    let config: Value = config.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let added = tokenizer.get_added_tokens_decoder();
    let special = |name: &&str| {
        let id = tokenizer.token_to_id(name)?;
        added.get(&id).is_some_and(|token| token.special).then_some(id)
    };
    let chosen = |key: &str, names: &[&str]| {
        let token = &config[key];
        let name = token.as_str().or_else(|| token["content"].as_str());
        name.and_then(|name| tokenizer.token_to_id(name)).or_else(|| names.iter().find_map(special))
    };
    [chosen("eos_token", &EOS_NAMES), chosen("bos_token", &BOS_NAMES)]
}

/// A `tokenizer_config.json`: with it transformers takes `tokenizer.json` as it is.
pub(super) fn config_json(eos: Option<String>, bos: Option<String>) -> String {
    let mut config = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false });
    for (key, token) in [("eos_token", eos), ("bos_token", bos)] {
        if let Some(token) = token {
            config[key] = token.into();
        }
    }
    format!("{config:#}")
}

/// Bytes of text of a token that is not byte-level; `text` is what it is decoded to on its own.
pub(super) fn byte_len(text: &str, token: Option<&str>) -> usize {
    let Some(token) = token.filter(|_| !text.is_empty() || token == Some("▁")) else { return 0 };
    // SentencePiece: ▁ is a space, which decoders strip at the start, and <0x0A> a byte.
    match token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')) {
        Some(hex) if hex.len() == 2 && u8::from_str_radix(hex, 16).is_ok() => 1,
        _ if token.contains('▁') => token.replace('▁', " ").len(),
        _ => text.len(),
    }
}
