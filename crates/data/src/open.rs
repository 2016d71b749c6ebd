//! From file names to tokens: what is prepared already is opened, what is text is tokenized into the cache.

use std::path::{Path, PathBuf};

use crate::corpus::check_stories;
use crate::input::{self, Inputs};
use crate::prepare::{DataEvent, DataWatch, PrepareOptions, SHARD_TOKENS, prepare_cached};
use crate::prepared::Prepared;
use crate::source::Source;
use crate::tokenizer::{SMALLEST_BPE, cached_bpe};
use crate::{Corpus, DataError, Shards, Stories, Text, Tokenizer};

/// Stories that are tokenized: as many as a run of the default length reads several times over.
const STORY_BYTES: u64 = 16 << 20;

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenizerChoice {
    /// A BPE of the model's vocabulary, or bytes where it is too small for one; what prepared data have; none for
    /// token shards.
    Auto,
    /// As [`TokenizerChoice::Auto`], but bytes in place of a BPE.
    AutoBytes,
    /// A BPE of the model's vocabulary, trained on the training text.
    Bpe,
    /// This one.
    Given(Tokenizer),
}

/// The files to train on and to validate with, and how they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Files, folders and patterns: text, token shards (`.bin`), or a folder of prepared data; none stands for the
    /// stories that the program writes.
    pub train: Vec<PathBuf>,
    /// The same for validation; with none a tenth of the text is held out, and token shards go without.
    pub valid: Vec<PathBuf>,
    /// How text becomes tokens.
    pub tokenizer: TokenizerChoice,
    /// The field or column of a text in JSON Lines and Parquet.
    pub text_field: String,
    /// Whether the tokenizer's first token of a document stands in front of every document.
    pub bos: bool,
    /// Whether something that is no text is an error.
    pub strict: bool,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            valid: Vec::new(),
            tokenizer: TokenizerChoice::Auto,
            text_field: input::TEXT_FIELD.into(),
            bos: false,
            strict: false,
        }
    }
}

/// Tokens to train on and to validate with.
#[derive(Debug, Clone)]
pub struct Data {
    /// To train on.
    pub train: Corpus,
    /// To validate with, where there is something.
    pub valid: Option<Corpus>,
    /// What the tokens stand for; none where that is not known.
    pub tokenizer: Option<Tokenizer>,
}

/// Opens what to train on and, where there is any, what to validate with, for a model with `vocab_size` token ids.
///
/// # Errors
/// Files that are missing, unreadable, empty or damaged, text beside shards, a tokenizer that does not fit the model or
/// the data, tokens not below `vocab_size`, and [`DataError::Stopped`].
pub fn open(sources: &Sources, vocab_size: usize, watch: DataWatch) -> Result<Data, DataError> {
    let train = find(&sources.train)?;
    let valid = find(&sources.valid)?;
    require_one_kind(train.as_ref(), valid.as_ref())?;
    let tokenizer = choose(train.as_ref(), sources, vocab_size, watch)?;
    let mut opening = Opening { sources, vocab_size, tokenizer: tokenizer.as_ref(), watch };
    let held_out = sources.valid.is_empty();
    let (train, rest) = match train {
        None => {
            let rest = held_out.then(|| opening.stories(Stories::valid())).transpose()?;
            (opening.stories(Stories::train())?, rest)
        }
        Some(inputs) => {
            let shards = matches!(inputs, Inputs::Shards(_));
            let corpus = opening.corpus(inputs)?;
            if held_out && !shards { corpus.split()? } else { (corpus, None) }
        }
    };
    let valid = match valid {
        None => rest,
        Some(inputs) => Some(opening.corpus(inputs)?),
    };
    Ok(Data { train, valid, tokenizer })
}

/// Opens what to measure a model's loss on, whole: `tokenizer` is the model's, where it has one.
///
/// # Errors
/// As [`open`].
pub fn open_whole(sources: &Sources, vocab_size: usize, watch: DataWatch) -> Result<Data, DataError> {
    let inputs = find(&sources.train)?;
    let tokenizer = choose(inputs.as_ref(), sources, vocab_size, watch)?;
    let mut opening = Opening { sources, vocab_size, tokenizer: tokenizer.as_ref(), watch };
    let train = match inputs {
        None => opening.stories(Stories::valid())?,
        Some(inputs) => opening.corpus(inputs)?,
    };
    Ok(Data { train, valid: None, tokenizer })
}

fn find(paths: &[PathBuf]) -> Result<Option<Inputs>, DataError> {
    if paths.is_empty() { Ok(None) } else { input::find(paths).map(Some) }
}

/// Token shards have ids of their own: they stand beside nothing else.
fn require_one_kind(train: Option<&Inputs>, valid: Option<&Inputs>) -> Result<(), DataError> {
    let shard = |inputs: Option<&Inputs>| match inputs {
        Some(Inputs::Shards(paths)) => paths.first().cloned(),
        _ => None,
    };
    let name = |inputs: Option<&Inputs>| match inputs {
        None => "the stories".to_owned(),
        Some(Inputs::Texts(files)) => files.first().map(|file| file.path.display().to_string()).unwrap_or_default(),
        Some(Inputs::Shards(paths)) => paths.first().map(|path| path.display().to_string()).unwrap_or_default(),
        Some(Inputs::Prepared(folder)) => folder.display().to_string(),
    };
    match (shard(train), shard(valid)) {
        (Some(shard), None) if valid.is_some() => Err(DataError::Mixed { text: name(valid), shard }),
        (None, Some(shard)) => Err(DataError::Mixed { text: name(train), shard }),
        _ => Ok(()),
    }
}

