//! Long documents in pieces, so that memory stays bounded and all cores have work.
//!
//! A piece ends between two lines, or else between two words: there a byte-level BPE by GPT-2's pattern, and most others,
//! would have cut anyway, so that the pieces' tokens are the document's. Tokenizers that put a space in front of a text
//! put one in front of each piece.

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// Whether the document begins with it.
    pub(crate) first: bool,
    /// Whether the document ends with it.
    pub(crate) last: bool,
}

impl Piece {
    /// A document of one piece.
    pub(crate) fn whole(text: String) -> Self {
        Self { text, first: true, last: true }
    }
}

/// A document in pieces of about `bytes` bytes or less.
pub(super) fn split(text: &str, bytes: usize) -> impl Iterator<Item = Piece> {
    let mut rest = text;
    let mut first = true;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = if rest.len() <= bytes { rest.len() } else { seam(&rest.as_bytes()[..bytes]) };
        let (text, behind) = rest.split_at(end);
        rest = behind;
        let first = std::mem::take(&mut first);
        Some(Piece { text: text.to_owned(), first, last: behind.is_empty() })
    })
}

/// Where to end a piece at the start of `bytes`, the start of something longer: behind a line, or else in front of the
/// space before a word, or else between two characters. At least 1.
pub(super) fn seam(bytes: &[u8]) -> usize {
    let word = |byte: u8| byte.is_ascii_alphanumeric();
    let line = |i: usize| bytes[i - 1] == b'\n' && bytes[i].is_ascii_graphic() && bytes[i - 2].is_ascii_graphic();
    let space = |i: usize| bytes[i] == b' ' && word(bytes[i - 1]) && bytes.get(i + 1).is_some_and(|&next| word(next));
    let places = || (2..bytes.len()).rev();
    let character = |i: &usize| bytes[*i] & 0xc0 != 0x80;
    let between_characters = || (1..bytes.len()).rev().find(character).unwrap_or(bytes.len());
    places().find(|&i| line(i)).or_else(|| places().find(|&i| space(i))).unwrap_or_else(between_characters)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Tokenizer;
    use proptest::prelude::*;
    use std::path::Path;

    proptest! {
        #[test]
        fn pieces_are_the_document_and_have_its_tokens(
            text in "([a-z',. ]{1,12}\n|é是 |[ \n\t]{1,4}|[0-9]{1,5}|🦀){0,30}", bytes in 40usize..90,
        ) {
            let pieces: Vec<Piece> = split(&text, bytes).collect();
            prop_assert_eq!(pieces.iter().map(|piece| &*piece.text).collect::<String>(), &*text);
            prop_assert!(pieces.iter().all(|piece| !piece.text.is_empty() && piece.text.len() <= bytes));
            prop_assert_eq!(pieces.iter().filter(|piece| piece.last).count(), usize::from(!text.is_empty()));
            prop_assert!(pieces.last().is_none_or(|piece| piece.last));
            for name in ["byte-level", "split-byte-level"] {
                let file = format!("../../assets/golden/tokenizers/{name}.json");
                let tokenizer = Tokenizer::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
                let ids: Vec<u32> =
                    pieces.iter().flat_map(|piece| tokenizer.encode(&piece.text).unwrap()).collect();
                let good = pieces.windows(2).all(|pair| {
                    let (a, b) = (pair[0].text.as_bytes(), pair[1].text.as_bytes());
                    let line = a.len() > 1 && a[a.len() - 1] == b'\n' && a[a.len() - 2].is_ascii_graphic();
                    let space = a[a.len() - 1].is_ascii_alphanumeric() && b[0] == b' ';
                    line && b[0].is_ascii_graphic() || space && b.get(1).is_some_and(u8::is_ascii_alphanumeric)
                });
                // Between two characters of a word there is no choice but to cut it.
                if good {
                    prop_assert_eq!(&ids, &tokenizer.encode(&text).unwrap());
                }
            }
        }
    }

    #[test]
    fn lines_come_before_words_before_characters() {
        assert_eq!(seam(b"one two.\nthree four"), 9);
        assert_eq!(seam(b"one two\n\nthree four"), 14);
        assert_eq!(seam("ééé".as_bytes()), 4);
        assert_eq!(seam(b"\n"), 1);
        assert_eq!(seam(&[0x80; 5]), 5);
    }
}
