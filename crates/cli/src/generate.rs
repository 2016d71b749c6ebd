//! `evenkeel generate`: text from a model of bytes.

use std::path::PathBuf;

use evenkeel_train::{Program, ProgramParts, Sampling, checkpoint::model, generate};

use crate::{Outcome, adapter, output};

/// Most tokens of context that are computed for every new one.
const CONTEXT: usize = 256;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: evenkeel generate --model runs/first/checkpoints/step-000600 --prompt 'One day'")]
pub(crate) struct Arguments {
    /// Folder with config.json and model.safetensors
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Text to continue
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Bytes to add
    #[arg(long, value_name = "N", default_value_t = 400)]
    max_new_tokens: usize,
    /// 0 takes the likeliest byte; higher is more varied
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
    let config = model::read_config(&arguments.model)?;
    let prompt: Vec<u32> = arguments.prompt.bytes().map(u32::from).collect();
    if let Some(&byte) = prompt.iter().find(|&&byte| byte as usize >= config.vocab_size) {
        return Err(format!("--prompt: expected bytes below vocab_size {}, got {byte}", config.vocab_size).into());
    }
    let weights = model::load_parameters(&arguments.model, &config.parameters())?;
    let compute = adapter::open(adapter).await?;
    let context = config.max_position_embeddings.min(CONTEXT);
    let parts = ProgramParts { generation: Some(context), ..ProgramParts::default() };
    let program = Program::record(&config, &parts, compute.binding_limit())?;
    let mut executor = program.prepare(&compute, &weights, &mut |_, _| ()).await?;
    output::bytes(arguments.prompt.as_bytes());
    let mut emit = |byte| output::bytes(&[byte]);
    let sampling = Sampling { temperature, seed };
    let ended = generate(&program, &mut executor, &prompt, arguments.max_new_tokens, sampling, &mut emit).await;
    output::line("");
    Ok(ended?)
}
