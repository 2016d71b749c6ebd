//! `evenkeel eval`: a model's mean loss over a file.

use std::path::PathBuf;

use evenkeel_data::{Sources, TEXT_FIELD, Tokenizer, TokenizerChoice, Windows, open_whole};
use evenkeel_model::transformer::BatchShape;
use evenkeel_train::{
    Program, ProgramParts,
    checkpoint::{self, model},
    evaluate,
};
use serde_json::json;

use crate::{Outcome, adapter, data_progress::DataProgress, output, progress};

/// Windows that are computed at once.
const BATCH: usize = 8;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: evenkeel eval --model runs/first/checkpoints/step-000600 --data book.txt --seq-len 128"
)]
pub(crate) struct Arguments {
    /// Folder with config.json and model.safetensors, or a run folder: its best checkpoint
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Text (.txt, .jsonl, .parquet, each also .gz or .zst), token shards or prepared data: files, folders or patterns
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Field or column of the text in JSON Lines and Parquet
    #[arg(long, value_name = "NAME", default_value = TEXT_FIELD)]
    text_field: String,
    /// Takes a line or byte that is no text for an error; otherwise it is counted and passed over
    #[arg(long)]
    strict: bool,
    /// Tokens of a window, by default as many as the model has positions; windows do not overlap, a short last one is left
    /// out
    #[arg(long, value_name = "T")]
    seq_len: Option<usize>,
    /// Ends with one line of JSON: loss, tokens, perplexity, and bits_per_byte where the tokenizer is known
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: Arguments, adapter: Option<&str>) -> Outcome {
    let folder = checkpoint::resolve(&arguments.model)?;
    let config = model::read_config(&folder)?;
    let most = config.max_position_embeddings;
    let seq_len = arguments.seq_len.unwrap_or(most);
    if seq_len == 0 || seq_len > most {
        return Err(format!("--seq-len: expected 1 to the model's {most} positions, got {seq_len}").into());
    }
    let sources = Sources {
        tokenizer: match Tokenizer::of_folder(&folder)? {
            Some(tokenizer) => TokenizerChoice::Given(tokenizer),
            None => TokenizerChoice::AutoBytes,
        },
        train: arguments.data,
        text_field: arguments.text_field,
        strict: arguments.strict,
        ..Sources::default()
    };
    let mut progress = DataProgress::default();
    let data = open_whole(&sources, config.vocab_size, &mut progress.watch())?;
    drop(progress);
    // Token shards need none.
    if matches!((&sources.tokenizer, &data.tokenizer), (TokenizerChoice::AutoBytes, Some(known)) if known.is_bytes()) {
        output::note(&format!("{}: no tokenizer.json: text is taken as bytes", folder.display()));
    }
    let windows = Windows::new(data.train, seq_len)?;
    let weights = model::load_parameters(&folder, &config.parameters())?;
    let compute = adapter::open(adapter).await?;
    let batch = BATCH.min(windows.count() as usize);
    let shape = BatchShape { batch, time: seq_len };
    let parts = ProgramParts { evaluation: Some(shape), ..ProgramParts::default() };
    let program = Program::record(&config, &parts, compute.binding_limit())?;
    let mut executor = program.prepare(&compute, &weights, &mut |_, _| ()).await?;
    let all: Vec<u64> = (0..windows.count()).collect();
    let bar = progress::windows(all.len() as u64);
    let result = evaluate(&program, &mut executor, &windows, &all, &mut |done, _| bar.set_position(done)).await?;
    bar.finish_and_clear();
    if !result.loss.is_finite() {
        return Err(
            format!("loss: expected a finite number, got {} ({})", result.loss, arguments.model.display()).into()
        );
    }
    let bytes = data.tokenizer.map(|tokenizer| windows.target_bytes(&all, &tokenizer)).transpose()?;
    let bits_per_byte = bytes.and_then(|bytes| result.bits_per_byte(bytes));
    if arguments.json {
        let mut row = json!({ "loss": result.loss, "tokens": result.tokens, "perplexity": result.perplexity() });
        if let Some(bits) = bits_per_byte {
            row["bits_per_byte"] = bits.into();
        }
        output::line(&row.to_string());
    } else {
        output::line(&format!(
            "loss {:.4} nats per token{}, perplexity {:.3}, {} tokens",
            result.loss,
            bits_per_byte.map(|bits| format!(", {bits:.4} bits per byte")).unwrap_or_default(),
            result.perplexity(),
            result.tokens
        ));
    }
    Ok(())
}
