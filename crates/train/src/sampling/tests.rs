#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use super::*;

/// Logits of these probabilities.
fn logits(probabilities: &[f64]) -> Vec<f64> {
    probabilities.iter().map(|p| p.ln()).collect()
}

fn kept(probabilities: &[f64], sampling: Sampling) -> Vec<u32> {
    let mut ids: Vec<u32> = shares(&logits(probabilities), &sampling).into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids
}

const SKEWED: [f64; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

#[test]
fn top_k_keeps_the_k_likeliest_and_what_ties_with_the_last() {
    let top = |top_k| kept(&SKEWED, Sampling { top_k, ..Sampling::default() });
    assert_eq!(top(1), [1]);
    assert_eq!(top(3), [1, 3, 4]);
    assert_eq!(top(0), [0, 1, 2, 3, 4]);
    assert_eq!(top(5), [0, 1, 2, 3, 4]);
    assert_eq!(top(9), [0, 1, 2, 3, 4]);
    assert_eq!(kept(&[0.25, 0.25, 0.4, 0.1], Sampling { top_k: 2, ..Sampling::default() }), [0, 1, 2]);
}

#[test]
fn top_p_keeps_the_likeliest_up_to_the_one_that_reaches_p() {
    let top = |top_p| kept(&SKEWED, Sampling { top_p, ..Sampling::default() });
    // In order: 0.4, 0.65, 0.85, 0.95, 1.
    assert_eq!(top(0.01), [1]);
    assert_eq!(top(0.39), [1]);
    assert_eq!(top(0.41), [1, 3]);
    assert_eq!(top(0.64), [1, 3]);
    assert_eq!(top(0.66), [1, 3, 4]);
    assert_eq!(top(0.96), [0, 1, 2, 3, 4]);
    assert_eq!(top(1.0), [0, 1, 2, 3, 4]);
    // The one that reaches it exactly is the last, as in transformers.
    assert_eq!(kept(&[1.0; 4], Sampling { top_p: 0.5, ..Sampling::default() }), [0, 1]);
}

/// A token has the numbers from where the tokens before it end, up to where it ends itself.
#[test]
fn tokens_share_the_numbers_out() {
    let shares = [(5, 1.0), (6, 2.0), (7, 1.0)];
    let drawn = [0.0, 0.24, 0.25, 0.5, 0.74, 0.75, 1.0 - f64::EPSILON].map(|uniform| draw(&shares, uniform));
    assert_eq!(drawn, [5, 5, 6, 6, 6, 7, 7]);
}

#[test]
fn min_p_is_a_share_of_the_likeliest() {
    let least = |min_p| kept(&SKEWED, Sampling { min_p, ..Sampling::default() });
    assert_eq!(least(0.0), [0, 1, 2, 3, 4]);
    assert_eq!(least(0.12), [0, 1, 2, 3, 4]);
    assert_eq!(least(0.13), [0, 1, 3, 4]);
    assert_eq!(least(0.51), [1, 3]);
    assert_eq!(least(1.0), [1]);
}

/// Temperature comes before the others: at 2 the probabilities go as their roots.
#[test]
fn temperature_comes_first() {
    // Roots: 0.316, 0.632, 0.224, 0.5, 0.447; sum 2.119; shares in order 0.298, 0.534, 0.745, 0.894, 1.
    let at_two = |more| kept(&SKEWED, Sampling { temperature: 2.0, ..more });
    assert_eq!(at_two(Sampling { top_p: 0.53, ..Sampling::default() }), [1, 3]);
    assert_eq!(at_two(Sampling { top_p: 0.54, ..Sampling::default() }), [1, 3, 4]);
    assert_eq!(at_two(Sampling { min_p: 0.36, ..Sampling::default() }), [0, 1, 3, 4]);
    // Top-k before top-p: of the three left 0.632, 0.5 and 0.447 the first two have 0.717.
    assert_eq!(at_two(Sampling { top_k: 3, top_p: 0.71, ..Sampling::default() }), [1, 3]);
    assert_eq!(at_two(Sampling { top_k: 3, top_p: 0.72, ..Sampling::default() }), [1, 3, 4]);
}

/// Divided by it, logits are infinite.
#[test]
fn the_lowest_temperature_takes_the_likeliest() {
    for temperature in [1e-300, 5e-324] {
        assert_eq!(kept(&SKEWED, Sampling { temperature, min_p: 0.5, ..Sampling::default() }), [1]);
        let mut sampler = Sampler::new(Sampling { temperature, ..Sampling::default() }, &[]);
        assert_eq!(sampler.next(&[-3.0, 7.5, 7.0, -9.0]).unwrap(), 1);
    }
}

#[test]
fn the_penalty_lowers_what_was_there_whatever_its_sign() {
    let sampling = Sampling { temperature: 0.0, repetition_penalty: 2.0, ..Sampling::default() };
    // 3 / 2 < 2, and the prompt's 0 becomes -0.2.
    let mut sampler = Sampler::new(sampling, &[1, 0]);
    assert_eq!(sampler.next(&[-0.1, 3.0, 2.0, -0.15]).unwrap(), 2);
    // Now 2 is there too: 1.5 beats 1.
    assert_eq!(sampler.next(&[-0.1, 3.0, 2.0, -0.15]).unwrap(), 1);
    // -0.1 * 2 < -0.15.
    assert_eq!(sampler.next(&[-0.1, -3.0, -2.0, -0.15]).unwrap(), 3);
}

/// What transformers' processors leave of random logits, one by one and together; they computed in f64 as well.
#[test]
fn shares_are_those_of_transformers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/golden/generation.json");
    let fixture: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let rows = fixture["processors"].as_array().unwrap();
    assert_eq!(rows.len(), 8);
    for row in rows {
        let set = |key: &str, default: f64| row["settings"].get(key).map_or(default, |value| value.as_f64().unwrap());
        let numbers = |key: &str| -> Vec<f64> { serde_json::from_value(row[key].clone()).unwrap() };
        let sampling = Sampling {
            temperature: set("temperature", 1.0),
            top_k: set("top_k", 0.0) as usize,
            top_p: set("top_p", 1.0),
            min_p: set("min_p", 0.0),
            repetition_penalty: set("repetition_penalty", 1.0),
            seed: 0,
        };
        let prompt: Vec<u32> = numbers("prompt").into_iter().map(|id| id as u32).collect();
        let logits: Vec<f32> = numbers("logits").into_iter().map(|logit| logit as f32).collect();
        let kept = shares(&Sampler::new(sampling, &prompt).penalised(&logits).unwrap(), &sampling);
        let all: f64 = kept.iter().map(|(_, share)| share).sum();
        let mut got = vec![0.0; logits.len()];
        kept.iter().for_each(|(id, share)| got[*id as usize] = share / all);
        for (id, (got, expected)) in got.iter().zip(numbers("probabilities")).enumerate() {
            assert!((got - expected).abs() < 1e-12, "{}, token {id}: expected {expected}, got {got}", row["settings"]);
        }
    }
}

