//! A corpus: tokens at positions, wherever they come from.

use crate::stories::LARGEST_TOKEN;
use crate::{DataError, Shards, Stories, Text, Tokenizer};
use std::path::{Path, PathBuf};

/// The files to train on and to validate with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Text files or token shards (`.bin`), in order; none stands for the embedded stories.
    pub train: Vec<PathBuf>,
    /// Text files or token shards, in order; with none a tenth of a text is held out, and shards go without.
    pub valid: Vec<PathBuf>,
}

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

/// Opens what to train on and, where there is any, what to validate with, for a model with `vocab_size` token ids.
///
/// # Errors
/// Files that are missing, unreadable, empty or damaged, text beside shards, and tokens not below `vocab_size`.
pub fn open(sources: &Sources, vocab_size: usize) -> Result<(Corpus, Option<Corpus>), DataError> {
    let all = || sources.train.iter().chain(&sources.valid);
    if let Some(shard) = all().find(|path| is_shard(path)) {
        let text = all().find(|path| !is_shard(path)).map(|path| path.display().to_string());
        let stories = sources.train.is_empty().then(|| "the embedded stories".into());
        if let Some(text) = text.or(stories) {
            return Err(DataError::Mixed { text, shard: shard.clone() });
        }
    }
    let train = if sources.train.is_empty() {
        check_stories(vocab_size)?;
        Corpus::Stories(Stories::train())
    } else {
        Corpus::open(&sources.train, vocab_size)?
    };
    if !sources.valid.is_empty() {
        return Ok((train, Some(Corpus::open(&sources.valid, vocab_size)?)));
    }
    Ok(match train {
        Corpus::Stories(stories) => (Corpus::Stories(stories), Some(Corpus::Stories(Stories::valid()))),
        Corpus::Text(text) => {
            let (train, valid) = text.split()?;
            (Corpus::Text(train), Some(Corpus::Text(valid)))
        }
        Corpus::Shards(shards) => (Corpus::Shards(shards), None),
    })
}

impl Corpus {
    /// Opens files as one corpus, whole and in the given order. No files stand for the validation stories.
    ///
    /// # Errors
    /// As [`open`].
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

    /// What the tokens stand for; none where the tokenizer of token shards is not known.
    pub fn tokenizer(&self) -> Option<Tokenizer> {
        match self {
            Self::Stories(_) | Self::Text(_) => Some(Tokenizer::bytes()),
            Self::Shards(_) => None,
        }
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

/// Whether a path names a token shard: the extension says so, in small or capital letters.
fn is_shard(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("bin"))
}

fn check_stories(vocab_size: usize) -> Result<(), DataError> {
    let expected = LARGEST_TOKEN as usize + 1;
    if vocab_size < expected {
        return Err(DataError::VocabularyTooSmall { expected, got: vocab_size });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    struct Fixture {
        folder: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("text.txt"), "0123456789").unwrap();
            fs::write(folder.path().join("more"), "ab").unwrap();
            let mut shard = Vec::new();
            for field in [20240520i32, 1, 3].into_iter().chain([0; 253]) {
                shard.extend(field.to_le_bytes());
            }
            shard.extend([7, 0, 8, 0, 9, 1]);
            fs::write(folder.path().join("shard.bin"), &shard).unwrap();
            fs::write(folder.path().join("other.BIN"), &shard).unwrap();
            Self { folder }
        }

        fn open(&self, train: &[&str], valid: &[&str]) -> Result<(Corpus, Option<Corpus>), DataError> {
            let paths = |names: &[&str]| names.iter().map(|name| self.folder.path().join(name)).collect();
            open(&Sources { train: paths(train), valid: paths(valid) }, 512)
        }
    }

    fn tokens(corpus: &Corpus) -> Vec<u32> {
        let mut out = vec![0; corpus.len() as usize];
        corpus.read(0, &mut out);
        out
    }

    fn text(bytes: &str) -> Vec<u32> {
        bytes.bytes().map(u32::from).collect()
    }

    #[test]
    fn sources_choose_the_corpora() {
        let fixture = Fixture::new();
        let (train, valid) = fixture.open(&[], &[]).unwrap();
        assert!(matches!((&train, &valid), (Corpus::Stories(_), Some(Corpus::Stories(_)))));
        assert_ne!(train.len(), valid.unwrap().len());
        assert_eq!(train.tokenizer(), Some(Tokenizer::bytes()));
        let (train, valid) = fixture.open(&["text.txt"], &[]).unwrap();
        assert_eq!((tokens(&train), tokens(&valid.unwrap())), (text("012345678"), text("9")));
        let (train, valid) = fixture.open(&["text.txt"], &["more"]).unwrap();
        assert_eq!((tokens(&train), tokens(&valid.unwrap())), (text("0123456789"), text("ab")));
        let (train, valid) = fixture.open(&[], &["more"]).unwrap();
        assert!(matches!(train, Corpus::Stories(_)) && tokens(&valid.unwrap()) == text("ab"));
        let (train, valid) = fixture.open(&["shard.bin", "other.BIN"], &[]).unwrap();
        assert_eq!(tokens(&train), [7, 8, 265, 7, 8, 265]);
        assert_eq!((train.tokenizer(), valid.is_none()), (None, true));
        let (_, valid) = fixture.open(&["shard.bin"], &["other.BIN"]).unwrap();
        assert_eq!(tokens(&valid.unwrap()), [7, 8, 265]);
    }

    #[test]
    fn text_beside_shards_is_a_fault() {
        let fixture = Fixture::new();
        let mixed: [(&[&str], &[&str]); 4] = [
            (&["text.txt", "shard.bin"], &[]),
            (&["shard.bin"], &["text.txt"]),
            (&["text.txt"], &["other.BIN"]),
            (&[], &["shard.bin"]),
        ];
        for (train, valid) in mixed {
            assert!(matches!(fixture.open(train, valid), Err(DataError::Mixed { .. })));
        }
        let paths = ["text.txt", "shard.bin"].map(|name| fixture.folder.path().join(name));
        assert!(matches!(Corpus::open(&paths, 512), Err(DataError::Mixed { .. })));
    }

    #[test]
    fn stories_need_their_letters() {
        assert!(open(&Sources::default(), 123).is_ok());
        let fault = open(&Sources::default(), 122).unwrap_err();
        assert!(matches!(fault, DataError::VocabularyTooSmall { expected: 123, got: 122 }));
        assert!(Corpus::open::<&Path>(&[], 122).is_err());
    }

    #[test]
    fn reading_wraps_at_the_end() {
        let (train, _) = Fixture::new().open(&["text.txt"], &["more"]).unwrap();
        let expected = text("0123456789").repeat(5);
        for start in 0..20u64 {
            let mut out = vec![0; 25];
            train.read(start, &mut out);
            assert_eq!(out, expected[start as usize..start as usize + 25]);
        }
    }

    #[test]
    fn faults_are_one_line_with_path_and_next_step() {
        let fixture = Fixture::new();
        let path = fixture.folder.path().join("missing.txt");
        let fault = fixture.open(&["missing.txt"], &[]).unwrap_err().to_string();
        assert_eq!(fault, format!("{}: expected a data file, got no such file; check the path", path.display()));
        let fault = fixture.open(&["text.txt"], &["missing.txt"]).unwrap_err();
        assert!(matches!(fault, DataError::Missing { .. }));
    }
}
