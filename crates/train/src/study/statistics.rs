//! Means, deviations, and the bootstrap over seeds and windows.
//!
//! The bootstrap is the Multi-Bootstrap of the MultiBERTs (Sellam et al., 2022): seeds and windows are resampled
//! together, each with replacement, and a pair of runs keeps its seed. Both arms take the same draws, so that resampling
//! their differences is resampling them.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Resamples of a bootstrap.
pub const RESAMPLES: usize = 10_000;
/// Share of the resamples that an interval covers.
pub const CONFIDENCE: f64 = 0.95;
/// Seed of the resamples.
const SEED: u64 = 0;

/// The arithmetic mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation with N - 1; none of fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let centre = mean(values);
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// The quantile `p` of `sorted`, linear between the order statistics at (n - 1) p (Hyndman and Fan's type 7); NaN of
/// nothing.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = p * last as f64;
    let below = at.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    low + (at - below as f64) * (high - low)
}

/// The percentile interval ([`CONFIDENCE`]) of the mean of `differences`, which has a row of windows per seed, all rows
/// of one length; NaN of nothing. With one seed, windows alone are resampled in effect.
pub fn bootstrap(differences: &[Vec<f64>]) -> [f64; 2] {
    let seeds = differences.len();
    let windows = differences.iter().map(Vec::len).min().unwrap_or(0);
    if windows == 0 {
        return [f64::NAN; 2];
    }
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    // The high word of the product: uniform but for a bias of n / 2^64.
    let mut below = |n: usize| ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize;
    let mut drawn = vec![0; windows];
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            drawn.fill_with(|| below(windows));
            let rows = (0..seeds).map(|_| &differences[below(seeds)]);
            let total: f64 = rows.map(|row| drawn.iter().map(|&window| row[window]).sum::<f64>()).sum();
            total / (seeds * windows) as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    [quantile(&means, tail), quantile(&means, 1.0 - tail)]
}

#[cfg(test)]
mod tests;
