//! An axis: the interval that it shows, and its ticks.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// Share of the interval that is left free on either side of the data.
const MARGIN: f64 = 0.03;
/// Mantissas of the ticks of a logarithmic axis, from few to many.
const MANTISSAS: [&[f64]; 4] = [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 7.0]];
/// Fewer ticks than these do not tell the scale.
const FEWEST: usize = 3;

/// An interval of finite numbers `low < high`; both above zero on a logarithmic axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// Whether all data are integers: then so are the ticks.
    whole: bool,
}

impl Axis {
    /// The axis of finite numbers, above zero if it is logarithmic.
    pub(crate) fn of(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let (mut low, mut high, mut whole) = (f64::INFINITY, f64::NEG_INFINITY, true);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
            whole &= value.fract() == 0.0;
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        if log {
            let free = if low == high { 2.0 } else { (high / low).powf(MARGIN) };
            let (low, high) = ((low / free).max(f64::MIN_POSITIVE), (high * free).min(f64::MAX));
            return Self { low, high, log, whole: false };
        }
        // Zero belongs to the picture where it is near.
        let starts_at_zero = low >= 0.0 && low < 0.3 * high && !whole;
        let free = match high - low {
            0.0 => 0.1 * high.abs().max(1e-6),
            extent => (MARGIN * extent).min(f64::MAX),
        };
        Self { low: if starts_at_zero { 0.0 } else { low - free }, high: high + free, log, whole }
    }

    /// The low end.
    pub(super) fn low(&self) -> f64 {
        self.low
    }

    /// Both ends.
    pub(crate) fn ends(&self) -> [f64; 2] {
        [self.low, self.high]
    }

    /// Where `value` stands: 0 at the low end, 1 at the high one.
    pub(crate) fn place(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// At most about `most` round numbers within the interval.
    pub(crate) fn ticks(&self, most: usize) -> Vec<f64> {
        if self.log { self.log_ticks(most) } else { self.linear_ticks(most) }
    }

    fn linear_ticks(&self, most: usize) -> Vec<f64> {
        let raw = (self.high - self.low) / most.max(1) as f64;
        let power = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= raw);
        let step = step.unwrap_or(raw).max(if self.whole { 1.0 } else { 0.0 });
        let (first, last) = ((self.low / step).ceil(), (self.high / step).floor());
        // Times the integer, not by addition: errors do not gather, and zero is zero.
        (0..=2 * most).map(|index| first + index as f64).take_while(|&n| n <= last).map(|n| n * step).collect()
    }

    fn log_ticks(&self, most: usize) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let within = |mantissas: &[f64], stride: usize| -> Vec<f64> {
            (first..=last)
                .filter(|power| power.rem_euclid(stride as i32) == 0)
                .flat_map(|power| mantissas.iter().map(move |mantissa| mantissa * 10_f64.powi(power)))
                .filter(|tick| (self.low..=self.high).contains(tick))
                .collect()
        };
        let fitting = MANTISSAS.iter().rev().map(|mantissas| within(mantissas, 1)).find(|ticks| ticks.len() <= most);
        match fitting {
            Some(ticks) if ticks.len() >= FEWEST => ticks,
            // Less than half a decade: equal steps are as good.
            Some(_) => self.linear_ticks(most),
            None => within(MANTISSAS[0], (last - first) as usize / most.max(1) + 1),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (self.place(*value) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No lines between the ticks.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks(hint.max_num_points()) }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        label(*value)
    }
}

/// A number as a tick has it: short, exact to six digits.
pub(crate) fn label(value: f64) -> String {
    let magnitude = value.abs();
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    let text = if value != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        format!("{rounded:e}")
    } else if magnitude >= 1e4 {
        format!("{}k", rounded / 1e3)
    } else {
        rounded.to_string()
    };
    text.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], log: bool, most: usize) -> Vec<String> {
        Axis::of(values.iter().copied(), log).ticks(most).into_iter().map(label).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(labels(&[0.0, 0.5, 6.3], false, 8), ["0", "1", "2", "3", "4", "5", "6"]);
        assert_eq!(labels(&[1.0, 2.0, 3.0, 4.0], false, 8), ["1", "2", "3", "4"]);
        assert_eq!(labels(&[-4.1, 4.1], false, 5), ["\u{2212}4", "\u{2212}2", "0", "2", "4"]);
        assert_eq!(labels(&[1.0, 60_000.0], false, 4), ["0", "20k", "40k", "60k"]);
        assert_eq!(labels(&[0.0, 3e-5], false, 4), ["0", "1e\u{2212}5", "2e\u{2212}5", "3e\u{2212}5"]);
        // Within a decade, over some, over many, and within less than half of one.
        assert_eq!(labels(&[0.004, 0.03], true, 8), ["0.004", "0.005", "0.007", "0.01", "0.02", "0.03"]);
        assert_eq!(labels(&[1.0, 3000.0], true, 8), ["1", "3", "10", "30", "100", "300", "1000", "3000"]);
        assert_eq!(labels(&[1e-30, 1.0], true, 4).len(), 4);
        assert_eq!(labels(&[0.02, 0.0204], true, 5), ["0.02", "0.0201", "0.0202", "0.0203", "0.0204"]);
    }

    #[test]
    fn any_numbers_make_an_axis() {
        let cases: [&[f64]; 7] =
            [&[], &[0.0], &[-3.0], &[5e-324], &[f64::MIN, f64::MAX], &[1.0, 1.0 + f64::EPSILON], &[1e300, 1e301]];
        for values in cases {
            for log in [false, true] {
                let values = values.iter().copied().filter(|&value| !log || value > 0.0);
                assert!(Axis::of(values, log).ticks(6).len() <= 13);
            }
        }
    }

    #[test]
    fn places_are_shares_of_the_interval() {
        let axis = Axis::of([1.0, 100.0].into_iter(), true);
        assert!((axis.place(10.0) - 0.5).abs() < 1e-12);
        assert!(axis.place(1.0) > 0.0 && axis.place(100.0) < 1.0);
        let axis = Axis::of([-1.0, 3.5].into_iter(), false);
        assert!((axis.place(1.25) - 0.5).abs() < 1e-12);
    }
}
