//! `evenkeel eval`: a model's mean loss over a file.

use std::path::PathBuf;

use evenkeel_data::{Corpus, Windows};
use evenkeel_model::transformer::BatchShape;
use evenkeel_train::{Program, ProgramParts, checkpoint::model, evaluate};
use serde_json::json;

use crate::{Outcome, adapter, output, progress};

/// Windows that are computed at once.
const BATCH: usize = 8;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: evenkeel eval --model runs/first/checkpoints/step-000600 --data book.txt --seq-len 128"
)]
pub(crate) struct Arguments {
    /// Folder with config.json and model.safetensors
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Text file or token shard
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Tokens of a window; windows do not overlap, a short last one is left out
    #[arg(long, value_name = "T")]
    seq_len: usize,
    /// Ends with one line of JSON: loss, tokens, perplexity
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: Arguments, adapter: Option<&str>) -> Outcome {
    let config = model::read_config(&arguments.model)?;
    if arguments.seq_len == 0 || arguments.seq_len > config.max_position_embeddings {
        let most = config.max_position_embeddings;
        return Err(format!("--seq-len: expected 1 to the model's {most} positions, got {}", arguments.seq_len).into());
    }
    let corpus = Corpus::open(&[&arguments.data], config.vocab_size)?;
    let windows = Windows::new(corpus, arguments.seq_len)?;
    let weights = model::load_parameters(&arguments.model, &config.parameters())?;
    let compute = adapter::open(adapter).await?;
    let batch = BATCH.min(windows.count() as usize);
    let shape = BatchShape { batch, time: arguments.seq_len };
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
    if arguments.json {
        let row = json!({ "loss": result.loss, "tokens": result.tokens, "perplexity": result.perplexity() });
        output::line(&row.to_string());
    } else {
        output::line(&format!(
            "loss {:.4} nats per token, perplexity {:.3}, {} tokens",
            result.loss,
            result.perplexity(),
            result.tokens
        ));
    }
    Ok(())
}
