//! `evenkeel generate`: text from a model, for prompts given at once or typed one after the other.

mod repl;
mod rows;

use std::{fs, path::PathBuf};

use evenkeel_data::{DataError, Tokenizer};
use evenkeel_model::{
    ModelConfig,
    generation::{GenerationShape, most_positions},
};
use evenkeel_train::{
    Compute, Executor, Generation, MOST_SEQUENCES, PIECE, Program, ProgramParts, Sampling, Speed,
    checkpoint::{self, model},
    generate,
};

use crate::{
    Outcome, adapter,
    output::{self, count},
    signals::Interrupt,
};
use rows::Rows;

/// Positions for prompts that are not known yet, where the model has as many.
const OPEN_CONTEXT: usize = 2048;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    evenkeel generate --model runs/first/checkpoints/step-000600 --prompt 'One day'\n  \
    evenkeel generate --model MODEL --prompts-file questions.txt --temperature 0 --stop '.' --json\n  \
    evenkeel generate --model MODEL        (asks for prompts; Ctrl-C ends a text, Ctrl-D the program)")]
pub(crate) struct Arguments {
    /// Folder with config.json and model.safetensors, or a run folder: its best checkpoint
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Text to continue; may be given several times. Without any, every line of standard input is one
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// File with a prompt on every line
    #[arg(long, value_name = "FILE")]
    prompts_file: Option<PathBuf>,
    /// Most tokens to add to a prompt
    #[arg(long, value_name = "N", default_value_t = 400)]
    max_new_tokens: usize,
    /// Most tokens of a prompt and its text together; without it, what the model has positions for
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// 0 takes the likeliest token; higher is more varied
    #[arg(long, value_name = "X", default_value_t = 0.7, allow_negative_numbers = true)]
    temperature: f64,
    /// Chooses among the K likeliest tokens; 0: among all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Chooses among the likeliest tokens that together have this share; 1: among all
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Chooses among tokens at least P times as likely as the likeliest; 0: among all
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f64,
    /// Makes tokens that were there before less likely; 1: does not
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f64,
    /// Ends a text before this string; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Goes on after the token that ends a text
    #[arg(long)]
    ignore_eos: bool,
    /// Same seed and prompt, same text
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// One line of JSON for every prompt, when its text is complete: prompt, text, tokens, end
    #[arg(long)]
    json: bool,
    /// Says at the end how many tokens a second went in and came out, on standard error
    #[arg(long)]
    stats: bool,
}

pub(crate) async fn run(arguments: Arguments, adapter: Option<&str>) -> Outcome {
    let sampling = sampling(&arguments)?;
    if arguments.stop.iter().any(String::is_empty) {
        return Err("--stop: expected a string, got an empty one".into());
    }
    let prompts = prompts(&arguments)?;
    let folder = checkpoint::resolve(&arguments.model)?;
    let config = model::read_config(&folder)?;
    let tokenizer = Tokenizer::of_folder(&folder)?.unwrap_or_else(|| {
        output::note(&format!("{}: no tokenizer.json: tokens are taken for bytes", folder.display()));
        Tokenizer::bytes()
    });
    if !tokenizer.is_bytes() && tokenizer.vocab_size() > config.vocab_size {
        let (known, ids) = (config.vocab_size, tokenizer.vocab_size());
        return Err(
            format!("{}: tokenizer: expected at most the model's {known} ids, got {ids}", folder.display()).into()
        );
    }
    let tokens = prompts.iter().map(|prompt| encode(&tokenizer, prompt)).collect::<Result<Vec<_>, _>>()?;
    let weights = model::load_parameters(&folder, &config.parameters())?;
    let compute = adapter::open(adapter).await?;
    let shape = shape(&arguments, &config, &compute, &tokens)?;
    let parts = ProgramParts { generation: Some(shape), ..ProgramParts::default() };
    let program = Program::record(&config, &parts, compute.binding_limit())?;
    let executor = program.prepare(&compute, &weights, &mut |_, _| ()).await?;
    drop(weights);
    let options = Generation {
        sampling,
        max_new_tokens: arguments.max_new_tokens,
        end_token: tokenizer.eos().filter(|_| !arguments.ignore_eos),
        known_tokens: tokenizer.vocab_size(),
    };
    let Arguments { stop, json, stats, .. } = arguments;
    let mut session = Session { program, executor, options, tokenizer, stop, json };
    let speed = if prompts.is_empty() { session.ask().await? } else { session.answer(prompts, &tokens).await? };
    if stats {
        output::note(&report(&speed));
    }
    Ok(())
}

/// A model in its place, and what is asked of it.
struct Session {
    program: Program,
    executor: Executor,
    options: Generation,
    tokenizer: Tokenizer,
    stop: Vec<String>,
    json: bool,
}

