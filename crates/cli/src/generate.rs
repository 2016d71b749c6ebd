//! `evenkeel generate`: text from a model.

use std::path::PathBuf;

use evenkeel_data::Tokenizer;
use evenkeel_train::{
    Program, ProgramParts, Sampling,
    checkpoint::{self, model},
    generate,
};

use crate::{Outcome, adapter, output};

/// Most tokens of context that are computed for every new one.
const CONTEXT: usize = 256;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: evenkeel generate --model runs/first/checkpoints/step-000600 --prompt 'One day'")]
pub(crate) struct Arguments {
    /// Folder with config.json and model.safetensors, or a run folder: its best checkpoint
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Text to continue
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Tokens to add
    #[arg(long, value_name = "N", default_value_t = 400)]
    max_new_tokens: usize,
    /// 0 takes the likeliest token; higher is more varied
    #[arg(long, value_name = "X", default_value_t = 0.7)]
    temperature: f64,
    /// Same seed, same text
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

pub(crate) async fn run(arguments: Arguments, adapter: Option<&str>) -> Outcome {
    let Arguments { temperature, seed, .. } = arguments;
    if !temperature.is_finite() || temperature < 0.0 {
        return Err(format!("--temperature: expected a finite number of 0 or more, got {temperature}").into());
    }
    let folder = checkpoint::resolve(&arguments.model)?;
    let config = model::read_config(&folder)?;
    let tokenizer = Tokenizer::of_folder(&folder)?.unwrap_or_else(Tokenizer::bytes);
    let mut prompt = tokenizer.encode(&arguments.prompt)?;
    if let Some(&id) = prompt.iter().find(|&&id| id as usize >= config.vocab_size) {
        return Err(format!("--prompt: expected ids below vocab_size {}, got {id}", config.vocab_size).into());
    }
    if prompt.is_empty() {
        prompt.push(tokenizer.start());
    }
    let weights = model::load_parameters(&folder, &config.parameters())?;
    let compute = adapter::open(adapter).await?;
    let context = config.max_position_embeddings.min(CONTEXT);
    let parts = ProgramParts { generation: Some(context), ..ProgramParts::default() };
    let program = Program::record(&config, &parts, compute.binding_limit())?;
    let mut executor = program.prepare(&compute, &weights, &mut |_, _| ()).await?;
    output::bytes(arguments.prompt.as_bytes());
    let mut decoder = tokenizer.decoder();
    let mut emit = |id| output::bytes(decoder.push(id).as_bytes());
    let sampling = Sampling { temperature, seed };
    let ids = tokenizer.vocab_size();
    let ended = generate(&program, &mut executor, &prompt, arguments.max_new_tokens, sampling, ids, &mut emit).await;
    output::line(&decoder.finish());
    Ok(ended?)
}
