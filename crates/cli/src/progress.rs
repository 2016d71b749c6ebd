//! A run as a person sees it: a bar on a terminal, a line every few seconds elsewhere.

use std::{
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use evenkeel_data::DataEvent;
use evenkeel_train::{Event, StepRow, Watch};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    data_progress::DataProgress,
    output::{self, count},
    profile::Profiling,
};

/// Seconds between plain lines.
pub(crate) const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
/// Weight of the newest step in the shown rate.
const SMOOTHING: f64 = 0.2;

/// A bar over evaluation windows.
pub(crate) fn windows(all: u64) -> ProgressBar {
    bar(all, "evaluating [{bar:32}] {pos}/{len} windows, {eta} left")
}

pub(crate) fn bar(all: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(all), ProgressDrawTarget::stderr()).with_style(style.progress_chars("=> "))
}

/// A time that a process may train for.
pub(crate) struct Limit {
    pub(crate) start: Instant,
    pub(crate) time: Duration,
}

/// Shows a run.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    data: Option<DataProgress>,
    terminal: bool,
    steps: u64,
    flops_per_step: u64,
    tokens_per_step: f64,
    rate: Option<f64>,
    last_line: Option<Instant>,
    sampling: bool,
    stop: Arc<AtomicBool>,
    limit: Option<Limit>,
    profiling: Option<Profiling>,
}

impl Progress {
    /// Shows a run until `stop` is set or the limit is over, and its profile at the end.
    pub(crate) fn new(stop: Arc<AtomicBool>, limit: Option<Limit>, profile: bool) -> Self {
        Self {
            bar: None,
            data: None,
            terminal: std::io::stderr().is_terminal(),
            steps: 0,
            flops_per_step: 0,
            tokens_per_step: 0.0,
            rate: None,
            last_line: None,
            sampling: false,
            stop,
            limit,
            profiling: profile.then(Profiling::default),
        }
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    fn step(&mut self, row: &StepRow) {
        let rate = self.rate.map_or(row.tokens_per_s, |old| old + SMOOTHING * (row.tokens_per_s - old));
        self.rate = Some(rate);
        self.tokens_per_step = row.tokens as f64 / row.step as f64;
        let steps_per_s = rate / self.tokens_per_step;
        let left = Duration::from_secs_f64(((self.steps - row.step) as f64 / steps_per_s).min(1e9));
        let status = format!(
            "loss {:.4}  {} tokens/s  {}FLOP/s  {} left",
            row.loss,
            count(rate),
            count(self.flops_per_step as f64 * steps_per_s),
            indicatif::HumanDuration(left),
        );
        if let Some(bar) = &self.bar {
            bar.set_position(row.step);
            bar.set_message(status);
            return;
        }
        let due = self.last_line.is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL);
        if due || row.step == self.steps {
            self.last_line = Some(Instant::now());
            output::note(&format!("step {}/{}  {status}", row.step, self.steps));
        }
    }

    fn data(&mut self, event: DataEvent<'_>) {
        self.data.get_or_insert_with(DataProgress::default).event(event);
    }

    fn kernels(&mut self, done: usize, all: usize) {
        self.data = None;
        if self.terminal {
            let bar = self.bar.get_or_insert_with(|| bar(all as u64, "compiling [{bar:32}] {pos}/{len} kernels"));
            bar.set_position(done as u64);
            return;
        }
        let last = *self.last_line.get_or_insert_with(Instant::now);
        if last.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Some(Instant::now());
            output::note(&format!("compiled {done} of {all} kernels"));
        }
    }

    /// Ends the display.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if std::mem::take(&mut self.sampling) {
            output::line("");
        }
    }

    /// Ends it, with the tables of a profile if there is one.
    pub(crate) fn end(mut self) {
        self.finish();
        if let Some(profiling) = &self.profiling {
            profiling.print();
        }
    }
}

impl Watch for Progress {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Notice(text) => self.note(text),
            Event::Kernels(done, all) => self.kernels(done, all),
            Event::Started { folder, done, steps, flops_per_step } => {
                self.finish();
                self.last_line = None;
                (self.steps, self.flops_per_step) = (steps, flops_per_step);
                output::note(&format!("run folder {}", folder.display()));
                if done > 0 {
                    output::note(&format!("going on after step {done} of {steps}"));
                }
                self.bar = self.terminal.then(|| bar(steps, "[{bar:24}] {pos}/{len}  {msg}"));
            }
            Event::Step(row) => self.step(row),
            Event::Evaluated(row) => {
                let bpb = row.valid_bpb.map(|bpb| format!(", {bpb:.4} bits per byte")).unwrap_or_default();
                self.note(&format!("step {}  validation loss {:.4}{bpb}", row.step, row.valid_loss));
            }
            Event::Checkpoint(path) => self.note(&format!("checkpoint {}", path.display())),
            Event::Data(event) => self.data(event),
            Event::Sample(text) => {
                if !self.sampling {
                    self.finish();
                    self.sampling = true;
                    output::note("a sample:");
                }
                output::bytes(text.as_bytes());
            }
            Event::Profiled(schedule, profile, trace) => {
                if let Some(profiling) = &mut self.profiling {
                    profiling.update(schedule, profile, trace);
                }
            }
        }
    }

    fn profiles(&mut self, _: u64) -> bool {
        self.profiling.as_mut().is_some_and(Profiling::next)
    }

    fn stop(&mut self) -> bool {
        let over = self.limit.as_ref().is_some_and(|limit| limit.start.elapsed() >= limit.time);
        over || self.stop.load(Ordering::Relaxed)
    }
}
