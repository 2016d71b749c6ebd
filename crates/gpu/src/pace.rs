//! How long work takes: an estimate from the cards' costs, corrected by what submits were measured to take.
//!
//! Watchdogs (two seconds on Windows, some more on macOS) end a device whose dispatch runs too long, and the estimate
//! must hold before anything was measured: its rates are those of slow devices of a class with untuned kernels.

use evenkeel_schedule::Step;
use evenkeel_shaders::Class;

/// Longest dispatch by the uncorrected estimate, in seconds; a grid that may take longer is split.
const DISPATCH_SECONDS: f64 = 0.05;

/// Work of one submit by the corrected estimate, in seconds: long beside what a submit costs (0.2 ms on lavapipe),
/// short beside a watchdog's patience.
pub(crate) const SUBMIT_SECONDS: f64 = 0.05;

/// The uncorrected estimate for a step.
pub(crate) fn estimate(step: &Step, class: Class) -> f64 {
    let (flops_per_second, bytes_per_second) = match class {
        // No watchdog here, and every dispatch costs 20 to 50 us: a third to a seventh of what lavapipe reaches on 2 cores.
        Class::Software => (16e9, 4e9),
        Class::Integrated => (20e9, 10e9),
        Class::Discrete => (200e9, 50e9),
    };
    step.flops() as f64 / flops_per_second + step.bytes() as f64 / bytes_per_second
}

/// Into how many dispatches a grid is split that takes so long by the uncorrected estimate. Each keeps about as many workgroups
/// as a device of the class runs at the same time (`tile_128` on 132 cores: 264): with fewer it would take as long as with all
/// of them.
pub(crate) fn dispatches(seconds: f64, groups: u32, class: Class) -> u32 {
    let fewest = match class {
        Class::Software => 1,
        Class::Integrated => 64,
        Class::Discrete => 512,
    };
    (seconds / DISPATCH_SECONDS).ceil().clamp(1.0, f64::from((groups / fewest).max(1))) as u32
}

/// Measured time over estimated time, of the last submits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace(f64);

impl Pace {
    pub(crate) fn new() -> Self {
        Self(1.0)
    }

    /// Work by the uncorrected estimate that takes `seconds`.
    pub(crate) fn work(self, seconds: f64) -> f64 {
        seconds / self.0
    }

    /// Seconds that work by the uncorrected estimate takes.
    pub(crate) fn seconds(self, work: f64) -> f64 {
        work * self.0
    }

    /// Corrects by one submit, which took at least `least` and at most `most` seconds: not at all where what was thought
    /// lies between. Slower than thought counts at once, faster counts by a quarter.
    pub(crate) fn learn(&mut self, estimated: f64, least: f64, most: f64) {
        if estimated <= 0.0 || most <= 0.0 {
            return;
        }
        let [least, most] = [least, most].map(|measured| (measured / estimated).clamp(1e-4, 1e4));
        if self.0 < least {
            self.0 = least;
        } else if self.0 > most {
            self.0 = 0.75 * self.0 + 0.25 * most;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 50 ms each, unless that leaves less than what runs at once.
    #[test]
    fn grids_are_split_as_far_as_it_saves_time() {
        for (seconds, groups, class, expected) in [
            (0.04, 10_000, Class::Discrete, 1),
            (0.26, 10_000, Class::Discrete, 6),
            (0.26, 2048, Class::Discrete, 4),
            (0.26, 384, Class::Discrete, 1),
            (0.26, 384, Class::Integrated, 6),
            (0.26, 384, Class::Software, 6),
            (0.26, 3, Class::Software, 3),
            (0.26, 0, Class::Software, 1),
        ] {
            assert_eq!(dispatches(seconds, groups, class), expected, "{seconds} {groups} {class:?}");
        }
    }

    #[test]
    fn slowness_is_believed_at_once_and_speed_slowly() {
        let mut pace = Pace::new();
        pace.learn(1.0, 8.0, 8.0);
        assert_eq!(pace.work(4.0), 0.5);
        assert_eq!(pace.seconds(0.5), 4.0);
        pace.learn(1.0, 4.0, 4.0);
        assert_eq!(pace.work(7.0), 1.0);
        pace.learn(0.0, 4.0, 4.0);
        pace.learn(1.0, 0.0, 0.0);
        assert_eq!(pace.work(7.0), 1.0);
    }

    /// A look once a frame does not make a device slow whose submits end between two of them.
    #[test]
    fn what_agrees_with_the_estimate_teaches_nothing() {
        let mut pace = Pace::new();
        pace.learn(0.004, 0.0, 0.016);
        assert_eq!(pace.work(1.0), 1.0);
        pace.learn(0.004, 0.008, 0.024);
        assert_eq!(pace.work(1.0), 0.5);
        pace.learn(0.004, 0.0, 0.004);
        assert_eq!(pace.work(7.0), 4.0);
    }
}
