//! `evenkeel study`: a grid of settings times seeds, and the table and plots of what came of it.

mod plots;

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel_train::{
    Event, StepRow, Watch,
    study::{Outcome, Position, Report, RunResult, Study, StudyWatch},
};
use indicatif::ProgressBar;

use crate::{
    Outcome as Ended, adapter, output,
    progress::{self, PLAIN_INTERVAL},
    signals::{Stop, stop_on_signals},
};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The study (TOML): [study] name and seeds, [base.SECTION], [[arm]] name and [arm.SECTION], [grid]
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Folder of the study; without it, studies/NAME of FILE
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

const AFTER_HELP: &str = "Example: evenkeel study assets/studies/variance.toml --out studies/variance

What is there already is not computed again: after a stop or a kill, the same command goes on. A file:

  [study]
  name = \"learning rate\"
  seeds = [1, 2, 3]          # of the weights and of the data order

  [base.train]               # sections of the run file, for all arms
  steps = 600

  [[arm]]                    # the first is what the others are compared with
  name = \"short warm-up\"
  [arm.schedule]             # what this arm has of its own
  warmup_steps = 10

  [[arm]]
  name = \"long warm-up\"
  [arm.schedule]
  warmup_steps = 100

  [grid]                     # multiplies every arm; may be left out
  \"optimizer.lr\" = [1e-3, 2e-3]";

pub(crate) async fn run(arguments: Arguments, adapter: Option<&str>) -> Ended {
    let study = Study::read(&arguments.file)?;
    let out = arguments.out.unwrap_or_else(|| {
        let name = arguments.file.file_stem().unwrap_or(arguments.file.as_os_str());
        PathBuf::from("studies").join(name)
    });
    let plan = study.plan(&out)?;
    let compute = adapter::open(adapter).await?;
    output::note(&format!(
        "study {}: {} arms x {} seeds, {} of {} runs done, in {}",
        study.name,
        study.arms.len(),
        study.seeds.len(),
        plan.ended(),
        plan.runs().len(),
        out.display(),
    ));
    let mut progress = StudyProgress::new(stop_on_signals()?);
    let ended = plan.run(&compute, &mut progress).await;
    progress.clear();
    match ended? {
        Some(report) => {
            draw(&report, &out)?;
            output::line(report.table().trim_end());
            output::note(&format!("written to {}, with plots", out.join("study.md").display()));
        }
        None => output::note("stopped; the same command goes on"),
    }
    Ok(())
}

fn draw(report: &Report, out: &Path) -> Ended {
    let folder = out.join("plots");
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    for (name, chart) in plots::charts(report, out)? {
        let path = folder.join(name).with_extension("svg");
        chart.write_svg(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Shows the runs of a study: a bar per run on a terminal, a line every few seconds elsewhere.
struct StudyProgress {
    bar: Option<ProgressBar>,
    run: String,
    steps: u64,
    /// Floating-point operations of a step, of the runs behind this one, and of all steps done by this process.
    flops_per_step: f64,
    work_behind: f64,
    work_done: f64,
    since: Instant,
    last_line: Option<Instant>,
    valid_loss: Option<f64>,
    stop: Arc<Stop>,
}

impl StudyProgress {
    fn new(stop: Arc<Stop>) -> Self {
        Self {
            bar: None,
            run: String::new(),
            steps: 0,
            flops_per_step: 0.0,
            work_behind: 0.0,
            work_done: 0.0,
            since: Instant::now(),
            last_line: None,
            valid_loss: None,
            stop,
        }
    }

    fn note(&self, text: &str) {
        let line = format!("{}: {text}", self.run);
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(&line)),
            None => output::note(&line),
        }
    }

    fn step(&mut self, row: &StepRow) {
        self.work_done += self.flops_per_step;
        let left = (self.steps - row.step) as f64 * self.flops_per_step + self.work_behind;
        let seconds = self.since.elapsed().as_secs_f64() * left / self.work_done;
        let valid = self.valid_loss.map(|loss| format!("  validation {loss:.4}")).unwrap_or_default();
        let left = indicatif::HumanDuration(Duration::from_secs_f64(seconds.min(1e9)));
        let status = format!("loss {:.4}{valid}  {left} left", row.loss);
        if let Some(bar) = &self.bar {
            bar.set_position(row.step);
            bar.set_message(format!("{status} of the study"));
            return;
        }
        if self.last_line.is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL) {
            self.last_line = Some(Instant::now());
            self.note(&format!("step {}/{}  {status}", row.step, self.steps));
        }
    }

    /// Ends the bar.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Watch for StudyProgress {
    fn event(&mut self, event: Event<'_>) {
        match event {
            // What a stopped run says of going on is for runs by themselves.
            Event::Notice(_) if self.stop() => {}
            Event::Notice(text) => self.note(text),
            Event::Started { done, steps, plan, .. } => {
                (self.steps, self.flops_per_step) = (steps, plan.flops_per_step as f64);
                if done > 0 {
                    self.note(&format!("going on after step {done} of {steps}"));
                }
                if std::io::stderr().is_terminal() {
                    let bar = progress::bar(steps, "{prefix} [{bar:24}] {pos}/{len}  {msg}");
                    self.bar = Some(bar.with_prefix(self.run.clone()));
                }
            }
            Event::Step(row) => self.step(row),
            Event::Evaluated(row) => self.valid_loss = Some(row.valid_loss),
            // The data were prepared, and their faults told, when the study began.
            Event::Data(_)
            | Event::Kernels(..)
            | Event::Checkpoint(_)
            | Event::Sample(_)
            | Event::Sampled(_)
            | Event::Profiled(..) => {}
        }
    }

    fn stop(&mut self) -> bool {
        self.stop.asked()
    }

    fn samples(&self) -> bool {
        false
    }
}

impl StudyWatch for StudyProgress {
    fn begins(&mut self, position: Position<'_>) {
        let Position { run, runs, arm, seed, work_behind } = position;
        self.run = format!("run {run}/{runs}, {arm}, seed {seed}");
        self.work_behind = work_behind;
        self.valid_loss = None;
    }

    fn ended(&mut self, result: &RunResult) {
        self.clear();
        self.note(&match &result.outcome {
            Outcome::Finished(measured) => format!("validation loss {:.4}", measured.validation_loss),
            Outcome::Diverged { reason } => format!("diverged at {reason}"),
        });
    }
}