#[test]
fn of_equal_logits_the_first_is_the_likeliest() {
    let mut sampler = Sampler::new(Sampling { temperature: 0.0, ..Sampling::default() }, &[0]);
    assert_eq!(sampler.next(&[1.0, 5.0, 5.0, 2.0]).unwrap(), 1);
}

#[test]
fn logits_that_are_not_finite_are_an_error() {
    let mut sampler = Sampler::new(Sampling::default(), &[0]);
    assert!(sampler.next(&[0.0, f32::NAN]).is_err());
    assert!(sampler.next(&[0.0, f32::INFINITY]).is_err());
}

/// Of 40,000 draws each token's count is binomial; five standard deviations are missed once in a million times, and the
/// seed is fixed.
#[test]
fn tokens_come_as_often_as_their_probabilities_say() {
    let logits: Vec<f32> = logits(&SKEWED).into_iter().map(|logit| logit as f32 + 3.0).collect();
    for (temperature, top_k, expected) in [
        (1.0, 0, SKEWED),
        (1.0, 3, [0.0, 0.4 / 0.85, 0.0, 0.25 / 0.85, 0.2 / 0.85]),
        // Squares: 0.01, 0.16, 0.0025, 0.0625, 0.04; sum 0.275.
        (0.5, 0, [0.01, 0.16, 0.0025, 0.0625, 0.04].map(|square| square / 0.275)),
    ] {
        let mut sampler = Sampler::new(Sampling { temperature, top_k, seed: 7, ..Sampling::default() }, &[4, 2]);
        let draws = 40_000;
        let mut counts = [0.0; 5];
        for _ in 0..draws {
            counts[sampler.next(&logits).unwrap() as usize] += 1.0;
        }
        for (count, p) in counts.iter().zip(expected) {
            let (mean, deviation) = (f64::from(draws) * p, (f64::from(draws) * p * (1.0 - p)).sqrt());
            assert!((count - mean).abs() <= 5.0 * deviation, "{counts:?}: expected {mean} within 5 * {deviation}");
        }
    }
}

#[test]
fn seed_and_prompt_decide_what_is_drawn() {
    let logits = [0.0_f32; 64];
    let drawn = |seed, prompt: &[u32]| -> Vec<u32> {
        let mut sampler = Sampler::new(Sampling { seed, ..Sampling::default() }, prompt);
        (0..20).map(|_| sampler.next(&logits).unwrap()).collect()
    };
    assert_eq!(drawn(1, &[3, 4]), drawn(1, &[3, 4]));
    assert_ne!(drawn(1, &[3, 4]), drawn(2, &[3, 4]));
    assert_ne!(drawn(1, &[3, 4]), drawn(1, &[4, 3]));
}