impl Session {
    /// Continues prompts, given as text and as tokens, and shows the texts. Ctrl-C ends them.
    async fn answer(&mut self, prompts: Vec<String>, tokens: &[Vec<u32>]) -> Result<Speed, Box<dyn std::error::Error>> {
        let interrupt = Interrupt::watch()?;
        let context = self.program.generation.as_ref().map_or(0, |generation| generation.shape.context);
        let mut rows = Rows::new(prompts, &self.tokenizer, &self.stop, context, self.json, interrupt);
        let ended = generate(&self.program, &mut self.executor, tokens, &self.options, &mut rows).await;
        rows.finish();
        Ok(ended?)
    }

    /// Continues the lines of standard input.
    async fn ask(&mut self) -> Result<Speed, Box<dyn std::error::Error>> {
        let mut lines = repl::Lines::open()?;
        let mut all = Speed::default();
        let mut asked = false;
        while let Some(line) = lines.next()? {
            if line.is_empty() {
                continue;
            }
            asked = true;
            let tokens = encode(&self.tokenizer, &line)?;
            match self.answer(vec![line], &[tokens]).await {
                Ok(speed) => all = all + speed,
                // Whoever types can type something else.
                Err(error) if lines.typed() => output::error(&error.to_string()),
                Err(error) => return Err(error),
            }
        }
        if !asked && !lines.typed() {
            return Err("prompt: expected --prompt, --prompts-file or lines on standard input, got none".into());
        }
        Ok(all)
    }
}

/// A prompt's tokens. An empty one is the beginning of a document.
fn encode(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>, DataError> {
    let tokens = tokenizer.encode_prompt(prompt)?;
    Ok(if tokens.is_empty() { vec![tokenizer.start()] } else { tokens })
}

fn sampling(arguments: &Arguments) -> Result<Sampling, String> {
    let Arguments { temperature, top_k, top_p, min_p, repetition_penalty, seed, .. } = *arguments;
    let check = |name: &str, value: f64, right: bool, expected: &str| {
        if value.is_finite() && right { Ok(value) } else { Err(format!("--{name}: expected {expected}, got {value}")) }
    };
    Ok(Sampling {
        temperature: check("temperature", temperature, temperature >= 0.0, "a finite number of 0 or more")?,
        top_k,
        top_p: check("top-p", top_p, top_p > 0.0 && top_p <= 1.0, "a number above 0 and up to 1")?,
        min_p: check("min-p", min_p, (0.0..=1.0).contains(&min_p), "a number from 0 to 1")?,
        repetition_penalty: check(
            "repetition-penalty",
            repetition_penalty,
            repetition_penalty > 0.0,
            "a finite number above 0",
        )?,
        seed,
    })
}

/// The prompts of the command line, then those of the file; its empty lines are none.
fn prompts(arguments: &Arguments) -> Result<Vec<String>, String> {
    let mut prompts = arguments.prompt.clone();
    if let Some(path) = &arguments.prompts_file {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let before = prompts.len();
        prompts.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        if prompts.len() == before {
            return Err(format!("{}: expected a prompt on every line, got none", path.display()));
        }
    }
    Ok(prompts)
}

/// As many sequences as there are prompts, as many positions as they can come to need, within what model and device have.
fn shape(
    arguments: &Arguments,
    config: &ModelConfig,
    compute: &Compute,
    prompts: &[Vec<u32>],
) -> Result<GenerationShape, String> {
    let most = |sequences| most_positions(config, sequences, compute.binding_limit());
    if let Some(context) = arguments.context
        && !(1..=most(1)).contains(&context)
    {
        return Err(format!("--context: expected 1 to {} (the model's positions), got {context}", most(1)));
    }
    let longest = prompts.iter().map(Vec::len).max();
    let needed = longest.map(|longest| longest.saturating_add(arguments.max_new_tokens));
    let asked = arguments.context.unwrap_or(needed.unwrap_or(OPEN_CONTEXT));
    let context = asked.min(needed.unwrap_or(asked)).min(most(1)).max(1);
    let sequences = (1..=prompts.len().min(MOST_SEQUENCES)).rev().find(|&sequences| most(sequences) >= context);
    Ok(GenerationShape { sequences: sequences.unwrap_or(1), context, piece: PIECE })
}

fn report(speed: &Speed) -> String {
    let rate = |tokens: u64, seconds: f64| {
        let rate = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        format!("{tokens} tokens in {seconds:.3} s, {} tokens/s", count(rate))
    };
    let prefill = rate(speed.prefill_tokens, speed.prefill.as_secs_f64());
    format!("prefill {prefill}; decode {}", rate(speed.decode_tokens, speed.decode.as_secs_f64()))
}
