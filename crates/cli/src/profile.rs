//! `evenkeel pretrain --profile`: which steps, and the tables.

use std::path::{Path, PathBuf};

use evenkeel_schedule::Schedule;
use evenkeel_train::profile::{Profile, Share};

use crate::output::{self, count};

/// Steps of this process that are profiled: not the first, in which drivers still compile.
const STEPS: std::ops::RangeInclusive<u64> = 2..=4;

/// A run's profile while it grows.
#[derive(Default)]
pub(crate) struct Profiling {
    asked: u64,
    tables: String,
    trace: PathBuf,
}

impl Profiling {
    /// Whether to profile the next step.
    pub(crate) fn next(&mut self) -> bool {
        self.asked += 1;
        STEPS.contains(&self.asked)
    }

    /// Keeps what is known so far.
    pub(crate) fn update(&mut self, schedule: &Schedule, profile: &Profile, trace: &Path) {
        self.tables = tables(schedule, profile);
        self.trace = trace.to_owned();
    }

    /// Prints the tables, to stdout.
    pub(crate) fn print(&self) {
        if self.tables.is_empty() {
            return output::note("profile: expected at least two steps, got fewer");
        }
        output::bytes(self.tables.as_bytes());
        output::note(&format!("trace {} (open it in ui.perfetto.dev)", self.trace.display()));
    }
}

fn tables(schedule: &Schedule, profile: &Profile) -> String {
    let [step, upload, kernels, gaps] = profile.totals();
    let mut text = table("kernel", &profile.by_kernel(schedule), kernels);
    text += &table("scope", &profile.by_scope(schedule), kernels);
    let line = |name: &str, seconds: f64| format!("{name:<28}{:>18.3}{:>8.1}\n", seconds * 1e3, 100.0 * seconds / step);
    text += &format!("{:<28}{:>18}{:>8}\n", "a step", "ms", "%");
    text += &line("kernels", kernels);
    text += &line("gaps between kernels", gaps);
    text += &line("batch, made and written", upload);
    text += &line("all of it, as profiled", step);
    if let Some([batch, record, submit]) = profile.host() {
        let both = |name: &str, seconds: f64| format!("{name:<28}{:>18.3}\n", seconds * 1e3);
        text += &format!("\n{:<28}{:>18}\n", "host, without a profile", "ms");
        text += &both("batch, made and written", batch);
        text += &both("kernels recorded", record);
        text += &both("inside of submits", submit);
    }
    text
}

fn table(head: &str, shares: &[(String, Share)], all: f64) -> String {
    let mut text = format!("{head:<28}{:>8}{:>10}{:>8}{:>12}{:>14}\n", "count", "ms", "%", "GB/s", "FLOP/s");
    for (name, share) in shares {
        text += &format!(
            "{name:<28}{:>8.0}{:>10.3}{:>8.1}{:>12.2}{:>14}\n",
            share.count,
            share.seconds * 1e3,
            100.0 * share.seconds / all,
            share.bytes / share.seconds / 1e9,
            count(share.flops / share.seconds),
        );
    }
    text.push('\n');
    text
}