/// The tokenizer for training data, checked against the model.
fn choose(
    train: Option<&Inputs>,
    sources: &Sources,
    vocab_size: usize,
    watch: DataWatch,
) -> Result<Option<Tokenizer>, DataError> {
    let prepared = match train {
        Some(Inputs::Prepared(folder)) => Some(Tokenizer::load(folder)?),
        _ => None,
    };
    let shards = matches!(train, Some(Inputs::Shards(_)));
    let bpe = |watch: DataWatch| {
        let source = match train {
            Some(Inputs::Texts(files)) => Source::of(files.clone(), &sources.text_field),
            _ => Source::stories(Stories::first(STORY_BYTES)),
        };
        cached_bpe(&source, vocab_size, watch)
    };
    let tokenizer = match (&sources.tokenizer, prepared) {
        (TokenizerChoice::Auto | TokenizerChoice::AutoBytes, Some(prepared)) => prepared,
        (TokenizerChoice::Given(given), Some(prepared)) if *given != prepared => {
            let expected = "that of the prepared data".into();
            return Err(DataError::Unfit { expected, got: "another one (data.tokenizer)".into() });
        }
        (TokenizerChoice::Bpe, Some(prepared)) => prepared,
        (TokenizerChoice::Auto | TokenizerChoice::AutoBytes, None) if shards => return Ok(None),
        (TokenizerChoice::AutoBytes, None) => Tokenizer::bytes(),
        (TokenizerChoice::Bpe, None) if shards => {
            let expected = "a tokenizer.json beside token shards".into();
            return Err(DataError::Unfit { expected, got: "one to be trained (data.tokenizer)".into() });
        }
        (TokenizerChoice::Auto, None) if vocab_size < SMALLEST_BPE => Tokenizer::bytes(),
        (TokenizerChoice::Auto | TokenizerChoice::Bpe, None) => bpe(watch)?,
        (TokenizerChoice::Given(given), _) => given.clone(),
    };
    // Bytes that are not in a small vocabulary are told one by one.
    if !tokenizer.is_bytes() && tokenizer.vocab_size() > vocab_size {
        return Err(DataError::Unfit {
            expected: format!("at most the {vocab_size} ids of model.vocab_size"),
            got: format!("{}; leave model.vocab_size out, or raise it", tokenizer.vocab_size()),
        });
    }
    Ok(Some(tokenizer))
}

struct Opening<'a> {
    sources: &'a Sources,
    vocab_size: usize,
    tokenizer: Option<&'a Tokenizer>,
    watch: DataWatch<'a>,
}

impl Opening<'_> {
    fn stories(&mut self, stories: Stories) -> Result<Corpus, DataError> {
        match self.tokenizer.filter(|tokenizer| !tokenizer.is_bytes()) {
            None => {
                check_stories(self.vocab_size)?;
                Ok(Corpus::Stories(stories))
            }
            Some(_) => self.prepare(&Source::stories(stories.at_most(STORY_BYTES))),
        }
    }

    fn corpus(&mut self, inputs: Inputs) -> Result<Corpus, DataError> {
        match inputs {
            Inputs::Shards(paths) => Shards::open(&paths, self.vocab_size).map(Corpus::Shards),
            Inputs::Prepared(folder) => self.prepared(&folder).map(Corpus::Shards),
            Inputs::Texts(files) => {
                let bare = files.iter().all(input::InputFile::is_bare) && !self.sources.bos;
                if bare && self.tokenizer.is_some_and(Tokenizer::is_bytes) {
                    let paths: Vec<_> = files.into_iter().map(|file| file.path).collect();
                    return Text::open(&paths, self.vocab_size).map(Corpus::Text);
                }
                self.prepare(&Source::of(files, &self.sources.text_field))
            }
        }
    }

    fn prepare(&mut self, source: &Source) -> Result<Corpus, DataError> {
        let Some(tokenizer) = self.tokenizer else {
            return Err(DataError::Unfit { expected: "one for text".into(), got: "none".into() });
        };
        let Sources { bos, strict, .. } = *self.sources;
        let options = PrepareOptions { tokenizer: tokenizer.clone(), bos, strict, shard_tokens: SHARD_TOKENS };
        let (folder, index) = prepare_cached(source, &options, self.watch)?;
        for line in index.faults.lines() {
            if (self.watch)(DataEvent::Notice(&line)).is_break() {
                return Err(DataError::Stopped);
            }
        }
        self.prepared(&folder).map(|shards| Corpus::Shards(shards.of_text(&source.describe())))
    }

    fn prepared(&self, folder: &Path) -> Result<Shards, DataError> {
        let Prepared { tokenizer, shards, index } = Prepared::open(folder, self.vocab_size)?;
        if self.tokenizer.is_some_and(|known| *known != tokenizer) {
            let got = format!("another one in {}", folder.display());
            return Err(DataError::Unfit { expected: "the same for all data and the model".into(), got });
        }
        match index.faults.first.first() {
            Some(fault) if self.sources.strict => Err(fault.clone().strict()),
            _ => Ok(shards),
        }
    }
}

#[cfg(test)]
mod tests;
