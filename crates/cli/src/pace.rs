//! How fast a run goes, and when it ends.

use std::time::Duration;

use evenkeel_train::StepRow;

/// Weight of the newest step in the shown rate.
const SMOOTHING: f64 = 0.2;

/// What is known after some steps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    steps: u64,
    flops_per_step: u64,
    /// None before the first step.
    tokens_per_s: Option<f64>,
    steps_per_s: f64,
    done: u64,
}

impl Pace {
    pub(crate) fn new(steps: u64, flops_per_step: u64) -> Self {
        Self { steps, flops_per_step, ..Self::default() }
    }

    /// Learns of a step.
    pub(crate) fn step(&mut self, row: &StepRow) {
        let rate = self.tokens_per_s.map_or(row.tokens_per_s, |old| old + SMOOTHING * (row.tokens_per_s - old));
        let tokens_per_step = row.tokens as f64 / row.step as f64;
        self.tokens_per_s = Some(rate);
        self.steps_per_s = rate / tokens_per_step;
        self.done = row.step;
    }

    /// Tokens trained on in a second.
    pub(crate) fn tokens_per_s(&self) -> Option<f64> {
        self.tokens_per_s
    }

    /// Floating-point operations in a second.
    pub(crate) fn flop_per_s(&self) -> f64 {
        self.flops_per_step as f64 * self.steps_per_s
    }

    /// Time that the rest of the steps takes.
    pub(crate) fn left(&self) -> Duration {
        let seconds = self.steps.saturating_sub(self.done) as f64 / self.steps_per_s;
        Duration::from_secs_f64(if seconds.is_finite() { seconds.min(1e9) } else { 0.0 })
    }
}
