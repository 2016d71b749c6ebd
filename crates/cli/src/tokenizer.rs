//! `evenkeel tokenizer train`: a byte-level BPE from texts.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use evenkeel_data::{Source, TOKENIZER_FILE, bpe_of};

use crate::{Outcome, data::Texts, data_progress::DataProgress, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Trains a byte-level BPE; the same texts give the same file
    #[command(after_help = "Example: evenkeel tokenizer train --data books/ --vocab 4096 --out tokenizer.json")]
    Train(Train),
}

#[derive(Debug, clap::Args)]
struct Train {
    #[command(flatten)]
    texts: Texts,
    /// Entries, 257 at least: the bytes, <|endoftext|>, and what is learned from at most 64 MiB of text
    #[arg(long, value_name = "N", default_value_t = 4096)]
    vocab: usize,
    /// File to write, in the format of Hugging Face's tokenizers
    #[arg(long, value_name = "FILE", default_value = TOKENIZER_FILE)]
    out: PathBuf,
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Action::Train(Train { texts, vocab, out }) = arguments.action;
    let start = Instant::now();
    let source = Source::files(&texts.data, &texts.text_field)?;
    let mut progress = DataProgress::default();
    let tokenizer = bpe_of(&source, vocab, &mut progress.watch())?;
    drop(progress);
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| output::file(&out, tokenizer.files()[0].1.as_bytes()))
        .map_err(|error| format!("{}: cannot be written: {error}", out.display()))?;
    output::line(&format!("{}: {} entries", out.display(), tokenizer.vocab_size()));
    if tokenizer.vocab_size() < vocab {
        output::note("the text has no more patterns that occur twice");
    }
    output::note(&format!("trained in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}
