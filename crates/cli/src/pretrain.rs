//! `evenkeel pretrain`.

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use evenkeel_data::DataError;
use evenkeel_train::{
    Compute, Destination, Setup, Summary, TrainError, pretrain,
    run_folder::RunFolder,
    settings::{Flags, Settings, Sources, key_table},
};

use crate::{
    Outcome, adapter,
    data_progress::DataProgress,
    output::{self, count, size},
    progress::{Limit, Live, Progress},
    signals::stop_on_signals,
    view,
};

/// Where settings come from.
#[derive(Debug, clap::Args)]
pub(crate) struct SettingsArguments {
    /// Run file (TOML); the keys are listed by `evenkeel pretrain --help`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Shape of the model: nano, s, m or l
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Text (.txt, .jsonl, .parquet, each also .gz or .zst), token shards or prepared data to train on: files, folders or
    /// patterns in quotes; without it, stories that the program writes
    #[arg(long, value_name = "PATH", num_args = 1..)]
    data: Vec<PathBuf>,
    /// The same to validate on; without it, a tenth of a training text is held out
    #[arg(long, value_name = "PATH", num_args = 1..)]
    valid: Vec<PathBuf>,
    /// tokenizer.json, folder with one, `bytes`, or `bpe`: trained on the text
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<String>,
    /// Field or column of the text in JSON Lines and Parquet; "text" if it is not given
    #[arg(long, value_name = "NAME")]
    text_field: Option<String>,
    /// Takes a line or byte that is no text for an error; otherwise it is counted and passed over
    #[arg(long)]
    strict: bool,
    /// Optimizer steps
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    steps: Option<i64>,
    /// Seed of the first weights and of the data order
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<i64>,
    /// Sets any key of the run file, e.g. --set optimizer.lr=1e-3
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl SettingsArguments {
    pub(crate) fn resolve(self) -> Result<Settings, TrainError> {
        let flags = Flags {
            preset: self.preset,
            data: self.data,
            valid: self.valid,
            tokenizer: self.tokenizer,
            text_field: self.text_field,
            strict: self.strict,
            steps: self.steps,
            seed: self.seed,
        };
        Settings::resolve(&Sources { file: self.config, set: self.set, flags })
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: evenkeel pretrain --data book.txt --steps 2000 --out runs/book", after_long_help = long_help())]
pub(crate) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,
    /// Folder of the run; without it, runs/DATE-TIME
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Goes on with a run from its newest checkpoint; only --adapter and --max-time go with it
    #[arg(
        long,
        value_name = "RUN_FOLDER",
        conflicts_with_all = ["config", "preset", "data", "valid", "tokenizer", "text_field", "strict", "steps", "seed", "set", "out", "dry_run"]
    )]
    resume: Option<PathBuf>,
    /// Stops as Ctrl-C does after the step in which this process has run for so long, e.g. 90s or 2h
    #[arg(long, value_name = "DURATION")]
    max_time: Option<String>,
    /// Notes when each kernel of three steps runs; prints a table at the end and writes RUN_FOLDER/trace.json
    #[arg(long)]
    profile: bool,
    /// A line every few seconds in place of the live view
    #[arg(long)]
    plain: bool,
    /// Says what the run would take, and stops
    #[arg(long)]
    dry_run: bool,
}

fn long_help() -> String {
    format!(
        "Examples:\n  evenkeel pretrain\n  evenkeel pretrain --data book.txt --steps 2000 --out runs/book\n  \
         evenkeel pretrain --resume runs/book\n\nKeys of the run file (--config) and of --set:\n{}",
        key_table()
    )
}

