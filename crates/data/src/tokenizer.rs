//! What the token ids of a corpus stand for.

use crate::DataError;
use std::fmt;
use std::str::FromStr;

/// How token ids and text belong together; written as `bytes` or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokenizer {
    /// The bytes of UTF-8 text are the token ids; ids from 256 on stand for nothing.
    Bytes,
    /// The ids come from a tokenizer that is not known here.
    None,
}

impl fmt::Display for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::None => "none",
        })
    }
}

impl FromStr for Tokenizer {
    type Err = DataError;

    fn from_str(word: &str) -> Result<Self, DataError> {
        match word {
            "bytes" => Ok(Self::Bytes),
            "none" => Ok(Self::None),
            _ => Err(DataError::Word { name: "tokenizer", expected: "bytes or none", got: word.into() }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_and_tokenizers_agree() {
        for (word, tokenizer) in [("bytes", Tokenizer::Bytes), ("none", Tokenizer::None)] {
            assert_eq!(tokenizer.to_string(), word);
            assert_eq!(word.parse::<Tokenizer>().unwrap(), tokenizer);
        }
        let fault = "bpe".parse::<Tokenizer>().unwrap_err().to_string();
        assert_eq!(fault, "tokenizer: expected bytes or none, got \"bpe\"");
    }
}
