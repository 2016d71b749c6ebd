//! Reading and preparing data as a person sees it: a bar on a terminal, a line every few seconds elsewhere.

use std::{io::IsTerminal, ops::ControlFlow, time::Instant};

use evenkeel_data::DataEvent;
use indicatif::ProgressBar;

use crate::{
    output::{self, size},
    progress::{PLAIN_INTERVAL, bar},
};

/// Shows what happens to data.
pub(crate) struct DataProgress {
    bar: Option<(String, ProgressBar)>,
    terminal: bool,
    last_line: Instant,
}

impl Default for DataProgress {
    fn default() -> Self {
        Self { bar: None, terminal: std::io::stderr().is_terminal(), last_line: Instant::now() }
    }
}

impl DataProgress {
    pub(crate) fn event(&mut self, event: DataEvent<'_>) {
        match event {
            DataEvent::Notice(text) => match &self.bar {
                Some((_, bar)) => bar.suspend(|| output::note(text)),
                None => output::note(text),
            },
            DataEvent::Progress { action, done, of } if self.terminal => {
                if self.bar.as_ref().is_none_or(|(shown, _)| shown != action) {
                    self.finish();
                    let template = "{msg} [{bar:24}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
                    self.bar = Some((action.to_owned(), bar(of, template).with_message(action.to_owned())));
                }
                if let Some((_, bar)) = &self.bar {
                    bar.set_position(done);
                }
            }
            DataEvent::Progress { action, done, of } => {
                if self.last_line.elapsed() >= PLAIN_INTERVAL {
                    self.last_line = Instant::now();
                    output::note(&format!("{action}: {} of {}", size(done), size(of)));
                }
            }
        }
    }

    /// Shows events, and lets everything go on.
    pub(crate) fn watch(&mut self) -> impl FnMut(DataEvent<'_>) -> ControlFlow<()> {
        |event| {
            self.event(event);
            ControlFlow::Continue(())
        }
    }

    fn finish(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for DataProgress {
    fn drop(&mut self) {
        self.finish();
    }
}
