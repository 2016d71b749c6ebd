//! The `evenkeel` command: one file per verb.

mod adapter;
mod bench;
mod completions;
mod curve;
mod data;
mod data_progress;
mod devices;
mod doctor;
mod eval;
mod export;
mod generate;
mod inspect;
mod man;
mod output;
mod pace;
mod plots;
mod pretrain;
mod profile;
mod progress;
mod report;
mod schedule;
mod signals;
mod study;
mod tokenizer;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Pretrains small language models on any GPU that wgpu reaches, without CUDA.
#[derive(Debug, Parser)]
// The table of keys is wider than most terminals: clap would wrap its rows.
#[command(name = "evenkeel", version, term_width = 0)]
struct Cli {
    /// Computes on the first adapter whose name or driver contains TEXT, or on the CPU executor with `cpu`
    #[arg(long, global = true, value_name = "TEXT")]
    adapter: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Trains a model from scratch, from a checkpoint, or on from where a run stopped
    Pretrain(pretrain::Arguments),
    /// Continues a text with a trained model
    Generate(generate::Arguments),
    /// Measures a model's loss on a file
    Eval(eval::Arguments),
    /// Turns texts into token shards
    Data(data::Arguments),
    /// Trains a tokenizer
    Tokenizer(tokenizer::Arguments),
    /// Writes a model for other programs: in Hugging Face's layout, as f32, f16 or bf16
    Export(export::Arguments),
    /// Shows a checkpoint's weights, or the course of a run, as tables and plots
    Inspect(inspect::Arguments),
    /// Writes one or several runs as a page of HTML
    Report(report::Arguments),
    /// Trains a grid of settings times seeds, and says how the arms differ
    Study(study::Arguments),
    /// Measures how fast an adapter trains
    Bench(bench::Arguments),
    /// Lists adapters, their limits, and what the engine would use on each
    #[command(after_help = "Examples:\n  evenkeel devices\n  evenkeel devices --adapter lavapipe")]
    Devices,
    /// Says what this machine can compute on, whether it does so rightly, and what to install
    Doctor(doctor::Arguments),
    /// Writes what a shell needs to complete commands and options
    Completions(completions::Arguments),
    /// Writes the manual
    Man(man::Arguments),
    /// Shows a run's schedule, or looks for the step that an adapter computes wrongly
    Schedule(schedule::Arguments),
}

/// Why a verb ended early, in one line.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Errors, but for what the Vulkan loader says of drivers that it cannot use: whether one is left is told by this
/// program itself, in one line. `RUST_LOG` asks for more.
const LOG_FILTER: &str = "error,wgpu_hal::vulkan::instance=off";

fn main() -> ExitCode {
    // SAFETY: this is the first thing that the process does.
    unsafe { evenkeel_gpu::prepare_environment() };
    let mut log = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(LOG_FILTER));
    log.target(env_logger::Target::Pipe(Box::new(output::Log::default()))).init();
    #[cfg(unix)]
    signals::report_file_limits();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return tell(&told),
    };
    let adapter = cli.adapter.as_deref();
    let outcome = pollster::block_on(async {
        match cli.verb {
            Verb::Pretrain(arguments) => pretrain::run(arguments, adapter).await,
            Verb::Generate(arguments) => generate::run(arguments, adapter).await,
            Verb::Eval(arguments) => eval::run(arguments, adapter).await,
            Verb::Data(arguments) => data::run(arguments),
            Verb::Tokenizer(arguments) => tokenizer::run(arguments),
            Verb::Export(arguments) => export::run(arguments),
            Verb::Inspect(arguments) => inspect::run(arguments),
            Verb::Report(arguments) => report::run(arguments),
            Verb::Study(arguments) => study::run(arguments, adapter).await,
            Verb::Bench(arguments) => bench::run(arguments, adapter).await,
            Verb::Doctor(arguments) => doctor::run(arguments, adapter).await,
            Verb::Completions(arguments) => completions::run(&arguments),
            Verb::Man(arguments) => man::run(arguments),
            Verb::Devices => devices::run(adapter).await,
            Verb::Schedule(arguments) => schedule::run(arguments, adapter).await,
        }
    });
    let outcome = outcome.and_then(|()| output::finish().map_err(|error| format!("standard output: {error}").into()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Says what is wrong with the arguments, or what `--help` and `--version` ask for.
fn tell(told: &clap::Error) -> ExitCode {
    match told.print() {
        Err(error) if !told.use_stderr() && error.kind() != std::io::ErrorKind::BrokenPipe => {
            output::error(&format!("standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => u8::try_from(told.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}
