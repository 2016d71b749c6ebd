//! Curves over steps: smoothed, and kept within bounded memory.

/// x and y, by ascending x.
pub(crate) type Points = Vec<(f64, f64)>;

/// The smoothed value of a point is the mean of the `points / WINDOW_SHARE` points around it.
const WINDOW_SHARE: usize = 50;

/// Points around each that its smoothed value is the mean of; 1 where smoothing changes nothing.
pub(crate) fn window(points: usize) -> usize {
    (points / WINDOW_SHARE).max(1)
}

/// The mean of the `window` points around each, or of as many as there are. A mean of the points before it would lag.
pub(crate) fn running_mean(points: &[(f64, f64)], window: usize) -> Points {
    let mean = |index: usize| {
        let begin = index.saturating_sub(window / 2);
        let part = &points[begin..(index + window.div_ceil(2)).min(points.len())];
        part.iter().map(|(_, y)| y).sum::<f64>() / part.len() as f64
    };
    points.iter().enumerate().map(|(index, &(x, _))| (x, mean(index))).collect()
}

/// A curve that grows without end in bounded memory: each of at most [`Curve::MOST`] stretches of equal length stands
/// for its points.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    stretches: Vec<Stretch>,
    /// Points of a full stretch.
    length: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    points: u64,
    x_sum: f64,
    y_sum: f64,
    low: f64,
    high: f64,
}

impl Stretch {
    fn with(self, other: Self) -> Self {
        Self {
            points: self.points + other.points,
            x_sum: self.x_sum + other.x_sum,
            y_sum: self.y_sum + other.y_sum,
            low: self.low.min(other.low),
            high: self.high.max(other.high),
        }
    }

    fn x(self) -> f64 {
        self.x_sum / self.points as f64
    }
}

impl Default for Curve {
    fn default() -> Self {
        Self { stretches: Vec::new(), length: 1 }
    }
}

impl Curve {
    /// Most stretches; even, so that they merge in pairs.
    const MOST: usize = 2048;

    /// Adds a point to the right of all others; one that is not finite is left out.
    pub(crate) fn push(&mut self, x: f64, y: f64) {
        if !y.is_finite() {
            return;
        }
        let point = Stretch { points: 1, x_sum: x, y_sum: y, low: y, high: y };
        if let Some(last) = self.stretches.last_mut().filter(|last| last.points < self.length) {
            *last = last.with(point);
            return;
        }
        if self.stretches.len() == Self::MOST {
            self.stretches = self.stretches.chunks(2).map(|pair| pair[0].with(pair[1])).collect();
            self.length *= 2;
        }
        self.stretches.push(point);
    }

    /// Points of a full stretch.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The mean of every stretch.
    pub(crate) fn means(&self) -> Points {
        self.stretches.iter().map(|stretch| (stretch.x(), stretch.y_sum / stretch.points as f64)).collect()
    }

    /// The lowest and the highest point of every stretch.
    pub(crate) fn extremes(&self) -> Points {
        self.stretches.iter().flat_map(|stretch| [(stretch.x(), stretch.low), (stretch.x(), stretch.high)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_stays_small_and_keeps_means_and_extremes() {
        let mut curve = Curve::default();
        // The sum of 16 neighbours is 8 * 15, whatever the first.
        for step in 0..10_000_u32 {
            curve.push(f64::from(step), f64::from(step % 16));
            curve.push(f64::from(step), f64::NAN);
        }
        assert_eq!((curve.length(), curve.stretches.len()), (8, 1250));
        let means = curve.means();
        assert_eq!(means[..2], [(3.5, 3.5), (11.5, 11.5)]);
        assert_eq!(curve.extremes()[..4], [(3.5, 0.0), (3.5, 7.0), (11.5, 8.0), (11.5, 15.0)]);
        assert!((means.iter().map(|(_, y)| y).sum::<f64>() / 1250.0 - 7.5).abs() < 1e-12);
    }

    #[test]
    fn a_running_mean_is_centred() {
        let points: Points = (0..6).map(|x| (f64::from(x), f64::from(x * x))).collect();
        assert_eq!(running_mean(&points, 1), points);
        let means: Vec<f64> = running_mean(&points, 3).into_iter().map(|(_, y)| y).collect();
        let expected = [0.5, 5.0 / 3.0, 14.0 / 3.0, 29.0 / 3.0, 50.0 / 3.0, 20.5];
        assert!(means.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-12), "{means:?}");
    }
}
