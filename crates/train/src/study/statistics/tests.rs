#![allow(clippy::unwrap_used)]

use super::*;

/// Standard normal numbers, by the sum of twelve uniform ones less six: close enough in the middle 99 %.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.next_u64() as f64 / u64::MAX as f64).sum::<f64>() - 6.0
}

fn normals(count: usize, std: f64, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| std * normal(&mut rng)).collect()
}

/// Variance with N: that of the distribution that a bootstrap draws from.
fn population_variance(values: &[f64]) -> f64 {
    let centre = mean(values);
    values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / values.len() as f64
}

/// Of a normal distribution the middle 95 % reach 1.95996 deviations to each side, where its density is 0.05845 per
/// deviation. A quantile of 10,000 draws there has the error sqrt(0.025 * 0.975 / 10,000) / 0.05845 = 0.0267 deviations;
/// 5 of them, and 0.03 for means that are not quite normal, are 0.165.
fn assert_normal([low, high]: [f64; 2], centre: f64, deviation: f64) {
    let reach = 1.95996 * deviation;
    for (got, expected) in [(low, centre - reach), (high, centre + reach)] {
        assert!((got - expected).abs() < 0.165 * deviation, "expected {expected} +- 0.165 * {deviation}, got {got}");
    }
}

#[test]
fn quantiles_are_those_of_type_7() {
    // numpy.quantile([1, 2, 4, 8, 16], [0, .025, .25, .4, .975, 1])
    let sorted = [1.0, 2.0, 4.0, 8.0, 16.0];
    for (p, expected) in [(0.0, 1.0), (0.025, 1.1), (0.25, 2.0), (0.4, 3.2), (0.975, 15.2), (1.0, 16.0)] {
        assert!((quantile(&sorted, p) - expected).abs() < 1e-12, "{p}");
    }
    assert_eq!(quantile(&[3.0], 0.7), 3.0);
    assert!(quantile(&[], 0.5).is_nan());
}

#[test]
fn deviations_are_unbiased() {
    assert_eq!(mean(&[2.0, 4.0, 9.0]), 5.0);
    // (9 + 1 + 16) / 2 = 13
    assert_eq!(standard_deviation(&[2.0, 4.0, 9.0]), Some(13f64.sqrt()));
    assert_eq!(standard_deviation(&[2.0]), None);
}

#[test]
fn a_constant_difference_has_an_interval_without_width() {
    assert_eq!(bootstrap(&vec![vec![-0.25; 128]; 3]), [-0.25, -0.25]);
    assert!(bootstrap(&[]).iter().all(|bound| bound.is_nan()));
}

/// The mean of two draws from {0, 1} is 0, 1/2 or 1 with probabilities 1/4, 1/2 and 1/4.
#[test]
fn two_seeds_that_differ_reach_from_one_to_the_other() {
    assert_eq!(bootstrap(&[vec![0.0; 5], vec![1.0; 5]]), [0.0, 1.0]);
    assert_eq!(bootstrap(&[vec![0.0, 1.0]]), [0.0, 1.0]);
    // One of 40 seeds differs: the number of its draws is binomial(40, 1/40), of which at most 3 at 97.5 %.
    let mut rows = vec![vec![0.0; 2]; 40];
    rows[7] = vec![1.0; 2];
    assert_eq!(bootstrap(&rows), [0.0, 3.0 / 40.0]);
}

#[test]
fn windows_alone_give_the_normal_interval() {
    let windows = normals(400, 0.3, 1);
    let deviation = (population_variance(&windows) / 400.0).sqrt();
    assert_normal(bootstrap(std::slice::from_ref(&windows)), mean(&windows), deviation);
}

/// Where differences are an effect of the seed plus one of the window, the two resamplings are independent and their
/// variances add.
#[test]
fn variances_of_seeds_and_windows_add() {
    let (seeds, windows) = (normals(60, 0.2, 2), normals(150, 0.5, 3));
    let rows: Vec<Vec<f64>> = seeds.iter().map(|a| windows.iter().map(|b| a + b).collect()).collect();
    let variance = population_variance(&seeds) / 60.0 + population_variance(&windows) / 150.0;
    assert_normal(bootstrap(&rows), mean(&seeds) + mean(&windows), variance.sqrt());
}
