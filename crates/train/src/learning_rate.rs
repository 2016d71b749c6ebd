//! The learning rate of every step: linear warm-up, then constant, linear, half a cosine (Loshchilov and Hutter, SGDR,
//! 2016, without restarts), or warm-up, stable, decay (WSD; Hu et al., MiniCPM, arXiv 2404.06395). MiniCPM's decay is
//! exponential; this one is the linear cooldown of a fifth of the steps of Haegele et al. (arXiv 2405.18392).

use std::f64::consts::PI;

use crate::settings::{ScheduleKind, ScheduleSettings};

/// The learning rate of `step`, counted from 1 to `steps`, where `lr` is the peak.
///
/// With `w` warm-up steps it is `lr * step / w` up to step `w`. After it, with `m = min_lr_ratio` and
/// `p = (step - w) / (steps - w)`:
/// - constant: `lr`;
/// - linear: `lr * (m + (1 - m) * (1 - p))`;
/// - cosine: `lr * (m + (1 - m) * (1 + cos(pi * p)) / 2)`;
/// - wsd: `lr` up to step `steps - decay_steps`, then linear with `p = (step - steps + decay_steps) / decay_steps`.
///
/// So every decay ends at `lr * m` with the last step. A warm-up longer than the run never reaches the peak.
pub fn learning_rate(schedule: &ScheduleSettings, lr: f64, steps: u64, step: u64) -> f64 {
    let warmup = schedule.warmup_steps;
    if step <= warmup {
        return lr * step as f64 / warmup.max(1) as f64;
    }
    let start = match schedule.kind {
        ScheduleKind::Constant => return lr,
        ScheduleKind::Linear | ScheduleKind::Cosine => warmup,
        ScheduleKind::Wsd => steps.saturating_sub(schedule.decay_steps).max(warmup),
    };
    if step <= start {
        return lr;
    }
    let progress = ((step - start) as f64 / steps.saturating_sub(start).max(1) as f64).min(1.0);
    let height = match schedule.kind {
        ScheduleKind::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        _ => 1.0 - progress,
    };
    let min = schedule.min_lr_ratio;
    lr * (min + (1.0 - min) * height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, warmup_steps: u64, min_lr_ratio: f64) -> ScheduleSettings {
        ScheduleSettings { kind, warmup_steps, decay_steps: 20, min_lr_ratio }
    }

    /// A handful of f64 operations on values of about 1: a few units of 2.2e-16.
    fn assert_close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-15, "{got} is not {expected}");
    }

    #[test]
    fn cosine_passes_through_the_points_of_its_formula() {
        let schedule = schedule(ScheduleKind::Cosine, 10, 0.1);
        let at = |step| learning_rate(&schedule, 2.0, 110, step);
        assert_close(at(1), 0.2);
        assert_close(at(5), 1.0);
        assert_close(at(10), 2.0);
        // A quarter of the way: (1 + cos(pi / 4)) / 2.
        assert_close(at(35), 2.0 * (0.1 + 0.9 * (0.5 + std::f64::consts::SQRT_2 / 4.0)));
        assert_close(at(60), 2.0 * 0.55);
        assert_close(at(110), 0.2);
        assert!((11..110).all(|step| at(step + 1) < at(step)));
    }

    #[test]
    fn linear_passes_through_the_points_of_its_formula() {
        let schedule = schedule(ScheduleKind::Linear, 10, 0.1);
        let at = |step| learning_rate(&schedule, 2.0, 110, step);
        assert_close(at(5), 1.0);
        assert_close(at(10), 2.0);
        assert_close(at(35), 2.0 * (0.1 + 0.9 * 0.75));
        assert_close(at(60), 2.0 * 0.55);
        assert_close(at(110), 0.2);
    }

    #[test]
    fn wsd_rises_stays_and_falls() {
        let schedule = schedule(ScheduleKind::Wsd, 10, 0.1);
        let at = |step| learning_rate(&schedule, 2.0, 100, step);
        assert_close(at(5), 1.0);
        assert!((10..=80).all(|step| at(step) == 2.0));
        // A quarter of the 20 steps of decay, half, all.
        assert_close(at(85), 2.0 * (0.1 + 0.9 * 0.75));
        assert_close(at(90), 2.0 * 0.55);
        assert_close(at(100), 0.2);
        let flat = ScheduleSettings { decay_steps: 0, ..schedule };
        assert_close(learning_rate(&flat, 2.0, 100, 99), 2.0);
    }

    #[test]
    fn without_warmup_the_decay_starts_at_the_first_step() {
        let schedule = schedule(ScheduleKind::Cosine, 0, 0.0);
        assert_close(learning_rate(&schedule, 1.0, 2, 1), 0.5);
        assert_close(learning_rate(&schedule, 1.0, 2, 2), 0.0);
        assert_close(learning_rate(&schedule, 1.0, 1, 1), 0.0);
    }

    #[test]
    fn a_warmup_of_all_steps_ends_at_the_peak() {
        for &kind in ScheduleKind::ALL {
            let schedule = ScheduleSettings { decay_steps: 0, ..schedule(kind, 8, 0.1) };
            assert_close(learning_rate(&schedule, 0.5, 8, 4), 0.25);
            assert_close(learning_rate(&schedule, 0.5, 8, 8), 0.5);
        }
    }

    #[test]
    fn a_warmup_longer_than_the_run_is_cut_by_its_end() {
        let schedule = schedule(ScheduleKind::Cosine, 20, 0.1);
        assert_close(learning_rate(&schedule, 1.0, 10, 10), 0.5);
    }

    #[test]
    fn constant_holds_the_peak_after_warmup() {
        let schedule = schedule(ScheduleKind::Constant, 4, 0.1);
        let at = |step| learning_rate(&schedule, 3.0, 100, step);
        assert_close(at(1), 0.75);
        assert_close(at(4), 3.0);
        assert_close(at(5), 3.0);
        assert_close(at(100), 3.0);
    }
}