pub(crate) async fn run(arguments: Arguments, adapter: Option<&str>) -> Outcome {
    let limit = arguments.max_time.as_deref().map(limit).transpose()?;
    let (settings, destination) = match arguments.resume {
        Some(path) => {
            let folder = RunFolder::open(&path)?;
            let settings = Settings::of_run(&folder.run_file())?;
            (settings, Destination::Resume(folder))
        }
        None => {
            let settings = arguments.settings.resolve()?;
            (settings, Destination::New(arguments.out.unwrap_or_else(default_folder)))
        }
    };
    if let Destination::New(path) = &destination
        && !arguments.dry_run
    {
        RunFolder::check_unused(path)?;
    }
    let compute = adapter::open(adapter).await?;
    if arguments.dry_run {
        return dry_run(&settings, &compute);
    }
    let live = (!arguments.plain && view::is_possible()).then(|| live(&settings, &compute));
    let mut progress = Progress::new(stop_on_signals()?, limit, arguments.profile, live);
    let ended = pretrain(&settings, destination, &compute, &mut progress).await;
    progress.end();
    let summary = match ended {
        // What was asked for, and no fault.
        Err(TrainError::Data(DataError::Stopped)) => {
            output::note("stopped while the data were prepared, before a step; the same command goes on");
            return Ok(());
        }
        ended => ended?,
    };
    tell(&summary, settings.train.steps);
    Ok(())
}

/// Says what came of a run of `steps` steps.
fn tell(summary: &Summary, steps: u64) {
    let done = summary.step;
    if let Some((first, last)) = summary.losses {
        output::note(&format!(
            "{} after step {}: loss {first:.4} -> {last:.4}{} in {:.1} s of steps",
            if summary.finished { "finished" } else { "stopped" },
            done,
            summary.valid_loss.map(|loss| format!(", validation {loss:.4}")).unwrap_or_default(),
            summary.step_time.as_secs_f64(),
        ));
    } else if !summary.finished {
        output::note(&format!("stopped after step {done}, before another"));
    } else if done > steps {
        output::note(&format!("nothing left to do: {done} steps are done, and train.steps in run.toml is {steps}"));
    } else {
        output::note(&format!("nothing left to do: all {done} steps are done"));
    }
    if let Some(best) = summary.best {
        output::note(&format!("best validation {:.4}, after step {}", best.valid_loss, best.step));
    }
    output::note(&format!("run folder {}", summary.folder.display()));
}

/// What the live view says of model and device.
fn live(settings: &Settings, compute: &Compute) -> Live {
    let from = settings.model.from.as_ref().map(|folder| folder.display().to_string());
    let arch = settings.model.arch.map(|arch| arch.name().to_owned());
    let preset = settings.model.preset.map(|preset| preset.name().to_owned());
    let model = [from, arch, preset].into_iter().flatten().collect::<Vec<_>>().join(" ");
    Live { title: format!("{model}, {}", compute.name().adapter), interval: settings.instruments.interval }
}

/// How long the process may train, counted from now.
fn limit(text: &str) -> Result<Limit, String> {
    let time: Duration = humantime::parse_duration(text)
        .map_err(|error| format!("--max-time: expected a duration such as 90s or 2h, got {text:?} ({error})"))?;
    Ok(Limit { start: Instant::now(), time })
}

/// `runs/2026-11-23-204501`, in UTC.
fn default_folder() -> PathBuf {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    let name: String = time.chars().filter(char::is_ascii_digit).collect();
    let (date, time) = name.split_at(8);
    PathBuf::from("runs").join(format!("{}-{}-{}-{time}", &date[..4], &date[4..6], &date[6..]))
}

fn dry_run(settings: &Settings, compute: &Compute) -> Outcome {
    let mut progress = DataProgress::default();
    let setup = Setup::with_data(settings, compute, None, &mut progress.watch())?;
    drop(progress);
    let plan = setup.plan(settings);
    output::line(&format!("parameters         {} ({})", plan.parameters, count(plan.parameters as f64)));
    for (role, bytes) in &plan.bytes {
        output::line(&format!("{:<18} {}", role.to_string(), size(*bytes)));
    }
    let total = plan.bytes.iter().map(|(_, bytes)| bytes).sum();
    output::line(&format!("{:<18} {}", "memory", size(total)));
    output::line(&format!("{:<18} {}", "live peak", size(plan.live_peak_bytes)));
    output::line(&format!("{:<18} {}FLOP", "per step", count(plan.flops_per_step as f64)));
    output::line(&format!("{:<18} {}", "disk", size(plan.disk_bytes)));
    let fits = compute.fits(&setup.program.schedule);
    output::line(&format!("{:<18} {}", "fits", if fits.is_ok() { "yes" } else { "no" }));
    Ok(fits?)
}
