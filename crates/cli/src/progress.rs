//! A run as a person sees it: a live view on a terminal, a line every few seconds elsewhere.

use std::{
    io::IsTerminal,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel_data::DataEvent;
use evenkeel_train::{Event, Plan, StepRow, Watch, inspection::run::RunRecord};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    data_progress::DataProgress,
    output::{self, count},
    pace::Pace,
    profile::Profiling,
    signals::Stop,
    view::{self, State, View},
};

/// Seconds between plain lines.
pub(crate) const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

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

/// What the live view says of a run that its events do not tell.
pub(crate) struct Live {
    /// Model and device.
    pub(crate) title: String,
    /// Steps from one measured step to the next.
    pub(crate) interval: u64,
}

/// Shows a run.
pub(crate) struct Progress {
    compiling: Option<ProgressBar>,
    data: Option<DataProgress>,
    live: Option<Live>,
    view: Option<View>,
    steps: u64,
    pace: Pace,
    last_line: Option<Instant>,
    sampling: bool,
    stop: Arc<Stop>,
    limit: Option<Limit>,
    profiling: Option<Profiling>,
}

impl Progress {
    /// Shows a run until it is to stop or the limit is over, and its profile at the end; with `live` in a view.
    pub(crate) fn new(stop: Arc<Stop>, limit: Option<Limit>, profile: bool, live: Option<Live>) -> Self {
        Self {
            compiling: None,
            data: None,
            live,
            view: None,
            steps: 0,
            pace: Pace::default(),
            last_line: None,
            sampling: false,
            stop,
            limit,
            profiling: profile.then(Profiling::default),
        }
    }

    fn note(&self, text: &str) {
        match &self.compiling {
            Some(bar) => bar.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    fn data(&mut self, event: DataEvent<'_>) {
        self.data.get_or_insert_with(DataProgress::default).event(event);
    }

    fn kernels(&mut self, done: usize, all: usize) {
        self.data = None;
        if std::io::stderr().is_terminal() {
            let new = || bar(all as u64, "compiling [{bar:32}] {pos}/{len} kernels");
            self.compiling.get_or_insert_with(new).set_position(done as u64);
            return;
        }
        let last = *self.last_line.get_or_insert_with(Instant::now);
        if last.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Some(Instant::now());
            output::note(&format!("compiled {done} of {all} kernels"));
        }
    }

    fn started(&mut self, folder: &Path, done: u64, steps: u64, plan: &Plan) {
        self.finish();
        self.last_line = None;
        (self.steps, self.pace) = (steps, Pace::new(steps, plan.flops_per_step));
        output::note(&format!("run folder {}", folder.display()));
        if done > 0 && done <= steps {
            output::note(&format!("going on after step {done} of {steps}"));
        }
        // A terminal that refuses gets lines.
        self.view = self.live.take().filter(|_| done < steps).and_then(|live| {
            let mut state = State::new(folder, live, steps, plan);
            if let Ok(run) = RunRecord::read(folder) {
                state.earlier(&run);
            }
            View::open(state, Arc::clone(&self.stop)).ok()
        });
    }

    fn step(&mut self, row: &StepRow) {
        self.pace.step(row);
        if let Some(view) = self.view.take_if(|_| !view::is_open()) {
            view.end();
        }
        if let Some(view) = &self.view {
            return view.update(|state| state.step(row, self.pace));
        }
        let due = self.last_line.is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL);
        if due || row.step == self.steps {
            self.last_line = Some(Instant::now());
            output::note(&format!(
                "step {}/{}  loss {:.4}  {} tokens/s  {}FLOP/s  {} left",
                row.step,
                self.steps,
                row.loss,
                count(self.pace.tokens_per_s().unwrap_or_default()),
                count(self.pace.flop_per_s()),
                indicatif::HumanDuration(self.pace.left()),
            ));
        }
    }

    /// Ends the display.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.compiling.take() {
            bar.finish_and_clear();
        }
        if let Some(view) = self.view.take() {
            view.end();
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
            Event::Started { folder, done, steps, plan } => self.started(folder, done, steps, plan),
            Event::Step(row) => self.step(row),
            Event::Evaluated(row) => {
                if let Some(view) = &self.view {
                    view.update(|state| state.evaluation(row));
                }
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
            // The last one was shown as it came.
            Event::Sampled(_) if self.sampling => {}
            Event::Sampled(sample) => {
                let words = sample.text.split_whitespace().collect::<Vec<_>>().join(" ");
                self.note(&format!("step {}  it writes: {words}", sample.step));
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
        over || self.stop.asked()
    }
}
