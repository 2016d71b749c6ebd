//! `evenkeel data prepare`: texts to token shards.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use evenkeel_data::{PrepareOptions, SHARD_TOKENS, Source, TEXT_FIELD, Tokenizer, cached_bpe, prepare};

use crate::{
    Outcome,
    data_progress::DataProgress,
    output::{self, count, size},
};

/// Where texts are.
#[derive(Debug, clap::Args)]
pub(crate) struct Texts {
    /// Text files (.txt), JSON Lines (.jsonl) or Parquet, each also .gz or .zst: files, folders or patterns in quotes
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub(crate) data: Vec<PathBuf>,
    /// Field or column of the text in JSON Lines and Parquet
    #[arg(long, value_name = "NAME", default_value = TEXT_FIELD)]
    pub(crate) text_field: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Tokenizes texts into a folder of shards for `pretrain --data`; the same command goes on after a stop or a kill
    #[command(after_help = "Example: evenkeel data prepare --data 'corpus/*.jsonl.zst' --vocab 8192 --out prepared")]
    Prepare(Prepare),
}

#[derive(Debug, clap::Args)]
struct Prepare {
    #[command(flatten)]
    texts: Texts,
    /// Folder to write
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// tokenizer.json, folder with one, or `bytes`; without it, a BPE that is trained on the texts
    #[arg(long, value_name = "FILE", conflicts_with = "vocab")]
    tokenizer: Option<PathBuf>,
    /// Entries of the BPE that is trained
    #[arg(long, value_name = "N", default_value_t = 4096)]
    vocab: usize,
    /// Puts the token that begins a document in front of every document; <|endoftext|> or the like always ends it
    #[arg(long)]
    bos: bool,
    /// Takes a line or byte that is no text for an error; otherwise it is counted and passed over
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Action::Prepare(Prepare { texts, out, tokenizer, vocab, bos, strict }) = arguments.action;
    let start = Instant::now();
    let source = Source::files(&texts.data, &texts.text_field)?;
    let mut progress = DataProgress::default();
    let tokenizer = match tokenizer {
        Some(path) if path == Path::new("bytes") => Tokenizer::bytes(),
        Some(path) => Tokenizer::load(&path)?,
        None => cached_bpe(&source, vocab, &mut progress.watch())?,
    };
    let options = PrepareOptions { tokenizer, bos, strict, shard_tokens: SHARD_TOKENS };
    let index = prepare(&source, &options, &out, &mut progress.watch())?;
    drop(progress);
    for line in index.faults.lines() {
        output::note(&line);
    }
    let faults = match index.faults.count {
        0 => String::new(),
        faults => format!(", {faults} faults passed over"),
    };
    output::line(&format!(
        "{}: {} tokens in {} shards, of {} documents, {} of text{faults}",
        out.display(),
        index.tokens,
        index.shards.len(),
        index.documents,
        size(index.bytes),
    ));
    let seconds = start.elapsed().as_secs_f64();
    output::note(&format!("in {seconds:.1} s, {}B/s of text", count(index.bytes as f64 / seconds)));
    Ok(())
}
