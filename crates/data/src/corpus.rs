//! A corpus: tokens at positions, wherever they come from.

use crate::fingerprint::Fingerprint;
use crate::input::is_shard;
use crate::stories::LARGEST_TOKEN;
use crate::{DataError, Shards, Stories, Text};
use std::path::Path;

/// Stretches of a corpus that its fingerprint is made of.
const STRETCHES: u64 = 1024;

/// A sequence of tokens. It has at least one token, and a copy is cheap.
///
/// Files are mapped into memory: they must not be cut while a corpus lives.
#[derive(Debug, Clone)]
pub enum Corpus {
    /// The embedded stories.
    Stories(Stories),
    /// Bytes of text files.
    Text(Text),
    /// Token shards.
    Shards(Shards),
}

impl Corpus {
    /// Opens files as one corpus, whole and in the given order: token shards, or text whose bytes are the tokens. No
    /// files stand for the validation stories.
    ///
    /// # Errors
    /// Files that are missing, unreadable, empty or damaged, text beside shards, and tokens not below `vocab_size`.
    pub fn open<P: AsRef<Path>>(paths: &[P], vocab_size: usize) -> Result<Self, DataError> {
        let shard = paths.iter().map(AsRef::as_ref).find(|path| is_shard(path));
        let text = paths.iter().map(AsRef::as_ref).find(|path| !is_shard(path));
        match (text, shard) {
            (None, None) => {
                check_stories(vocab_size)?;
                Ok(Self::Stories(Stories::valid()))
            }
            (Some(_), None) => Text::open(paths, vocab_size).map(Self::Text),
            (None, Some(_)) => Shards::open(paths, vocab_size).map(Self::Shards),
            (Some(text), Some(shard)) => {
                Err(DataError::Mixed { text: text.display().to_string(), shard: shard.into() })
            }
        }
    }

    /// Number of tokens.
    #[expect(clippy::len_without_is_empty, reason = "a corpus is never empty")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Stories(stories) => stories.len(),
            Self::Text(text) => text.len(),
            Self::Shards(shards) => shards.len(),
        }
    }

    /// Reads `out.len()` tokens from position `start` on. The token at position p is the one at p modulo
    /// [`Corpus::len`]: the corpus repeats itself.
    pub fn read(&self, start: u64, mut out: &mut [u32]) {
        let mut start = start % self.len();
        while !out.is_empty() {
            let count = (self.len() - start).min(out.len() as u64) as usize;
            let (here, rest) = out.split_at_mut(count);
            match self {
                Self::Stories(stories) => stories.read(start, here),
                Self::Text(text) => text.read(start, here),
                Self::Shards(shards) => shards.read(start, here),
            }
            (out, start) = (rest, 0);
        }
    }

    /// 32 hexadecimal digits by which another corpus is told from this one, wherever it lies: a hash of its length and of
    /// stretches of it all over. It takes no longer for a long corpus, and a few changed tokens in one may escape it.
    pub fn fingerprint(&self) -> String {
        let mut hash = Fingerprint::new("corpus");
        hash.number(self.len());
        let mut tokens = [0; 64];
        for stretch in 0..STRETCHES {
            self.read((u128::from(self.len()) * u128::from(stretch) / u128::from(STRETCHES)) as u64, &mut tokens);
            tokens.iter().for_each(|&token| hash.number(token.into()));
        }
        hash.hex()
    }

    /// The first nine tenths to train on and the rest to validate with; no rest where there is too little.
    ///
    /// # Errors
    /// A text of a single byte.
    pub(crate) fn split(self) -> Result<(Self, Option<Self>), DataError> {
        Ok(match self {
            Self::Stories(stories) => (Self::Stories(stories), None),
            Self::Text(text) => {
                let (train, valid) = text.split()?;
                (Self::Text(train), Some(Self::Text(valid)))
            }
            Self::Shards(shards) => match shards.clone().split() {
                Some((train, valid)) => (Self::Shards(train), Some(Self::Shards(valid))),
                None => (Self::Shards(shards), None),
            },
        })
    }

    /// The corpus in a few words, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Stories(_) => "the embedded stories".into(),
            Self::Text(text) => text.describe(),
            Self::Shards(shards) => shards.describe(),
        }
    }
}

/// Checks that a vocabulary has the letters of the stories.
pub(crate) fn check_stories(vocab_size: usize) -> Result<(), DataError> {
    let expected = LARGEST_TOKEN as usize + 1;
    if vocab_size < expected {
        return Err(DataError::VocabularyTooSmall { expected, got: vocab_size });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
